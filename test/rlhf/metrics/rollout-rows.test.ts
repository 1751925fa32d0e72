/** What a run shows of its rollouts, token by token, against float64; see `ppo-metrics.test.ts`. */
import { beforeAll, describe, expect, it } from "vitest";
import { memoryFiles } from "webrlhf";
import type { TextTokenizer } from "webrlhf/nn";
import { type Response, type RolloutRow, RunLog, type TrainEvent, trainGrpo, trainPpo, trainRloo } from "webrlhf/rlhf";
import { poolStats } from "../../../src/gpu/pool.ts";
import { trim } from "../../../src/gpu/stream.ts";
import { readText } from "../../../src/runtime/json-files.ts";
import { gpuReady } from "../../helpers.ts";
import { collect, metricsOf } from "../tiny.ts";
import {
  bounded,
  evener,
  eventsOf,
  languageModel,
  longer,
  mean,
  predicted,
  prompts,
  Recorder,
  responseTokens,
  scored,
  scoreModel,
  scripted,
  sum,
  wordTokenizer,
} from "./rollout-reference.ts";

beforeAll(gpuReady);

const ROLLOUTS = 2;
const [RESPONSES, EPOCHS, STEPS] = [8, 2, 2]; // optimizer steps of an epoch
const shapes = [3, -7, 1, 6, -2, 5, 7];
const common = {
  maxSteps: ROLLOUTS,
  perDeviceTrainBatchSize: 2,
  gradientAccumulationSteps: 2,
  responseLength: 7,
  temperature: 0.7,
  learningRate: 0.05,
  seed: 5,
} as const;
const ppoSizes = { ...common, rolloutBatchSize: 4, numGenerations: 2, numPpoEpochs: EPOCHS, criticLearningRate: 0.05 };
const [GAMMA, LAMBDA] = [0.9, 0.8];

const reward = (r: Response) => longer(r) - 1.5 * evener(r);

/** Models that a test watches, and what a trainer is given. */
function given() {
  const policy = languageModel(1, "policy");
  const reference = languageModel(2, "reference");
  const critic = scoreModel(3, "critic");
  const rolled: Response[][] = [];
  const rewards = (all: readonly Response[]) => {
    rolled.push([...all]);
    return all.map(reward);
  };
  const models = { policy, reference, rewards, tokenizer: wordTokenizer, sampler: scripted(shapes) };
  return { models, critic, rolled, all: [policy, reference, critic] };
}

type Phases = Extract<TrainEvent, { type: "phase" }>;
const near = (found: readonly number[], wanted: readonly number[], what: string) => {
  expect(found.length, what).toBe(wanted.length);
  found.forEach((x, i) => {
    expect(Math.abs(x - wanted[i]), `${what}, ${i}: ${x}, not ${wanted[i]}`).toBeLessThan(2e-5 * (1 + Math.abs(x)));
  });
};
const advantagesOf = (rewards: number[], values: number[]): number[] => {
  const deltas = rewards.map((r, t) => r + GAMMA * (values[t + 1] ?? 0) - values[t]);
  return deltas.map((_, t) => sum(deltas.slice(t).map((delta, later) => (GAMMA * LAMBDA) ** later * delta)));
};

/** The rows as the phases told of them, which are the same objects' numbers in parts. */
function fromPhases(phases: readonly Phases[]): Partial<RolloutRow>[] {
  const rows: Partial<RolloutRow>[] = [];
  for (const phase of phases) {
    if (phase.phase === "update") continue;
    for (const [i, row] of phase.rows.entries()) rows[i] = { ...rows[i], ...row };
  }
  return rows;
}

