/** On-policy distillation: whose words a step learns from, what it learns, and what it refuses. */
import { beforeAll, describe, expect, it } from "vitest";
import { memoryFiles } from "webrlhf";
import { CausalLM, decoderConfig } from "webrlhf/nn";
import {
  type Prompt,
  type Response,
  responseLogProbs,
  type Sampler,
  sampleResponses,
  trainDistill,
} from "webrlhf/rlhf";
import { gpuReady } from "../helpers.ts";
import { keeper } from "../keep.ts";
import { collect, metricsOf, prompts, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(() => gpuReady());

const keep = keeper();

/** A model with weights large enough to prefer something. */
function model(seed: number, config = tinyConfig()): CausalLM {
  const made = keep(new CausalLM(config).initialize(seed));
  const table = made.store.parameters.find(({ name }) => name.includes("embed"))!;
  table.value.write(Float32Array.from({ length: table.size }, (_, i) => Math.sin(seed * 7.3 + i * i * 0.37)));
  return made;
}

const sizes = { maxSteps: 4, perDeviceTrainBatchSize: 4, responseLength: 6, learningRate: 0.02 };
const answered = (n: number): Prompt[] =>
  prompts(n).map((prompt, i) => ({ ...prompt, target: ["Tim ran.", "Anna sang.", "A cat sat."][i % 3] }));

/** KL(student || teacher) per token, by log-probabilities of all ids at every place of the responses. */
async function divergence(student: CausalLM, teacher: CausalLM, responses: readonly Response[]): Promise<number> {
  const ids = Array.from({ length: tokenizer.vocabSize }, (_, id) => id);
  let [total, count] = [0, 0];
  for (const { ids: all, promptLength } of responses) {
    for (let t = promptLength; t < all.length; t++) {
      const asked = ids.map((id) => ({ ids: Uint32Array.from([...all.subarray(0, t), id]), promptLength: t }));
      const [own, other] = [await responseLogProbs(student, asked), await responseLogProbs(teacher, asked)];
      own.logProbs.forEach(([p], id) => {
        total += Math.exp(p) * (p - other.logProbs[id][0]);
      });
      count++;
    }
  }
  return total / count;
}

describe("distillation", () => {
  it("brings the student to the teacher, by its own responses, of which the first loss is the divergence", async () => {
    const [policy, teacher] = [model(1), model(2)];
    const drawn: Response[][] = [];
    const start = model(1);
    const sampler: Sampler = async (...asked) => {
      drawn.push(await sampleResponses(policy, tokenizer, ...asked));
      return drawn.at(-1)!;
    };
    const own = { ...sizes, maxSteps: 30 };
    const steps = metricsOf(await collect(trainDistill({ policy, teacher, tokenizer, sampler }, prompts(8), own)));
    expect(drawn).toHaveLength(30);
    expect(steps[0].loss).toBeCloseTo(await divergence(start, teacher, drawn[0].slice(0, 4)), 4);
    expect(steps[29].loss).toBeLessThan(steps[0].loss / 3);
    expect(steps[0].mean_length).toBeGreaterThan(0);
    expect(steps[0]).not.toHaveProperty("on_policy");
  });

  it("takes the same step however the batch is divided", async () => {
    const run = async (batch: number, accumulation: number) => {
      const policy = model(1);
      const own = { ...sizes, maxSteps: 2, perDeviceTrainBatchSize: batch, gradientAccumulationSteps: accumulation };
      await collect(trainDistill({ policy, teacher: model(2), tokenizer }, prompts(8), { ...own, beta: 0.5 }));
      return [...(await policy.store.read()).values()].flatMap((values) => [...values]);
    };
    const [whole, divided] = [await run(4, 1), await run(2, 2)];
    expect(Math.max(...whole.map((v, i) => Math.abs(v - divided[i])))).toBeLessThan(2e-4);
  });

  it("learns from the data's answers or the teacher's responses in the other steps", async () => {
    const run = (more: object) =>
      collect(trainDistill({ policy: model(1), teacher: model(2), tokenizer }, answered(8), { ...sizes, ...more }));
    const said = (events: Awaited<ReturnType<typeof run>>) =>
      events.flatMap((e) => (e.type === "samples" ? e.samples.map(({ response }) => response) : []));
    const data = await run({ lmbda: 0, responseLength: 16 });
    expect(new Set(said(data))).toEqual(new Set(["Tim ran.", "Anna sang.", "A cat sat."]));
    expect(metricsOf(data).map((m) => [m.on_policy, m.eos_rate])).toEqual(Array(4).fill([0, 1]));
    const cut = await run({ lmbda: 0, responseLength: 1 });
    expect(metricsOf(cut)[0]).toMatchObject({ mean_length: 1, eos_rate: 0 });
    const teachers = await run({ lmbda: 0, seqKd: true });
    const students = await run({});
    expect(said(teachers)).not.toEqual(said(students));
    const mixed = metricsOf(await run({ lmbda: 0.5, maxSteps: 16 })).map((m) => m.on_policy);
    expect(mixed.filter((one) => one === 1).length).toBeGreaterThan(2);
    expect(mixed.filter((one) => one === 0).length).toBeGreaterThan(2);
  });

  it("goes on after a stop as if there had been none, and evaluations change nothing", async () => {
    const folder = { files: memoryFiles(), path: "run" };
    const own = { ...sizes, lmbda: 0.6, beta: 0.5, saveSteps: 2, learningRate: 1e-3 };
    const start = (more: object, run = {}, held = false) => {
      const data = { train: answered(8), ...(held && { eval: prompts(10).slice(8) }) };
      return trainDistill({ policy: model(1), teacher: model(2), tokenizer }, data, { ...own, ...more }, run);
    };
    const whole = metricsOf(await collect(start({})));
    const stop = new AbortController();
    const first = [];
    for await (const event of start({}, { folder, signal: stop.signal })) {
      first.push(event);
      if (event.type === "step" && event.step === 2) stop.abort();
    }
    const rest = await collect(start({}, { folder, resume: true }));
    expect([...metricsOf(first), ...metricsOf(rest)]).toEqual(whole);
    const watched = await collect(start({ evalSteps: 2 }, {}, true));
    expect(metricsOf(watched)).toEqual(whole);
    const evals = watched.flatMap((event) => (event.type === "eval" ? [event] : []));
    expect(evals.map(({ step }) => step)).toEqual([0, 2, 4]);
    expect(Object.keys(evals[0].metrics)).toEqual(["eval_loss", "eval_entropy", "eval_mean_length", "eval_eos_rate"]);
    expect(evals[2].metrics.eval_loss).toBeLessThan(evals[0].metrics.eval_loss);
  });

  it("trains an adapter, and has the defaults of TRL's two trainers", async () => {
    const base = model(1);
    const policy = new CausalLM({ base, lora: { rank: 4, alpha: 8, targets: "all-linear" } }).initialize(3);
    keep(policy);
    const own = { ...sizes, maxSteps: 20, dialect: "gkd", lmbda: 1 } as const;
    const steps = metricsOf(await collect(trainDistill({ policy, teacher: model(2), tokenizer }, prompts(8), own)));
    expect(steps[19].loss).toBeLessThan(steps[0].loss);
    const fresh = metricsOf(
      await collect(
        trainDistill({ policy: model(1), teacher: model(2), tokenizer }, prompts(8), {
          ...{ ...sizes, maxSteps: 1, lmbda: 1, dialect: "trl", beta: 0.5, temperature: 0.9, tempered: false },
        } as const),
      ),
    );
    expect(fresh[0].loss).toBeCloseTo(steps[0].loss, 5);
  });

  it("refuses what does not go together", async () => {
    const refused = async (models: { policy?: CausalLM; teacher?: CausalLM }, more: object, data = prompts(8)) => {
      const policy = models.policy ?? model(1);
      const teacher = models.teacher ?? model(2);
      const events = trainDistill({ policy, teacher, tokenizer }, data, { ...sizes, ...more });
      return collect(events).then(
        () => "nothing",
        (error: Error) => error.message,
      );
    };
    const one = model(1);
    expect(await refused({ policy: one, teacher: one }, {})).toMatch("the teacher is the student itself");
    const small = decoderConfig({ ...tinyConfig(), family: "llama", vocabSize: 8, eosId: 1 });
    expect(await refused({ teacher: model(2, small) }, {})).toMatch("the teacher predicts 8 ids and the tokenizer has");
    expect(await refused({}, { lmbda: 0.5 })).toMatch("8 of 8 prompts have no answer, from which with lmbda 0.5");
    expect(await refused({}, { lmbda: 0.5, maxStaleness: 1 })).toMatch("nothing is drawn ahead: set lmbda to 1");
    expect(await refused({}, { evalSteps: 1 })).toMatch("evalSteps 1 needs held-out prompts");
    const base = model(4);
    const same = new CausalLM({ base, lora: { rank: 2, alpha: 4 } }).initialize(1);
    keep(same);
    expect(await refused({ policy: same, teacher: base }, {})).toMatch("the student predicts what the teacher does");
  });
});
