/** Learners that train apart: against plain training, against the outer step in float64, and whoever comes, goes or stops. */
import { beforeAll, describe, expect, it } from "vitest";
import { memoryFiles } from "webrlhf";
import { CausalLM, ScoreModel } from "webrlhf/nn";
import {
  type LearnerExchange,
  LearnerGroup,
  type LearnerSettings,
  OuterState,
  type Response,
  type RunOptions,
  trainDpo,
  trainGrpo,
  trainReward,
  trainSft,
} from "webrlhf/rlhf";
import { gpuReady } from "../helpers.ts";
import { collect, metricsOf, pairs, prompts, sequences, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(() => gpuReady());

const LORA = { rank: 4, alpha: 8, targets: "all-linear" as const };
const basics = { maxSteps: 6, learningRate: 5e-3, perDeviceTrainBatchSize: 2 };

/** Values after a run of supervised fine-tuning, by name, and its metrics. */
async function tune(settings: object, run: RunOptions = {}, { lora = false, stopAt = 0 } = {}) {
  const base = lora ? new CausalLM(tinyConfig()).initialize(1) : null;
  const policy = base ? new CausalLM({ base, lora: LORA }).initialize(2) : new CausalLM(tinyConfig()).initialize(1);
  const stop = new AbortController();
  const metrics: Record<string, number>[] = [];
  const notes: string[] = [];
  const all = trainSft({ policy }, sequences(8), { ...basics, ...settings }, { signal: stop.signal, ...run });
  for await (const event of all) {
    if (event.type === "note") notes.push(event.text);
    if (event.type !== "step") continue;
    metrics.push(event.metrics);
    if (event.step === stopAt) stop.abort();
  }
  const values = await policy.store.read();
  policy.destroy();
  base?.destroy();
  return { values, metrics, notes };
}

const outer: LearnerSettings = { dilocoSteps: 2, dilocoOuterLr: 0.7, dilocoOuterMomentum: 0.9, dilocoWire: "float32" };

describe("one learner", () => {
  it.each([
    ["a model", false],
    ["an adapter", true],
  ])("with an outer rate of 1 and no momentum is plain training, to the bit: %s", async (_, lora) => {
    const plain = await tune({}, {}, { lora });
    const rounds = await tune({ dilocoSteps: 2, dilocoOuterLr: 1, dilocoOuterMomentum: 0 }, {}, { lora });
    expect(rounds.values).toEqual(plain.values);
    const own = rounds.metrics.map(({ diloco_round, diloco_learners, diloco_change, ...others }) => others);
    expect(own).toEqual(plain.metrics);
    expect(rounds.metrics.map((m) => m.diloco_round)).toEqual([undefined, 1, undefined, 2, undefined, 3]);
    const other = await tune({ dilocoSteps: 2 }, {}, { lora });
    expect(other.values).not.toEqual(plain.values);
  });

  it("goes on in the middle of a round as if it had not been stopped", async () => {
    const settings = { dilocoSteps: 4, dilocoWire: "int8", saveSteps: 0 };
    const whole = await tune(settings);
    const files = memoryFiles();
    const folder = { files, path: "run" };
    const first = await tune(settings, { folder }, { stopAt: 4 }); // the fifth is under way by then
    expect(first.metrics).toHaveLength(5);
    const rest = await tune(settings, { folder, resume: true });
    expect(rest.values).toEqual(whole.values);
    expect([...first.metrics, ...rest.metrics]).toEqual(whole.metrics);
  });
});

describe("several learners", () => {
  it("see the data in orders of their own, and end with the same bits", async () => {
    const group = new LearnerGroup();
    const others = [1, 2, 3].map((number) => group.learner(number));
    const found = await Promise.all(others.map((learners) => tune({ dilocoSteps: 3 }, { learners }, { lora: true })));
    expect(found[1].values).toEqual(found[0].values);
    expect(found[2].values).toEqual(found[0].values);
    expect(new Set(found.map(({ metrics }) => metrics[0].loss)).size).toBe(3);
    expect(found[0].metrics[2]).toMatchObject({ diloco_round: 1, diloco_learners: 3 });
  });

  it("go on without one that leaves, and take in one that comes", async () => {
    const group = new LearnerGroup();
    const [stays, leaves] = [group.learner(1), group.learner(2)];
    const short: LearnerExchange = {
      ...leaves,
      async round(round, part) {
        if (round === 0) return leaves.round(round, part);
        leaves.leave();
        throw new Error("gone");
      },
    };
    let late: ReturnType<typeof tune> | null = null;
    const watched: LearnerExchange = {
      ...stays,
      async offer(rounds, state) {
        await stays.offer(rounds, state);
        if (rounds === 2) late = tune({ dilocoSteps: 2 }, { learners: group.learner(3) });
      },
    };
    const [first, gone] = await Promise.allSettled([
      tune({ dilocoSteps: 2 }, { learners: watched }),
      tune({ dilocoSteps: 2 }, { learners: short }),
    ]);
    expect(gone).toMatchObject({ status: "rejected", reason: { message: "gone" } });
    if (first.status !== "fulfilled" || !late) throw first;
    const came = await (late as ReturnType<typeof tune>);
    expect(first.value.metrics.map((m) => m.diloco_learners).filter(Boolean)).toEqual([2, 1, 2]);
    expect(came.notes).toEqual(["the other learners are at step 4: going on from where they are"]);
    expect(came.metrics).toHaveLength(2);
    expect(came.values).toEqual(first.value.values);
  });

  it("are as well learners of preferences", async () => {
    const group = new LearnerGroup();
    const one = async (number: number) => {
      const policy = new CausalLM(tinyConfig()).initialize(1);
      const reference = new CausalLM(tinyConfig()).initialize(1);
      const settings = { ...basics, dilocoSteps: 3 };
      const events = await collect(
        trainDpo({ policy, reference }, pairs(8), settings, { learners: group.learner(number) }),
      );
      const values = await policy.store.read();
      for (const model of [policy, reference]) model.destroy();
      return { values, metrics: metricsOf(events) };
    };
    const learners = [one(1), one(2)];
    const [a, b] = await Promise.all(learners);
    expect(a.values).toEqual(b.values);
    expect(a.metrics.at(-1)).toMatchObject({ diloco_round: 2, diloco_learners: 2 });
  });

  it("are as well learners by rollouts, each of its own", async () => {
    const one = async (settings: object, run: RunOptions) => {
      const policy = new CausalLM(tinyConfig()).initialize(1);
      const own = { maxSteps: 4, numGenerations: 2, perDeviceTrainBatchSize: 8, responseLength: 6, learningRate: 1e-3 };
      const rewards = { length: async (all: readonly Response[]) => all.map((r) => r.text.length) };
      const data = prompts(12);
      const events = await collect(
        trainGrpo({ policy, tokenizer, rewards }, data, { ...own, ...settings, beta: 0 }, run),
      );
      const values = await policy.store.read();
      policy.destroy();
      return { values, metrics: metricsOf(events) };
    };
    const plain = await one({}, {});
    const alone = await one({ dilocoSteps: 2, dilocoOuterLr: 1, dilocoOuterMomentum: 0 }, {});
    expect(alone.values).toEqual(plain.values);
    const group = new LearnerGroup();
    const learners = [1, 2].map((number) => one({ dilocoSteps: 2 }, { learners: group.learner(number) }));
    const [a, b] = await Promise.all(learners);
    expect(a.values).toEqual(b.values);
    expect(a.metrics[0]).not.toEqual(b.metrics[0]);
    expect(a.metrics[3]).toMatchObject({ diloco_round: 2, diloco_learners: 2 });
  });

  it("are refused where nothing says when rounds are, or where the trainer has none", async () => {
    const learners = new LearnerGroup().learner(1);
    await expect(tune({}, { learners })).rejects.toThrow(/several learners need diloco_?[sS]teps/);
    const model = new ScoreModel(tinyConfig()).initialize(1);
    const alone = collect(trainReward({ model }, pairs(8), basics, { learners }));
    await expect(alone).rejects.toThrow(/reward is trained by one learner/);
    model.destroy();
  });
});

describe("the outer step", () => {
  const values = (seed: number, size: number) => Float32Array.from({ length: size }, (_, i) => Math.sin(seed + 3 * i));

  it("is Nesterov's on the mean of the changes", async () => {
    const policy = new CausalLM(tinyConfig()).initialize(1);
    const state = new OuterState(policy.store, outer);
    await state.begin();
    const read = async () => [...(await policy.store.read()).values()].flatMap((v) => [...v]);
    let point = await read();
    let velocity = point.map(() => 0);
    for (let round = 0; round < 3; round++) {
      // Parts come from states of the same parameters elsewhere.
      const learners: number[][] = [];
      const parts: Uint8Array[] = [];
      for (const learner of [1, 2, 3]) {
        for (const parameter of policy.store.parameters) {
          parameter.value.write(values(100 * round + learner, parameter.size));
        }
        learners.push(await read());
        parts.push(await state.part());
      }
      const { learners: count } = state.end(parts);
      expect(count).toBe(3);
      const gradient = point.map((p, i) => p - learners.reduce((sum, v) => sum + v[i], 0) / 3);
      velocity = velocity.map((v, i) => 0.9 * v + gradient[i]);
      point = point.map((p, i) => p - 0.7 * (gradient[i] + 0.9 * velocity[i]));
      const now = await read();
      now.forEach((value, i) => {
        expect(Math.abs(value - point[i])).toBeLessThan(2e-6 * (1 + Math.abs(point[i])));
      });
    }
    policy.destroy();
  });

  it("loses nothing for good where changes travel in 8 bits", async () => {
    const policy = new CausalLM(tinyConfig()).initialize(1);
    const [exact, coarse] = (["float32", "int8"] as const).map(
      (dilocoWire) => new OuterState(policy.store, { ...outer, dilocoOuterLr: 1, dilocoOuterMomentum: 0, dilocoWire }),
    );
    const [first] = policy.store.parameters;
    const start = await first.value.read();
    await exact.begin();
    await coarse.begin();
    // Changes far below the largest one of a block would be lost in every round.
    const step = start.map((_, i) => (i % 64 === 0 ? 1 : 1e-3));
    let sum = start;
    for (let round = 1; round <= 20; round++) {
      const before = await first.value.read();
      first.value.write(before.map((value, i) => value + step[i]));
      sum = sum.map((value, i) => value + step[i]);
      const part = await coarse.part();
      expect(part.length).toBeLessThan(0.3 * (await exact.part()).length);
      coarse.end([part]);
    }
    const now = await first.value.read();
    const worst = Math.max(...now.map((value, i) => Math.abs(value - sum[i])));
    expect(worst).toBeLessThan(1.1 / 127); // at most what one round cannot say yet
    expect(Math.abs(now[1] - start[1] - 20e-3)).toBeLessThan(1 / 127);
    expect(now[1]).not.toBe(start[1]);
    policy.destroy();
  });

  it("refuses what is not a part of this model", async () => {
    const policy = new CausalLM(tinyConfig()).initialize(1);
    const state = new OuterState(policy.store, outer);
    await state.begin();
    expect(() => state.end([new Uint8Array(12)])).toThrow(/handed in 12 bytes, and this model's are \d+/);
    expect(() => state.join({ rounds: 3, state: new Uint8Array(7) })).toThrow(/7 bytes/);
    policy.destroy();
  });
});
