/** What comparisons with TRL share: a Python, a model that both open, and the numbers of two runs side by side. */
import { expect } from "vitest";
import { diskFiles } from "webrlhf";
import { CausalLM, decoderConfig, modelFiles, type ScoreModel } from "webrlhf/nn";
import { normal, uint32 } from "../../src/runtime/rng.ts";
import { whyNot } from "./python.ts";

/** Why a comparison with TRL cannot run, or "". */
export const withoutTrl = whyNot(["torch", "transformers", "trl", "datasets"]);

/** A rate that rises for some steps and then falls in a line, and an optimizer without weight decay: as settings here, and as TRL's. */
export const linear = (warmup: number) => ({
  ours: { learningRate: 1e-3, lrSchedulerType: "linear", warmupSteps: warmup } as const,
  theirs: {
    learning_rate: 1e-3,
    lr_scheduler_type: "linear",
    warmup_steps: warmup,
    weight_decay: 0,
    max_grad_norm: 1,
    adam_beta2: 0.999,
  },
});

export const VOCAB = 48;

/** `n` token ids, 2 and up; 1 ends a text. */
export const words = (n: number, ...key: number[]): number[] =>
  Array.from({ length: n }, (_, i) => 2 + (uint32(7, ...key, i) % (VOCAB - 2)));

const small = {
  family: "llama",
  vocabSize: VOCAB,
  hiddenSize: 32,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  intermediateSize: 48,
  maxPositions: 32,
  tieEmbeddings: false,
  eosId: 1,
  padId: 0,
} as const;

/**
 * Writes a small random model, with weights large enough to say something; returns its folder.
 * @param near another seed, whose weights are mixed in a little: a model that is close to the one without
 */
export async function writeModel(
  path: string,
  options: {
    kind?: typeof CausalLM | typeof ScoreModel;
    seed?: number;
    near?: number;
    shape?: Partial<Parameters<typeof decoderConfig>[0]>;
    files?: Record<string, string | Uint8Array>;
  } = {},
): Promise<string> {
  const { kind = CausalLM, seed = 5, near } = options;
  const model = new kind(decoderConfig({ ...small, ...options.shape })).initialize(1);
  model.store.parameters.forEach((parameter, p) => {
    if (parameter.shape.length < 2) return;
    const draw = (i: number) => normal(seed, p, i) + (near === undefined ? 0 : 0.1 * normal(near, p, i));
    parameter.value.write(Float32Array.from({ length: parameter.size }, (_, i) => 0.2 * draw(i)));
  });
  await (await diskFiles()).writeFolder(path, { ...(await modelFiles(model)), ...options.files });
  model.destroy();
  return path;
}

/** Every step's numbers by name. */
export type Steps = Record<string, number>[];

const namesOf = (steps: Steps): string[] => [...new Set(steps.flatMap((step) => Object.keys(step)))].sort();

/**
 * The largest relative difference of every metric that both have: of loss and gradient norm relative to each step's value, of
 * others, which cross 0, relative to the largest one. A metric that one leaves out of a step must be left out by the other.
 * @param only names that only one of the two has: all of them
 */
export function deviations(
  ours: Steps,
  theirs: Steps,
  only: { here: readonly string[]; there: readonly string[] },
): [name: string, deviation: number][] {
  const [here, there] = [namesOf(ours), namesOf(theirs)];
  expect(
    here.filter((name) => !there.includes(name)),
    "only here",
  ).toEqual([...only.here].sort());
  expect(
    there.filter((name) => !here.includes(name)),
    "only in TRL",
  ).toEqual([...only.there].sort());
  expect(ours.length).toBe(theirs.length);
  return here
    .filter((name) => there.includes(name))
    .map((name) => {
      const largest = Math.max(...theirs.map((step) => Math.abs(step[name] ?? 0)));
      const each = theirs.map((step, i) => {
        const [found, wanted] = [ours[i][name], step[name]];
        if (found === wanted) return 0;
        const scale = name === "loss" || name === "grad_norm" ? Math.abs(wanted) : largest;
        return Math.abs(found - wanted) / scale;
      });
      return [name, each.some(Number.isNaN) ? Number.POSITIVE_INFINITY : Math.max(...each)];
    });
}