describe("a rollout of PPO, opened up", () => {
  it.each([
    ["paddle", { klCoef: 0.1, clipRange: 0.1, clipRangeValue: 0.05 }, 1, RESPONSES],
    ["trl", { klCoef: 0.1, clipRange: 0.1, clipRangeHigh: 0.15, dualClip: 1.3, clipRangeValue: 0.05 }, 0.7, 3],
  ] as const)("is what float64 finds (%s)", async (dialect, settings, temperature, shown) => {
    const { models, critic, rolled, all } = given();
    const recorder = new Recorder(all);
    const { clipRange, clipRangeValue } = settings;
    const [low, high] = [1 - clipRange, 1 + ("clipRangeHigh" in settings ? settings.clipRangeHigh : clipRange)];
    const worst = "dualClip" in settings ? settings.dualClip : Number.POSITIVE_INFINITY;
    const slots = dialect === "trl" ? (n: number) => Math.min(7, n + 1) : (n: number) => n;
    try {
      const options = { ...ppoSizes, ...settings, dialect, gamma: GAMMA, lam: LAMBDA, showRollouts: shown };
      const events = await collect(
        trainPpo({ ...models, critic }, prompts(6), { ...options, whitenAdvantages: false }),
      );
      const [policy, value] = [await recorder.steps("policy"), await recorder.steps("critic")];
      const reference = await models.reference.store.read();
      const rollouts = eventsOf(events, "rollout");
      expect(rollouts.map(({ step }) => step)).toEqual([1, 2]);
      const seen = { policy: new Set<boolean>(), critic: new Set<boolean>() };
      rollouts.forEach(({ rows, klCoef }, rollout) => {
        const phases = eventsOf(events, "phase").filter(({ step }) => step === rollout + 1);
        expect(klCoef).toBe(0.1);
        expect(rows).toHaveLength(shown);
        expect(phases.map(({ phase }) => phase)).toEqual([
          ...["sample", "score", "advantage"],
          ...new Array(2 * EPOCHS * STEPS).fill("update"),
        ]);
        expect(fromPhases(phases)).toEqual(rows.map(({ updates: _, valueUpdates: __, ...row }) => row));
        const first = rollout * EPOCHS * STEPS;
        rows.forEach((row, i) => {
          const response = rolled[rollout][i];
          const { ids, promptLength } = response;
          const where = `rollout ${rollout + 1}, response ${i + 1}`;
          const under = (k: number) => predicted(policy[first + k].weights, ids, promptLength, temperature).logProbs;
          const n = responseTokens(response).length;
          expect(row).toMatchObject({ prompt: response.promptText, response: response.text, ended: response.ended });
          expect(row.ids).toEqual(responseTokens(response));
          expect(row.texts.join("")).toBe(response.text);
          near(row.logProbs, under(0), `${where}: log-probabilities`);
          const toReference = predicted(reference, ids, promptLength, temperature).logProbs;
          near(row.refLogProbs ?? [], toReference, `${where}: under the reference`);
          const kl = under(0).map((p, t) => p - toReference[t]);
          near(row.kl ?? [], kl, `${where}: KL`);
          expect(row.score).toBeCloseTo(reward(response), 12);
          expect(row.finalScore).toBe(row.score);
          // All that the shaped rewards add up to is the score and the penalty.
          expect(sum(row.rewards)).toBeCloseTo(row.score - klCoef * sum(row.kl ?? []), 10);
          expect(row.rewards).toHaveLength(slots(n));
          const wanted = Array.from({ length: slots(n) }, (_, t) => -0.1 * (kl[t] ?? 0));
          wanted[wanted.length - 1] += reward(response);
          near(row.rewards, wanted, `${where}: rewards`);
          const places = wanted.map((_, t) => promptLength - 1 + t);
          const values = scored(value[first].weights, ids, places);
          near(row.values ?? [], values, `${where}: values`);
          const advantages = advantagesOf(wanted, values);
          near(row.advantages, advantages.slice(0, n), `${where}: advantages`);
          near(
            row.returns ?? [],
            advantages.map((a, t) => a + values[t]),
            `${where}: returns`,
          );

          expect(row.updates).toHaveLength(EPOCHS * STEPS + 1);
          // Before anything is learned.
          if (shown === RESPONSES) expect(row.updates[0].ratios).toEqual(row.ids.map(() => 1));
          row.updates.forEach(({ logProbs, ratios, clipped, learned }, k) => {
            near(logProbs, under(k), `${where}, update ${k}: log-probabilities`);
            const now = under(k).map((p, t) => Math.exp(p - under(0)[t]));
            near(ratios, now, `${where}, update ${k}: ratios`);
            const bound = now.map((ratio, t) =>
              advantages[t] > 0 ? ratio > high : ratio < low || (advantages[t] < 0 && ratio > worst),
            );
            expect(clipped, `${where}, update ${k}`).toEqual(bound);
            if (k === 0) expect(learned).toBe(false);
            for (const one of clipped) seen.policy.add(one);
          });
          expect(row.valueUpdates).toHaveLength(EPOCHS * STEPS + 1);
          row.valueUpdates?.forEach((update, k) => {
            const now = scored(value[first + k].weights, ids, places);
            near(update.values, now, `${where}, update ${k}: values`);
            const bound = now.map((v, t) => {
              const target = advantages[t] + values[t];
              const held = bounded(v, values[t] - clipRangeValue, values[t] + clipRangeValue);
              return (held - target) ** 2 > (v - target) ** 2;
            });
            expect(update.clipped, `${where}, update ${k}`).toEqual(bound);
            for (const one of update.clipped) seen.critic.add(one);
          });
          // Each epoch learns from each response once, by policy and critic alike.
          const epochs = (all: readonly { learned: boolean }[] = []) =>
            Array.from({ length: EPOCHS }, (_, e) =>
              all.slice(1 + e * STEPS, 1 + (e + 1) * STEPS).filter(({ learned }) => learned),
            );
          for (const all of [row.updates, row.valueUpdates]) {
            expect(epochs(all).map(({ length }) => length)).toEqual(new Array(EPOCHS).fill(1));
          }
        });
        const losses = (model: string) =>
          phases.flatMap((p) => (p.phase === "update" && p.model === model ? [p.loss] : []));
        const { metrics } = eventsOf(events, "step")[rollout];
        expect(mean(losses("policy"))).toBeCloseTo(metrics.actor_loss, 10);
        expect(mean(losses("critic"))).toBeCloseTo(metrics.critic_loss, 10);
      });
      // A clip that never bites would prove nothing.
      expect(seen).toEqual({ policy: new Set([true, false]), critic: new Set([true, false]) });
    } finally {
      recorder.close();
    }
  });

  it("changes no bit of what is learned", async () => {
    const run = async (showRollouts: number) => {
      const { models, critic, all } = given();
      const events = await collect(trainPpo({ ...models, critic }, prompts(6), { ...ppoSizes, showRollouts }));
      const weights = await Promise.all([models.policy, critic].map((model) => model.store.read()));
      for (const model of all) model.destroy();
      return { events, weights, metrics: metricsOf(events) };
    };
    const [closed, opened] = [await run(0), await run(3)];
    expect(opened.weights).toEqual(closed.weights);
    expect(opened.metrics).toEqual(closed.metrics);
    const others = ({ events }: typeof closed) =>
      events.filter(({ type }) => type !== "phase" && type !== "rollout").map(({ type }) => type);
    expect(others(opened)).toEqual(others(closed));
    expect(closed.events.some(({ type }) => type === "phase" || type === "rollout")).toBe(false);
  });

  it("waits at each part until the next event is asked for", async () => {
    const { models, critic, rolled, all } = given();
    const events = trainPpo({ ...models, critic }, prompts(6), { ...ppoSizes, showRollouts: 1 });
    const until = async (wanted: string) => {
      for (;;) {
        const { value, done } = await events.next();
        if (done) throw new Error("the run is over");
        if (value.type === "phase" && value.phase === wanted) return value;
      }
    };
    const weights = async () => (await models.policy.store.read()).values().next().value?.slice();
    try {
      await until("sample");
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(rolled).toHaveLength(0); // nothing is scored yet
      await until("score");
      expect(rolled).toHaveLength(1);
      const before = await weights();
      await until("advantage");
      expect(await weights()).toEqual(before);
      await until("update");
      const after = await weights();
      expect(after).not.toEqual(before);
      await new Promise((resolve) => setTimeout(resolve, 50));
      expect(await weights()).toEqual(after);
      await until("update");
      expect(await weights()).not.toEqual(after);
    } finally {
      await events.return(undefined);
      for (const model of all) model.destroy();
    }
  });

  it.each(["sample", "score", "advantage", "update"])(
    "may be left at %s, and leaves nothing behind",
    async (wanted) => {
      const run = async () => {
        const { models, all } = given();
        for await (const event of trainPpo(models, prompts(6), { ...ppoSizes, showRollouts: 1 })) {
          if (event.type === "phase" && event.phase === wanted) break;
        }
        for (const model of all) model.destroy();
      };
      const held = () => {
        trim();
        return poolStats().poolBytes;
      };
      await run();
      const before = held();
      await run();
      expect(held()).toBe(before);
    },
  );

  it("tells where a character has come to its end", async () => {
    const { models, critic, all } = given();
    // Three bytes of a sign, then two of a letter, then a byte of neither.
    const bytes = [0xe2, 0x82, 0xac, 0xc3, 0xa9, 0xe2];
    const tokenizer: TextTokenizer = {
      ...wordTokenizer,
      decode: (ids) => new TextDecoder().decode(Uint8Array.from(ids, (id) => bytes[id - 10])),
    };
    const sampler: typeof models.sampler = async (asked) =>
      asked.map(({ text, ids: given }, prompt) => {
        const ids = Uint32Array.from([...given, 10, 11, 12, 13, 14, 15]);
        const own = { prompt, sample: 0, promptText: text, text: "", ended: false };
        return { ids, promptLength: given.length, ...own };
      });
    const options = { ...ppoSizes, numGenerations: 1, maxSteps: 1, showRollouts: 1 };
    const rewards = (list: readonly Response[]) => list.map((_, i) => i);
    const events = await collect(trainPpo({ ...models, critic, rewards, tokenizer, sampler }, prompts(6), options));
    expect(eventsOf(events, "rollout")[0].rows[0].texts).toEqual(["", "", "€", "", "é", "\ufffd"]);
    for (const model of all) model.destroy();
  });

  it("is the same where models wait on the host", async () => {
    const run = async (offloadLevel: ("freeze_model" | "optimizer" | "train_model")[]) => {
      const { models, critic, all } = given();
      const options = { ...ppoSizes, showRollouts: 2, offloadLevel };
      const events = await collect(trainPpo({ ...models, critic }, prompts(6), options));
      for (const model of all) model.destroy();
      return events.filter(({ type }) => type === "rollout" || type === "phase");
    };
    expect(await run(["freeze_model", "optimizer", "train_model"])).toEqual(await run([]));
  });

  it("leaves the same rollouts.jsonl where a run was stopped and resumed", async () => {
    const run = async (stopAfter: number | null) => {
      const files = memoryFiles();
      const folder = { files, path: "run" };
      for (const resume of stopAfter === null ? [false] : [false, true]) {
        const { models, critic, all } = given();
        const stop = new AbortController();
        const options = { ...ppoSizes, maxSteps: 3, showRollouts: 2, showSamples: 0 };
        const log = new RunLog(files, "run");
        const events = trainPpo({ ...models, critic }, prompts(6), options, { folder, resume, signal: stop.signal });
        for await (const event of events) {
          await log.add(event);
          if (!resume && event.type === "phase" && event.step === stopAfter) stop.abort();
        }
        for (const model of all) model.destroy();
      }
      return readText(files, "run/rollouts.jsonl");
    };
    const whole = await run(null);
    expect(whole?.trim().split("\n")).toHaveLength(6);
    expect(await run(2)).toBe(whole);
  });

  it("is kept in rollouts.jsonl", async () => {
    const { models, critic, all } = given();
    const files = memoryFiles();
    const log = new RunLog(files, "run");
    const events = trainPpo({ ...models, critic }, prompts(6), { ...ppoSizes, showRollouts: 2 });
    const told: unknown[] = [];
    for await (const event of events) {
      await log.add(event);
      if (event.type === "rollout") told.push(...event.rows.map((row) => ({ step: event.step, klCoef: 0.02, ...row })));
    }
    const lines = (await readText(files, "run/rollouts.jsonl"))?.trim().split("\n") ?? [];
    expect(lines.map((line) => JSON.parse(line))).toEqual(told);
    expect(lines).toHaveLength(2 * ROLLOUTS);
    for (const model of all) model.destroy();
  });
});

