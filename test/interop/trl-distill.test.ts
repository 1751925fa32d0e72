/**
 * TRL's GKDTrainer beside webrlhf's distillation: its loss and gradient on the same logits, and the trainer itself for some steps from
 * one student and one teacher on the same responses: every step's numbers, and the weights. Needs a Python with torch, transformers
 * and trl: python3 on the PATH, or the one that WEBRLHF_PYTHON names. Skipped, with the reason, where there is none.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { backward, diskFiles, scope, sum, tensor, tokenDivergence } from "webrlhf";
import { loadCausalLM, type TextTokenizer } from "webrlhf/nn";
import { type Response, type Sampler, trainDistill } from "webrlhf/rlhf";
import { normal, uint32 } from "../../src/runtime/rng.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { distance, recordParity, savedWeights, splitName, weightsOf } from "./parity.ts";
import { askPython } from "./python.ts";
import { deviations, linear, withoutTrl as reason, type Steps, VOCAB, words, writeModel } from "./trl.ts";

const MINUTES = 60_000;

const folder = mkdtempSync(join(tmpdir(), "webrlhf-distill-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeAll(gpuReady);

function ask<T>(mode: string, request: object): T {
  const path = join(folder, "request.json");
  writeFileSync(path, JSON.stringify(request));
  return askPython("check_trl_distill.py", [mode, path]);
}

const STEPS = 16;
const PROMPTS = 12;
const prompts = Array.from({ length: PROMPTS }, (_, i) => ({
  text: `${i}`,
  ids: Uint32Array.from(words(1 + (uint32(7, i) % 6), i, 1)),
}));

interface Run {
  name: string;
  own: { beta: number; perDeviceTrainBatchSize: number; gradientAccumulationSteps: number };
}
const run = (name: string, beta: number, batch = 4, accumulation = 1): Run => ({
  name: `Distillation, ${name}`,
  own: { beta, perDeviceTrainBatchSize: batch, gradientAccumulationSteps: accumulation },
});
const all = [
  run("reverse KL", 1),
  run("forward KL, passes of 3, accumulation 2", 0, 3, 2),
  run("generalised JSD 0.3", 0.3),
  run("generalised JSD 0.5, passes of 2, accumulation 3", 0.5, 2, 3),
];
const { ours, theirs } = linear(3);
const common = { ...ours, maxSteps: STEPS, responseLength: 10, dialect: "gkd", lmbda: 1 } as const;

describe.skipIf(reason !== "")(`TRL${reason ? ` (skipped: ${reason})` : ""}`, () => {
  it("has the same divergences and gradients", { timeout: 3 * MINUTES }, async () => {
    const [rows, vocab] = [6, 20];
    const draw = (seed: number) =>
      Array.from({ length: rows }, (_, r) => Array.from({ length: vocab }, (_, i) => 2 * normal(seed, r, i)));
    const [student, teacher] = [draw(1), draw(2)];
    const cases = [0, 0.1, 0.5, 0.9, 1].flatMap((beta) => [1, 0.7].map((temperature) => ({ beta, temperature })));
    const found = ask<{ loss: number; gradient: number[] }[]>("losses", { student, teacher, cases });
    const identity = Float32Array.from({ length: vocab * vocab }, (_, i) => Number(i % (vocab + 1) === 0));
    for (const [i, { beta, temperature }] of cases.entries()) {
      const [loss, gradient] = scope(() => {
        const hidden = tensor(student.flat(), [rows, vocab]);
        hidden.requiresGrad = true;
        const grad = tensor(new Float32Array(rows * vocab), [rows, vocab]);
        hidden.grad = grad;
        const head = tensor(identity, [vocab, vocab]);
        const other = { hidden: tensor(teacher.flat(), [rows, vocab]), head };
        const loss = sum(tokenDivergence({ hidden, head }, other, { beta, temperature }).divergence);
        backward(loss);
        return [loss, grad];
      });
      expectClose(await loss.read(), [found[i].loss], 2e-6, 0, `beta ${beta}`);
      expectClose(await gradient.read(), found[i].gradient, 5e-6, 1e-6, `beta ${beta}`);
    }
  });

  describe(`side by side for ${STEPS} steps`, () => {
    let folders: { student: string; teacher: string };
    let made: { steps: Steps; weights: Map<string, Float32Array>; responses: Response[][] }[];
    let answer: { version: string; runs: Steps[] };
    beforeAll(async () => {
      const files = await diskFiles();
      folders = {
        student: await writeModel(join(folder, "student")),
        // Of another width and depth: all that they share are the ids.
        teacher: await writeModel(join(folder, "teacher"), { seed: 9, shape: { hiddenSize: 48, layers: 3 } }),
      };
      made = [];
      for (const { own } of all) {
        const [policy, teacher] = [
          await loadCausalLM(files, folders.student),
          await loadCausalLM(files, folders.teacher),
        ];
        const responses: Response[][] = [];
        const sampler: Sampler = async (asked, promptIds, { iteration }) => {
          const drawn = asked.map(({ ids, text }, i): Response => {
            const said = [...words(1 + (uint32(8, iteration, i) % 9), iteration, i, promptIds[i]), 1];
            const [sequence, promptLength] = [Uint32Array.from([...ids, ...said]), ids.length];
            return { ids: sequence, promptLength, prompt: i, sample: 0, promptText: text, text: "", ended: true };
          });
          responses.push(drawn);
          return drawn;
        };
        const steps: Steps = [];
        const tokenizer = { vocabSize: VOCAB, decode: () => "", encode: () => [] } as unknown as TextTokenizer;
        const events = trainDistill({ policy, teacher, tokenizer, sampler }, prompts, { ...common, ...own });
        for await (const event of events) if (event.type === "step") steps.push(event.metrics);
        made.push({ steps, responses, weights: await weightsOf(policy) });
        for (const one of [policy, teacher]) one.destroy();
      }
      const runs = all.map(({ name, own }, k) => ({
        out: join(folder, name),
        settings: { ...theirs, beta: own.beta },
        steps: made[k].responses.map((drawn) => {
          const parts = [];
          for (let at = 0; at < drawn.length; at += own.perDeviceTrainBatchSize) {
            const part = drawn.slice(at, at + own.perDeviceTrainBatchSize);
            parts.push(
              part.map(({ ids, promptLength }) => ({
                prompt: [...ids.subarray(0, promptLength)],
                completion: [...ids.subarray(promptLength)],
              })),
            );
          }
          return parts;
        }),
      }));
      answer = ask("runs", { ...folders, vocab_size: VOCAB, runs });
    }, 10 * MINUTES);

    it.each(all.map(({ name }, i) => [name, i] as const))("%s", { timeout: 5 * MINUTES }, async (name, i) => {
      const only = { here: ["entropy", "eos_rate", "mean_length", "skipped_steps"], there: [] };
      const apart = deviations(made[i].steps, answer.runs[i], only);
      console.log(`${name} beside TRL: ${apart.map(([n, d]) => `${n} ${d.toExponential(1)}`).join(", ")}`);
      for (const [metric, found] of apart) expect(found, metric).toBeLessThan(1e-3);
      const found = await savedWeights(loadCausalLM, join(folder, name));
      const far = distance(made[i].weights, found, await savedWeights(loadCausalLM, folders.student));
      const [method, settings] = splitName(name);
      recordParity({ method, settings, other: `GKDTrainer of TRL ${answer.version}`, steps: STEPS, ...far });
    });
  });
});
