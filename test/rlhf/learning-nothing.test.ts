/** Runs that learn nothing, in part or as a whole, and runs whose gradients are not finite. */
import { beforeAll, describe, expect, it } from "vitest";
import { memoryFiles, openDevice } from "webrlhf";
import { CausalLM, ScoreModel } from "webrlhf/nn";
import {
  policySampler,
  type Response,
  type Sampler,
  type TrainEvent,
  trainCpo,
  trainDpo,
  trainGrpo,
  trainIteratively,
  trainKto,
  trainOrpo,
  trainRaft,
  trainReinforce,
  trainReward,
  trainRloo,
  trainSft,
} from "webrlhf/rlhf";
import { keeper } from "../keep.ts";
import { collect, metricsOf, pairs, prompts, sequences, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(() => openDevice());

const keep = keeper();
const fresh = () => keep(new CausalLM(tinyConfig()).initialize(1));
const warnings = (events: readonly TrainEvent[]) =>
  events.flatMap((event) => (event.type === "warning" ? [`${event.step}: ${event.text}`] : []));
const notes = (events: readonly TrainEvent[]) => events.flatMap((e) => (e.type === "note" ? [e.text] : []));
const weights = async (model: CausalLM) => (await model.store.parameters[0].value.read()).slice(0, 64);

const steps = { maxSteps: 2, perDeviceTrainBatchSize: 4, learningRate: 1e-3 };
const sampling = { ...steps, responseLength: 4, showSamples: 0 };
const constant = async (responses: readonly Response[]) => responses.map(() => 1);
/** Rewards differ in the first rollout of a run only. */
const fading = () => {
  let calls = 0;
  return async (responses: readonly Response[]) => {
    const first = calls++ === 0;
    return responses.map((r) => (first ? r.ids[r.promptLength] : 0));
  };
};

describe("a run in which nothing is learned", () => {
  const groups = { ...sampling, numGenerations: 4, perDeviceTrainBatchSize: 8 };
  const same = pairs(4).map((pair) => ({ ...pair, rejected: pair.chosen }));
  const bare = sequences(4).map(({ ids }) => ({ ids, promptLength: ids.length }));
  const data = { train: prompts(4) };
  const models = () => ({ policy: fresh(), tokenizer, rewards: constant });
  const raft = { ...sampling, raftBatchSize: 4, topRewardPercentage: 0.5, outputMinLength: null };
  const runs: Record<string, [run: () => AsyncGenerator<TrainEvent>, reason: RegExp]> = {
    sft: [() => trainSft({ policy: fresh() }, bare, steps), /4 of 4 sequences left out: they have no token to learn/],
    "sft with masks": [
      () =>
        trainSft(
          { policy: fresh() },
          sequences(4).map((one) => ({ ...one, learned: new Uint8Array(one.ids.length) })),
          steps,
        ),
      /they have no token to learn/,
    ],
    dpo: [() => trainDpo({ policy: fresh() }, same, steps), /4 of 4 pairs do not say which answer is better/],
    orpo: [() => trainOrpo({ policy: fresh() }, same, steps), /4 of 4 pairs do not say/],
    cpo: [() => trainCpo({ policy: fresh() }, same, steps), /4 of 4 pairs do not say/],
    kto: [
      () =>
        trainKto(
          { policy: fresh() },
          bare.map((one, i) => ({ ...one, label: i % 2 === 0 })),
          steps,
        ),
      /nothing was learned in any of 2 steps: its loss has no gradient/,
    ],
    reward: [
      () => trainReward({ model: keep(new ScoreModel(tinyConfig()).initialize(1)) }, same, steps),
      /4 of 4 pairs left out: both answers have the same tokens/,
    ],
    grpo: [
      () => trainGrpo(models(), data, { ...groups, beta: 0 }),
      /any of 2 steps: within each of the 2 groups all rewards/,
    ],
    "grpo, truncated": [
      () => {
        const open = models();
        const draw = policySampler(open.policy, tokenizer);
        const sampler: Sampler = async (...asked) => (await draw(...asked)).map((r) => ({ ...r, ended: false }));
        const own = { ...groups, maxSteps: 1, maskTruncatedCompletions: true };
        return trainGrpo({ ...open, sampler, rewards: fading() }, data, own);
      },
      /any of 1 steps: all 8 responses are left out/,
    ],
    rloo: [() => trainRloo(models(), data, { ...groups, beta: 0 }), /within each of the 2 groups/],
    reinforce: [
      () => trainReinforce(models(), data, { ...groups, numGenerations: 1, beta: 0 }),
      /all advantages are 0/,
    ],
    raft: [
      () => trainRaft({ ...models(), discard: () => true }, data, raft),
      /any of 2 steps: all 8 responses were discarded/,
    ],
    "raft without tokens": [
      () => trainRaft({ ...models(), clean: () => "" }, data, { ...raft, maskPrompt: true, discardSample: "none" }),
      /any of 2 steps: the kept responses have no token to learn/,
    ],
    iterate: [
      () => {
        const folder = { files: memoryFiles(), path: "run" };
        return trainIteratively(models(), data, { ...sampling, iterations: 2, numGenerations: 2 }, { folder });
      },
      /nothing was learned in any of 2 iterations: no pair says which response is better/,
    ],
  };

  it.each(Object.entries(runs))("%s: fails, and says why", async (_, [run, reason]) => {
    await expect(collect(run())).rejects.toThrow(reason);
  });

  it("leaves no model behind", async () => {
    const folder = { files: memoryFiles(), path: "run" };
    await expect(collect(trainGrpo(models(), data, { ...groups, beta: 0 }, { folder }))).rejects.toThrow(
      /any of 2 steps/,
    );
    expect(await folder.files.list("run")).not.toContain("model.safetensors");
  });

  it("is known as such after a resume, too", async () => {
    const folder = { files: memoryFiles(), path: "run" };
    const stop = new AbortController();
    const run = trainGrpo(models(), data, { ...groups, beta: 0 }, { folder, signal: stop.signal });
    for await (const event of run) if (event.type === "step") stop.abort();
    const again = trainGrpo(models(), data, { ...groups, beta: 0 }, { folder, resume: true });
    await expect(collect(again)).rejects.toThrow(/nothing was learned in any of 2 steps/);
  });
});

describe("a step in which nothing is learned", () => {
  it("is warned of, and counted at the end", async () => {
    const settings = { ...sampling, maxSteps: 3, numGenerations: 4, perDeviceTrainBatchSize: 8, beta: 0 };
    const models = { policy: fresh(), tokenizer, rewards: fading() };
    const events = await collect(trainGrpo(models, { train: prompts(4) }, settings));
    expect(warnings(events)).toEqual(
      [2, 3].map(
        (step) => `${step}: nothing was learned in this step: within each of the 2 groups all rewards are the same`,
      ),
    );
    expect(notes(events)).toEqual(["nothing was learned in 2 of 3 steps"]);
  });

  it("is an iteration without pairs, after which the others go on", async () => {
    const folder = { files: memoryFiles(), path: "run" };
    const settings = { ...sampling, maxSteps: 1, iterations: 2, numGenerations: 3, promptsPerIteration: 2 };
    let call = 0;
    const rewards = async (responses: readonly Response[]) => {
      const alike = call++ === 0;
      return responses.map((r) => (alike ? 0 : r.sample));
    };
    const policy = fresh();
    const before = await weights(policy);
    const events = await collect(
      trainIteratively({ policy, tokenizer, rewards }, { train: prompts(4) }, settings, { folder }),
    );
    expect(warnings(events)).toEqual([
      "0: nothing is learned in iteration 1: 0 pairs of 2 prompts (2 with equal rewards)",
    ]);
    expect(metricsOf(events).map(({ iteration }) => iteration)).toEqual([2]);
    expect(await folder.files.list("run/iteration_1/model")).toContain("model.safetensors");
    expect(await weights(policy)).not.toEqual(before);
  });

  it("is a part of the data: pairs of equal answers, sequences without a token to learn", async () => {
    const [one, ...others] = pairs(4);
    const some = [{ ...one, rejected: one.chosen }, ...others];
    expect(notes(await collect(trainDpo({ policy: fresh() }, some, steps)))).toContain(
      "1 of 4 pairs do not say which answer is better: both have the same tokens",
    );
    const [first, ...rest] = sequences(4);
    const bare = [{ ...first, promptLength: first.ids.length }, ...rest];
    expect(notes(await collect(trainSft({ policy: fresh() }, bare, steps)))).toContain(
      "1 of 4 sequences left out: they have no token to learn",
    );
  });
});

describe("steps whose gradients are not finite", () => {
  /** Trains with scores so large, after the steps that `spoil` says, that squares of gradients overflow. */
  async function run(maxSteps: number, spoil: (step: number) => boolean) {
    const model = keep(new ScoreModel(tinyConfig()).initialize(1));
    const head = model.store.parameters.find(({ shape }) => `${shape}` === "1,16");
    const plain = await head!.value.read();
    const set = (step: number) => head!.value.write(plain.map((x) => (spoil(step) ? x * 1e22 : x)));
    // Whatever the scores, some pairs are ordered wrongly.
    const swapped = pairs(8).map((pair) => ({ ...pair, chosen: pair.rejected, rejected: pair.chosen }));
    const events: TrainEvent[] = [];
    const settings = { maxSteps, perDeviceTrainBatchSize: 16, learningRate: 1e-3, evalSteps: 1 };
    set(0);
    const folder = { files: memoryFiles(), path: "run" };
    try {
      for await (const event of trainReward({ model }, { train: [...pairs(8), ...swapped], eval: pairs(4) }, settings, {
        folder,
      })) {
        events.push(event);
        if (event.type === "eval") set(event.step);
      }
      return { events, files: await folder.files.list("run"), message: null };
    } catch (error) {
      return { events, files: await folder.files.list("run"), message: (error as Error).message };
    }
  }

  it("are told with what the norm was, and fail the run where they are most of it", async () => {
    const { events, files, message } = await run(4, (step) => step > 0);
    expect(metricsOf(events).map((m) => [m.grad_norm, m.skipped_steps])).toEqual([
      [expect.closeTo(0, 2), 0],
      [Number.POSITIVE_INFINITY, 1],
      [Number.POSITIVE_INFINITY, 2],
      [Number.POSITIVE_INFINITY, 3],
    ]);
    expect(warnings(events)[0]).toBe("2: optimizer steps skipped: 1 in this step, 1 in all; grad_norm was Infinity");
    expect(message).toMatch(
      /^3 of 4 optimizer steps were skipped, as their gradients were not finite: lower learningRate or maxGradNorm/,
    );
    expect(files).not.toContain("model.safetensors");
  });

  it("are counted at the end where they are few", async () => {
    const { events, files, message } = await run(4, (step) => step === 1);
    expect(message).toBe(null);
    expect(notes(events)).toContain("1 of 4 optimizer steps were skipped, as their gradients were not finite");
    expect(metricsOf(events).map((m) => Number.isFinite(m.grad_norm))).toEqual([true, false, true, true]);
    expect(files).toContain("model.safetensors");
  });
});