describe("a rollout without a critic, opened up", () => {
  const sizes = { ...common, generationBatchSize: RESPONSES, numIterations: EPOCHS, showRollouts: RESPONSES };
  const totalOf = (x: number[]) => sum(x);
  it.each([
    ["grpo", {}, null],
    ["gspo, filtered", { importanceSamplingLevel: "sequence", maskTruncatedCompletions: true }, mean],
    ["rloo", { beta: 0.2 }, totalOf],
  ] as const)("is what float64 finds (%s)", async (name, settings, together) => {
    const { models, rolled, all } = given();
    const recorder = new Recorder(all);
    const group = 4;
    try {
      const options = { ...sizes, ...settings, numGenerations: group, epsilon: 0.1 };
      const train = name === "rloo" ? trainRloo : trainGrpo;
      const { reference, ...alone } = models;
      const compared = name === "rloo" ? models : { ...alone, reference: null };
      const events = await collect(train(compared, prompts(6), options));
      const policy = await recorder.steps("policy");
      const refWeights = await reference.store.read();
      const seen = new Set<boolean>();
      let first = 0;
      eventsOf(events, "rollout").forEach(({ rows, klCoef }, rollout) => {
        const responses = rolled[rollout];
        const under = (k: number, r: Response) => predicted(policy[first + k].weights, r.ids, r.promptLength, 0.7);
        const totals = responses.map((r, i) => {
          const own = under(0, r).logProbs;
          const other = predicted(refWeights, r.ids, r.promptLength, 0.7).logProbs;
          const kl = own.map((p, t) => p - other[t]);
          if (name === "rloo") near(rows[i].kl ?? [], kl, "KL");
          else expect(rows[i]).not.toHaveProperty("kl");
          return reward(r) - (name === "rloo" ? 0.2 * sum(kl) : 0);
        });
        expect(klCoef).toBe(name === "rloo" ? 0.2 : 0);
        const learned = responses.map((r) => !("maskTruncatedCompletions" in settings) || r.ended);
        rows.forEach((row, i) => {
          const response = responses[i];
          const own = totals.slice(i - (i % group), i - (i % group) + group);
          const others = own.filter((_, k) => k !== i % group);
          const spread = Math.sqrt(sum(own.map((x) => (x - mean(own)) ** 2)) / (group - 1)) + 1e-4;
          const advantage = name === "rloo" ? totals[i] - mean(others) : (totals[i] - mean(own)) / spread;
          near(
            row.advantages,
            row.ids.map(() => advantage),
            "advantages",
          );
          near([sum(row.rewards)], [totals[i]], "rewards");
          expect(row).not.toHaveProperty("values");
          expect(row).not.toHaveProperty("valueUpdates");
          row.updates.forEach(({ logProbs, ratios, clipped }, k) => {
            const now = under(k, response).logProbs;
            near(logProbs, now, "log-probabilities");
            const changes = now.map((p, t) => p - under(0, response).logProbs[t]);
            const wanted = changes.map((d) => Math.exp(together ? together(changes) : d));
            near(ratios, wanted, `ratios of update ${k}`);
            expect(clipped).toEqual(wanted.map((ratio) => (advantage > 0 ? ratio > 1.1 : ratio < 0.9)));
            for (const one of clipped) seen.add(one);
          });
          const times = row.updates.filter((update) => update.learned).length;
          expect(times).toBe(learned[i] ? EPOCHS : 0);
        });
        first += rows[0].updates.length - 1;
      });
      expect(first).toBe(policy.length - 1);
      expect(seen).toEqual(new Set([true, false]));
    } finally {
      recorder.close();
    }
  });
});
