/** PPO's trainer: what its options do, what it keeps, writes and logs, and that it goes on from a stop bit for bit. */

import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { memoryFiles, noGrad, scope } from "webrlhf";
import { AdamW, CausalLM, loadCausalLM, loadScoreModel, type Model, ScoreModel } from "webrlhf/nn";
import {
  adamOf,
  collectRollout,
  type Experience,
  endRows,
  evaluateSft,
  freshNormalizer,
  modelReward,
  offloadLevels,
  type PpoData,
  type PpoModels,
  type PpoSettings,
  type Prompt,
  pack,
  policySampler,
  ppo,
  type Response,
  type RewardFunction,
  type RunOptions,
  responseLogProbs,
  responseValues,
  rewardParts,
  type Sequence,
  type TrainEvent,
  trainPpo,
} from "webrlhf/rlhf";
import { poolStats } from "../../../src/gpu/pool.ts";
import { trim } from "../../../src/gpu/stream.ts";
import { minibatches } from "../../../src/rlhf/minibatches.ts";
import { policyPass, updatePolicy } from "../../../src/rlhf/ppo.ts";
import { withinLength } from "../../../src/rlhf/sampler.ts";
import { nllPass } from "../../../src/rlhf/sft.ts";
import { gpuReady } from "../../helpers.ts";
import { collect, metricsOf, prompts, sequences, tinyConfig, tokenizer } from "../tiny.ts";

beforeAll(gpuReady);

const opened: Model[] = [];
afterEach(() => {
  for (const model of opened.splice(0)) model.destroy();
});
const keep = <M extends Model>(model: M): M => {
  opened.push(model);
  return model;
};
const policy = (seed = 1, label = "policy") => keep(new CausalLM(tinyConfig(), label).initialize(seed));
const scorer = (seed = 2) => keep(new ScoreModel(tinyConfig(), "scorer").initialize(seed));

const lengthReward = async (responses: readonly Response[]) => responses.map((r) => r.ids.length - r.promptLength);

type Extra = Partial<PpoSettings> & { dialect?: "paddle" | "paddle-late" | "safe" | "trl" };
/** What a run is given, flat: models, data and where it goes. */
type More = Partial<Omit<PpoModels, "rewards">> &
  RunOptions & {
    reward?: RewardFunction;
    prompts?: readonly Prompt[];
    evalPrompts?: readonly Prompt[];
  } & Pick<PpoData, "ptx" | "ptxEval">;

function setup(extra: Extra = {}, more: More = {}) {
  const { reward = lengthReward, prompts: train = prompts(8), evalPrompts, ptx, ptxEval, ...others } = more;
  const { folder, resume, signal, ...given } = others;
  const models = {
    policy: policy(),
    reference: policy(1, "reference"),
    critic: scorer(),
    rewards: reward,
    tokenizer,
    ...given,
  };
  const data: PpoData = { train, eval: evalPrompts ?? [], ...(ptx && { ptx }), ...(ptxEval && { ptxEval }) };
  const sizes = {
    rolloutBatchSize: 8,
    perDeviceTrainBatchSize: 4,
    responseLength: 6,
    learningRate: 1e-2,
    maxSteps: 2,
    seed: 5,
  };
  const options = { dialect: "paddle" as const, ...sizes, ...extra };
  return { models, data, options, run: { folder, resume, signal } };
}

const start = (extra: Extra = {}, more: More = {}) => {
  const { models, data, options, run } = setup(extra, more);
  return { models, events: trainPpo(models, data, options, run) };
};
const run = async (extra: Extra = {}, more: More = {}) => {
  const { models, events } = start(extra, more);
  const all = await collect(events);
  return { models, events: all, metrics: metricsOf(all) };
};

const settled = (extra: Extra = {}): PpoSettings => ppo(setup(extra).options);

/** Some experience that no rollout was needed for. */
const experienceOf = (list: readonly Sequence[], samples = 1): Experience[] =>
  list.map(({ ids, promptLength }, i) => {
    const n = ids.length - promptLength;
    const flat = (v: number) => new Float32Array(n).fill(v);
    const prompt = Math.floor(i / samples);
    const response = { ids, promptLength, prompt, sample: i % samples, promptText: "", text: "", ended: true };
    return {
      response,
      logProbs: flat(-5.8),
      refLogProbs: flat(-5.8),
      values: flat(0.1),
      advantages: flat(i - 1.5),
      returns: flat(i),
    };
  });

describe("the supervised loss beside PPO (ptx)", () => {
  const experience = () => experienceOf(sequences(4));
  const beside = () => sequences(8).slice(4);

  /** Gradient of a micro-step, all parameters in a row. */
  async function gradientOf(step: (actor: CausalLM) => unknown): Promise<number[]> {
    const actor = policy();
    actor.store.trainable();
    scope(() => {
      step(actor);
    });
    const all: number[] = [];
    for (const parameter of actor.store.parameters) all.push(...((await parameter.value.grad?.read()) ?? []));
    return all;
  }

  it.each([
    ["average", 0.5, 4],
    ["sum", 1, 4],
    ["average", 0.5, 2],
  ] as const)("combines gradients by %s", async (ptxCombination, half, batchSize) => {
    const sizes = { perDeviceTrainBatchSize: batchSize, gradientAccumulationSteps: 4 / batchSize };
    const options = settled({ ptxCombination, ptxCoef: 3, klCoef: 0, ...sizes });
    // Means of the passes' means.
    const passes = Array.from({ length: 4 / batchSize }, (_, i) => [i * batchSize, (i + 1) * batchSize] as const);
    const share = 1 / passes.length;
    const own = await gradientOf((actor) => {
      for (const [from, to] of passes) policyPass(actor, experience().slice(from, to), share, 0, options);
    });
    const other = await gradientOf((actor) => {
      for (const [from, to] of passes) nllPass(actor, beside().slice(from, to), share);
    });
    const norm = Math.sqrt(own.reduce((sum, g, i) => sum + (half * (g + 3 * other[i])) ** 2, 0));
    const actor = policy();
    const optimizer = new AdamW(actor.store, adamOf(options));
    const trainee = { model: actor, optimizer };
    const steps = minibatches(experience(), { rollout: 0, maxSteps: 2 }, options);
    const metrics = await updatePolicy(trainee, steps, { ptx: beside(), follower: null, klCoef: 0 }, options);
    optimizer.destroy();
    expect(Math.abs(metrics.actor_grad_norm / norm - 1)).toBeLessThan(1e-4);
  });

  it("logs both losses as they are, whatever is made of their gradients", async () => {
    const ptx = beside();
    const before = (await evaluateSft(policy(), ptx)).eval_loss;
    const alone = await run({ maxSteps: 1, perDeviceTrainBatchSize: 8 });
    const both = await run({ maxSteps: 1, perDeviceTrainBatchSize: 8, ptxCoef: 16 }, { ptx });
    expect(alone.metrics[0].ptx_loss).toBeUndefined();
    expect(both.metrics[0].actor_loss).toBe(alone.metrics[0].actor_loss);
    expect(both.metrics[0].ptx_loss).toBeCloseTo(before, 4);
    expect(both.metrics[0]["train/ptx_loss"]).toBe(both.metrics[0].ptx_loss);
  });

  it("is learned, and only measured with a weight of 0", async () => {
    const data = { ptx: sequences(8), ptxEval: sequences(8), evalPrompts: prompts(2) };
    const lossAfter = async (ptxCoef: number) => {
      const { events } = await run({ maxSteps: 4, evalSteps: 4, ptxCoef }, data);
      return events.flatMap((e) => (e.type === "eval" ? [e.metrics.eval_ptx_loss] : []));
    };
    const [with16, without] = [await lossAfter(16), await lossAfter(0)];
    expect(with16).toHaveLength(2);
    expect(with16[0]).toBe(without[0]);
    expect(with16[1]).toBeLessThan(with16[0] - 0.1);
    expect(without[1]).toBeGreaterThan(with16[1] + 0.1);
  });
});

describe("minibatches", () => {
  type Order = "chunks" | "prompts" | "shuffled";
  const sizes = { perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 2, numGenerations: 3, numPpoEpochs: 1 };
  /** Which responses each pass of each step learns from. Responses 0 .. n - 1 are those to the first prompt, and so on. */
  const places = (prompts: number, samples: number, order: Order, more: Partial<PpoSettings> = {}) => {
    const experience = experienceOf(sequences(prompts * samples), samples);
    const options = settled({ ...sizes, numGenerations: samples, minibatchOrder: order, ...more });
    return minibatches(experience, { rollout: 1, maxSteps: 2 }, options).map((s) =>
      s.parts.map((p) => p.map((e) => experience.indexOf(e))),
    );
  };

  it.each([
    // Three prompts, two responses to each, two in a pass: c0r0, c0r1 | c1r0, c1r1
    ["chunks", 3, 2, [[[0, 2], [1, 3]], [[4], [5]]]],
    ["prompts", 3, 2, [[[0, 1], [2, 3]], [[4, 5]]]],
    // A pass never has more prompts than there are.
    ["chunks", 1, 3, [[[0], [1]], [[2]]]],
    ["chunks", 4, 1, [[[0, 1], [2, 3]]]],
  ] as const)("in the order %s, of %d prompts with %d responses", (order, prompts, samples, expected) => {
    expect(places(prompts, samples, order)).toEqual(expected);
  }); // biome-ignore format: one line per case

  it("are drawn anew in every epoch", () => {
    const drawn = places(2, 3, "shuffled", { numPpoEpochs: 2, gradientAccumulationSteps: 1 });
    expect(drawn.slice(0, 3).flat(2).sort()).toEqual([0, 1, 2, 3, 4, 5]);
    expect(drawn.slice(3)).not.toEqual(drawn.slice(0, 3));
  });

  it("fill every step but a rollout's last, over the ends of epochs", () => {
    const three = { numPpoEpochs: 3, gradientAccumulationSteps: 2 };
    expect(places(3, 1, "chunks", three)).toEqual([[[0, 1], [2]], [[0, 1], [2]], [[0, 1], [2]]]); // biome-ignore format: one line
    expect(places(5, 1, "chunks", three).map((parts) => parts.length)).toEqual([2, 2, 2, 2, 1]);
    const experience = experienceOf(sequences(5));
    const steps = minibatches(experience, { rollout: 1, maxSteps: 2 }, settled({ ...sizes, ...three }));
    expect(steps.map((s) => [s.taken, s.total, s.rollout, s.rollouts])).toEqual(
      [5, 6, 7, 8, 9].map((taken) => [taken, 10, 1, 2]),
    );
    expect(steps.map((s) => s.firsts)).toEqual([[0, 2], [4, 0], [2, 4], [0, 2], [4]]); // biome-ignore format: one line
    // Where some are left out, the learning rate stands where it would without.
    const place = { rollout: 1, maxSteps: 2, planned: 5 };
    const fewer = minibatches(experience.slice(0, 2), place, settled({ ...sizes, ...three }));
    expect(fewer.map((s) => [s.taken, s.total])).toEqual([[5, 10], [6, 10]]); // biome-ignore format: one line
  });
});

describe("log-probabilities of rollout and update", () => {
  it.each([
    ["raw", { tempered: "never" }, true],
    ["tempered", { tempered: "always" }, true],
    ["tempered in the rollout alone", { tempered: "rollout" }, false],
    [
      "raw, of truncated sampling",
      { tempered: "never", topP: 0.8, topK: 50, minP: 0.01, repetitionPenalty: 1.2 },
      true,
    ],
  ] as const)("%s", async (_, options, equal) => {
    const { metrics } = await run({ ...options, temperature: 0.6, maxSteps: 1 });
    if (equal) expect(Math.abs(metrics[0].first_ratio - 1)).toBeLessThan(1e-6);
    else expect(Math.abs(metrics[0].first_ratio - 1)).toBeGreaterThan(1e-3);
  });
});

describe("a rollout", () => {
  const rolledOut = async (extra: Extra, more: More = {}, klCoef = 0.5) => {
    const { models, data, options } = setup(extra, more);
    const {
      policy,
      reference,
      rewards,
      sampler = policySampler(policy, tokenizer),
    } = models as PpoModels & { reference: CausalLM };
    const given = {
      policy,
      reference,
      tokenizer,
      rewards: rewardParts(rewards, tokenizer, null),
      sampler,
      prompts: data.train as Prompt[],
    };
    const state = { klCoef, normalizer: freshNormalizer() };
    return collectRollout(given, [0, 1, 2, 3, 4, 5, 6, 7], 0, state, ppo(options));
  };

  it("takes the KL off the rewards, or leaves it to the loss", async () => {
    const reference = policy(9, "other");
    const inReward = await rolledOut({}, { reference });
    const inLoss = await rolledOut({ klPlacement: "loss", klCoef: 0 }, { reference });
    inReward.rewards.forEach((rewards, i) => {
      const d = inReward.logProbs[i].map((p, t) => p - inReward.refLogProbs[i][t]);
      const score = (t: number) => (t === rewards.length - 1 ? inReward.scores[i] : 0);
      rewards.forEach((r, t) => {
        expect(r).toBeCloseTo(-0.5 * d[t] + score(t), 5);
        expect(inLoss.rewards[i][t]).toBeCloseTo(score(t), 12);
      });
    });
    expect(inLoss.metrics.kl).toBe(inReward.metrics.kl);
    const clamped = await rolledOut({ klClamp: 1e-3 }, { reference });
    expect(Math.abs(clamped.metrics.kl_per_token)).toBeLessThanOrEqual(1e-3);
  });

  it("punishes responses that do not end", async () => {
    const [plain, punished] = [await rolledOut({}), await rolledOut({ missingEosPenalty: 3 })];
    const lost = plain.rewards.map((r, i) => r[r.length - 1] - punished.rewards[i][r.length - 1]);
    expect(lost).toEqual(plain.responses.map((r) => (r.ended ? 0 : 3)));
    expect(lost).toContain(3);
    expect(punished.scores).toEqual(plain.scores);
  });

  it("keeps responses, or prompt and response, within max_length, whatever its dialect counts", async () => {
    const lengths = async (extra: Extra) =>
      (await rolledOut({ ...extra, responseLength: undefined })).responses.map((r) => [r.promptLength, r.ids.length]);
    const whole = (await rolledOut({ responseLength: 40 })).responses;
    for (const dialect of ["paddle", "paddle-late", "safe", "trl"] as const) {
      const found = await lengths({ dialect, maxLength: 20 });
      const ends = whole.map(({ ids, promptLength }) => {
        const most = dialect === "paddle" ? promptLength + 20 : Math.max(promptLength + 1, 20);
        return [promptLength, Math.min(ids.length, most)];
      });
      expect(found, dialect).toEqual(ends);
      expect(ends.some(([, length], i) => length < whole[i].ids.length)).toBe(true);
    }
    expect(ppo({}).responseLength).toBe(64);
    expect(ppo({ dialect: "safe", maxLength: 512, responseLength: 32 }).responseLength).toBe(32);
    expect(() => ppo({ maxLength: 512, responseLength: 32 })).toThrow(/both say how long a response may be/);
    expect(ppo({ maxLength: 512, responseLength: 512 }).maxLengthOf).toBe("response");
  });

  it("goes as far as the context where prompt and response together may", async () => {
    const context = tinyConfig().maxPositions;
    const { responses } = await rolledOut({ dialect: "safe", maxLength: context, responseLength: undefined });
    expect(Math.max(...responses.map((r) => r.ids.length))).toBeLessThanOrEqual(context);
    await expect(rolledOut({ maxLength: context, responseLength: undefined })).rejects.toThrow(
      /exceeds the context of 64/,
    );
  });

  it("keeps prompt and response within a length together", async () => {
    const whole = await rolledOut({});
    const longest = Math.max(...whole.responses.map((r) => r.ids.length));
    const limit = { maxLength: longest - 2, maxLengthOf: "sequence" } as const;
    const deaf = { sampler: async () => whole.responses }; // one that knows of no such limit
    for (const short of [await rolledOut(limit), await rolledOut(limit, deaf)]) {
      short.responses.forEach(({ ids, ended, promptLength, text }, i) => {
        const before = whole.responses[i];
        const room = Math.max(promptLength + 1, longest - 2);
        expect(ids).toEqual(before.ids.slice(0, room));
        if (before.ids.length > room) expect(ended).toBe(false);
        expect(text).toBe(tokenizer.decode(ids.subarray(promptLength), { continued: true }));
      });
      expect(short.responses.some((r, i) => r.ids.length < whole.responses[i].ids.length)).toBe(true);
    }
    expect(withinLength(whole.responses[0], 1, tokenizer).ids.length).toBe(whole.responses[0].promptLength + 1);
  });

  it("gives scores a slot after the last token, whose value is the last token's", async () => {
    const rollout = await rolledOut({ dialect: "trl", responseLength: 6 });
    const full = rollout.responses.map((r) => r.ids.length - r.promptLength === 6);
    expect(rollout.rewards.map((r) => r.length)).toEqual(
      rollout.responses.map((r, i) => r.ids.length - r.promptLength + Number(!full[i])),
    );
    const total = rollout.logProbs.reduce((sum, l) => sum + l.reduce((a, b) => a + b, 0), 0);
    expect(rollout.metrics.sampled_entropy).toBeCloseTo(-total / rollout.logProbs.length, 6);
    const critic = scorer(3);
    const { responses } = rollout;
    const slots = responses.map((r) => r.ids.length - r.promptLength + 1);
    const values = await responseValues(critic, responses, slots);
    const ends = scope(() =>
      noGrad(() => {
        const { ids, packing, starts } = pack(responses);
        return critic.scores(ids, packing, endRows(responses, starts));
      }),
    );
    const last = await ends.read();
    ends.free("test");
    values.forEach((v, i) => {
      expect(v.length).toBe(slots[i]);
      expect(v[v.length - 1]).toBeCloseTo(last[i], 5);
    });
    const plain = await responseValues(critic, responses);
    expect(values.map((v) => [...v.slice(0, -1)])).toEqual(plain.map((v) => [...v]));
  });

  it("normalises by running statistics, or by those of the reward model's training", async () => {
    const running = await rolledOut({ dialect: "paddle-late", klCoef: 0 }, {}, 0);
    const ends = running.rewards.map((r) => r[r.length - 1]);
    expect(Math.abs(ends.reduce((a, b) => a + b, 0))).toBeLessThan(1e-9);
    const judge = scorer(4);
    expect(() => modelReward(judge, { normalize: true })).toThrow(/kept no statistics/);
    const raw = await rolledOut({}, { reward: modelReward(judge) });
    judge.scoring.normalizer = { kind: "RunningMeanStd", momentum: 0.9, mean: 0.25, variance: 4, count: 10 };
    const normalized = await rolledOut({}, { reward: modelReward(judge, { normalize: true }) });
    normalized.scores.forEach((s, i) => {
      expect(s).toBeCloseTo((raw.scores[i] - 0.25) / 2, 5);
    });
  });
});

describe("a moving average of the actor", () => {
  it("follows it after every optimizer step", async () => {
    const average = policy(1, "average");
    const start = await average.store.read();
    const { models } = await run({ emaBeta: 0.75, maxSteps: 1, perDeviceTrainBatchSize: 8 }, { average });
    const end = await models.policy.store.read();
    for (const [name, values] of await average.store.read()) {
      values.forEach((x, i) => {
        expect(x).toBeCloseTo(0.75 * start.get(name)![i] + 0.25 * end.get(name)![i], 6);
      });
    }
  });

  it("samples, unless it is only kept; ratios are to it, unless the actor counts as who drew", async () => {
    const texts = async (emaGeneration: boolean, more: { importanceSamplingCorrection?: "none" } = {}) => {
      const options = { emaBeta: 0.999999, emaGeneration, learningRate: 3e-2, ...more };
      const { events, metrics } = await run(options, { average: policy(1, "average") });
      const shown = events.flatMap((e) => (e.type === "samples" ? [e.samples.map((s) => s.response)] : []));
      return { second: shown[1], metrics: metrics[1] };
    };
    const { metrics, second } = await texts(true);
    expect(second).not.toEqual((await texts(false)).second);
    expect(Math.abs(metrics.first_ratio - 1)).toBeGreaterThan(1e-2);
    const own = await texts(true, { importanceSamplingCorrection: "none" });
    expect(own.second).toEqual(second);
    expect(Math.abs(own.metrics.first_ratio - 1)).toBeLessThan(1e-6);
  });
});

describe("the critic's optimizer", () => {
  it("has a schedule of its own", async () => {
    const own = {
      criticLearningRate: 4e-3,
      criticLrSchedulerType: "cosine_with_min_lr",
      criticMinLearningRate: 1e-3,
    } as const;
    const { metrics } = await run({
      ...own,
      lrSchedulerType: "linear",
      perDeviceTrainBatchSize: 8,
      maxSteps: 3,
      criticDecaySteps: 2,
    });
    expect(metrics.map((m) => m.learning_rate)).toEqual([1e-2, 1e-2 * (1 - 1 / 3), 1e-2 * (1 - 2 / 3)]);
    const [a, b, c] = metrics.map((m) => m.critic_learning_rate);
    expect(a).toBe(4e-3);
    expect(b).toBeCloseTo(2.5e-3, 12);
    expect(c).toBeCloseTo(1e-3, 12);
    const shared = await run({ criticLearningRate: 4e-3, lrSchedulerType: "linear", perDeviceTrainBatchSize: 8 });
    expect(shared.metrics.map((m) => m.critic_learning_rate)).toEqual([4e-3, 2e-3]);
  });
});

describe("offloading", () => {
  const judged = () => ({ reward: modelReward(scorer(4)), average: policy(1, "average") });

  it("changes no result, and gives memory back", async () => {
    const measured = async (offloadLevel: PpoSettings["offloadLevel"]) => {
      const more = judged();
      const { models, events: going } = start(
        { offloadLevel, emaBeta: 0.5, ptxCoef: 1, maxSteps: 2 },
        { ...more, ptx: sequences(4) },
      );
      const events: TrainEvent[] = [];
      let held = 0;
      for await (const event of going) {
        trim();
        if (event.type === "step") held = poolStats().poolBytes;
        events.push(event);
      }
      expect(models.policy.store.resident.here).toBe(!offloadLevel.includes("train_model"));
      for (const { store } of [models.policy, more.average]) store.resident.restore();
      const weights = [...(await models.policy.store.read()), ...(await more.average.store.read())];
      for (const model of opened.splice(0)) model.destroy();
      return { held, metrics: metricsOf(events), weights };
    };
    const bytes = (model: Model) => {
      opened.pop();
      model.destroy();
      return model.store.chunks.reduce((n, c) => n + c.size * 4, 0);
    };
    const [lm, score] = [bytes(policy()), bytes(scorer())];
    const bare = await measured([]);
    const held = { none: bare.held } as Record<string, number>;
    for (const levels of [...offloadLevels.map((level) => [level]), [...offloadLevels]]) {
      const { metrics, weights, held: now } = await measured(levels);
      expect(metrics).toEqual(bare.metrics);
      expect(weights).toEqual(bare.weights);
      held[levels.join(" ")] = now;
    }
    const saved = (levels: string) => held.none - held[levels];
    expect(saved("freeze_model")).toBe(lm + score); // reference and reward model
    expect(saved("optimizer")).toBe(2 * lm + 2 * score); // two moments of actor and critic
    expect(saved("train_model")).toBe(3 * lm + 2 * score); // both with gradients, and the moving average
    const sum = offloadLevels.reduce((total, level) => total + saved(level), 0);
    expect(saved(offloadLevels.join(" "))).toBe(sum);
  });
});

describe("offloading adapters", () => {
  it("changes no result where all models stand on one base", async () => {
    const lora = { rank: 2, alpha: 4, targets: "all-linear", dropout: 0 } as const;
    const trained = async (offloadLevel: PpoSettings["offloadLevel"]) => {
      const base = keep(new CausalLM(tinyConfig(), "base").initialize(1));
      const judge = keep(new ScoreModel({ base, lora }, "judge").initialize(4));
      const policy = keep(new CausalLM({ base, lora }, "policy").initialize(2));
      const critic = keep(new ScoreModel({ base, lora }, "critic").initialize(3));
      const models = { policy, critic, reference: base, reward: modelReward(judge) };
      const { metrics } = await run({ offloadLevel }, models);
      if (!policy.store.resident.here) policy.store.resident.restore();
      return { metrics, weights: await policy.store.read() };
    };
    expect(await trained(offloadLevels)).toEqual(await trained([]));
  });
});

describe("what a run leaves", () => {
  const readText = async (files: ReturnType<typeof memoryFiles>, path: string) =>
    new TextDecoder().decode((await files.read(path)) ?? new Uint8Array());

  it("policy, value and moving average are models in their own folders, the policy in the output folder, too", async () => {
    const files = memoryFiles();
    const average = policy(1, "average");
    const { models } = await run({ emaBeta: 0.5 }, { average, folder: { files, path: "out" } });
    const want = await models.policy.store.read();
    for (const folder of ["out", "out/policy"]) {
      expect(await keep(await loadCausalLM(files, folder)).store.read()).toEqual(want);
    }
    expect(await keep(await loadCausalLM(files, "out/ema")).store.read()).toEqual(await average.store.read());
    const value = keep(await loadScoreModel(files, "out/value"));
    expect(await value.store.read()).toEqual(await models.critic.store.read());
  });

  it("evaluations before training, on the way and at the end", async () => {
    const files = memoryFiles();
    const evalPrompts = prompts(14).slice(8);
    const { events } = await run({ evalSteps: 2, maxSteps: 3 }, { evalPrompts, folder: { files, path: "out" } });
    const evals = events.flatMap((e) => (e.type === "eval" ? [e] : []));
    expect(evals.map((e) => e.step)).toEqual([0, 2, 3]);
    expect(events.findIndex((e) => e.type === "eval")).toBeLessThan(events.findIndex((e) => e.type === "step"));
    for (const { step, metrics, rows } of evals) {
      const lines = (await readText(files, `out/eval_out-step${step}.jsonl`))
        .trim()
        .split("\n")
        .map((l) => JSON.parse(l));
      expect(lines.map((l) => l.prompt)).toEqual(evalPrompts.map((p) => p.text));
      expect(rows).toEqual(lines.slice(0, 5));
      expect(metrics.eval_reward).toBeCloseTo(lines.reduce((sum, l) => sum + l.reward, 0) / lines.length, 9);
      expect(metrics["eval/reward"]).toBe(metrics.eval_reward);
    }
  });

  it("how often the clip bounds the loss, which depends on the sign of the advantage", async () => {
    const options = settled({ clipRange: 0.01, klCoef: 0 });
    const actor = policy();
    const experience = experienceOf(sequences(4));
    const responses = experience.map((e) => e.response);
    const { logProbs } = await responseLogProbs(actor, responses);
    const bound = experience.flatMap(({ advantages, logProbs: old }, i) =>
      Array.from(logProbs[i], (lp, t) => {
        const ratio = Math.exp(lp - old[t]);
        return Number(advantages[t] * Math.min(Math.max(ratio, 0.99), 1.01) < advantages[t] * ratio);
      }),
    );
    const optimizer = new AdamW(actor.store, adamOf(options));
    const beside = { ptx: [], follower: null, klCoef: 0 };
    const steps = minibatches(experience, { rollout: 0, maxSteps: 2 }, options);
    const metrics = await updatePolicy({ model: actor, optimizer }, steps, beside, options);
    optimizer.destroy();
    expect(metrics.bound_fraction).toBeCloseTo(bound.reduce((sum, x) => sum + x, 0) / bound.length, 9);
    expect(metrics.bound_fraction).toBeGreaterThan(0);
    expect(metrics.clip_fraction).toBeGreaterThan(metrics.bound_fraction);
  });

  it("metrics under the names of the dialect's program", async () => {
    const names = {
      paddle: ["train/actor_loss", "train/reward_critic_loss", "train/reward", "train/kl_divergence", "train/actor_lr"],
      safe: ["train/reward_with_kl_penalty", "train/reward_advantage", "train/reward_return", "train/reward_value"],
      "paddle-late": ["train_policy_loss", "train_value_loss", "train_norm_reward", "train_kl_divergence"],
      trl: [
        "objective/kl",
        "objective/rlhf_reward",
        "objective/entropy",
        "policy/clipfrac_avg",
        "policy/approxkl_avg",
        "loss/value_avg",
        "val/clipfrac_avg",
      ],
    };
    for (const [dialect, expected] of Object.entries(names)) {
      const { metrics } = await run({ dialect: dialect as keyof typeof names, maxSteps: 1 });
      for (const name of expected) expect(metrics[0][name], `${dialect} ${name}`).toEqual(expect.any(Number));
      if (dialect === "paddle-late") expect(metrics[0].train_kl_divergence).toBe(metrics[0].kl_per_token);
      if (dialect === "paddle") expect(metrics[0]["train/kl_divergence"]).toBe(metrics[0].kl);
      expect(Object.values(metrics[0]).every(Number.isFinite)).toBe(true);
    }
  });
});

describe("a step", () => {
  it("takes the time of its responses and rewards, too", async () => {
    let clock = 0; // milliseconds that only the reward lets pass
    const spy = vi.spyOn(performance, "now").mockImplementation(() => clock);
    const reward: RewardFunction = async (responses) => {
      clock += 5000;
      return lengthReward(responses);
    };
    const { events } = await run({ maxSteps: 2 }, { reward }).finally(() => spy.mockRestore());
    expect(events.flatMap((e) => (e.type === "step" ? [e.seconds] : []))).toEqual([5, 5]);
  });
});

describe("bad options are refused before anything is trained", () => {
  it.each([
    [{ numPpoEpochs: 0 }, /numPpoEpochs must be a whole number of at least 1, not 0/],
    [{ perDeviceTrainBatchSize: 0 }, /perDeviceTrainBatchSize must be/],
    [{ gradientAccumulationSteps: 0.5 }, /gradientAccumulationSteps must be/],
    [{ dualClip: 1 }, /dualClip must be a number above 1/],
    [{ emaBeta: 1 }, /emaBeta must be/],
    [{ evalSteps: 1 }, /needs held-out prompts/],
    [{ minNewTokens: 7 }, /minNewTokens 7 is more than responseLength 6/],
    [{ targetKl: 1, klCoef: 0 }, /targetKl multiplies klCoef, which is 0/],
    [{ klPlacement: "loss" }, /klPlacement loss needs klEstimator k2 or k3/],
  ] as const)("%o", async (options, message) => {
    await expect(run(options)).rejects.toThrow(message);
  });

  it("and data without anything to learn", async () => {
    await expect(run({}, { prompts: [] })).rejects.toThrow(/no prompt to respond to/);
    const empty = sequences(1).map(({ promptLength, ids }) => ({ ids: ids.slice(0, promptLength), promptLength }));
    await expect(run({}, { ptx: empty })).rejects.toThrow(/no token to learn/);
  });
});

describe("resume", () => {
  const hard: [string, Extra][] = [
    [
      "late, ptx, moving average, offloaded",
      { dialect: "paddle-late", emaBeta: 0.9, offloadLevel: offloadLevels, targetKl: 1e-3 },
    ],
    [
      "TRL, KL as loss",
      { dialect: "trl", klPlacement: "loss", klEstimator: "k2", entropyCoef: 0.01, whitenRewards: true },
    ],
    [
      "safe-rlhf, two responses each, dual clip",
      { dialect: "safe", numGenerations: 2, dualClip: 2, gradientAccumulationSteps: 2 },
    ],
  ];

  it.each(hard)("%s", async (_, options) => {
    const begin = (files: ReturnType<typeof memoryFiles>, signal?: AbortSignal, resume?: boolean) => {
      const average = options.emaBeta ? { average: policy(1, "average"), ptx: sequences(6) } : {};
      const more = { ...average, evalPrompts: prompts(2), folder: { files, path: "out" }, resume, signal };
      return start({ ...options, maxSteps: 4, evalSteps: 2, criticLrSchedulerType: "cosine" }, more).events;
    };
    const whole = memoryFiles();
    const straight = await collect(begin(whole));
    for (const stopAt of [1, 2]) {
      const broken = memoryFiles();
      const controller = new AbortController();
      for await (const event of begin(broken, controller.signal)) {
        if (event.type === "step" && event.step === stopAt) controller.abort();
      }
      if (stopAt === 2) expect(await broken.read("out/eval_out-step2.jsonl")).not.toBeNull();
      const rest = metricsOf(await collect(begin(broken, undefined, true)));
      expect(rest).toEqual(metricsOf(straight).slice(stopAt));
      const folders = ["policy", "value", ...(options.emaBeta ? ["ema"] : [])];
      for (const file of [
        ...folders.map((f) => `${f}/model.safetensors`),
        "eval_out-step2.jsonl",
        "eval_out-step4.jsonl",
      ]) {
        expect(await broken.read(`out/${file}`)).toEqual(await whole.read(`out/${file}`));
        expect(await whole.read(`out/${file}`)).not.toBeNull();
      }
    }
  });
});

describe("a reward that fails", () => {
  it("leaves what was learned before, and ends the run with a sentence", async () => {
    const begin = (files: ReturnType<typeof memoryFiles>, reward: RewardFunction, resume = false) =>
      start({ dialect: "paddle-late", maxSteps: 3 }, { reward, folder: { files, path: "out" }, resume }).events;
    const failing = (after: number): RewardFunction => {
      let calls = 0;
      return async (responses) => {
        calls += 1;
        return calls > after ? responses.map(() => Number.NaN) : lengthReward(responses);
      };
    };
    const whole = memoryFiles();
    const straight = metricsOf(await collect(begin(whole, lengthReward)));
    const broken = memoryFiles();
    await expect(collect(begin(broken, failing(0)))).rejects.toThrow(/returned NaN .* must be a finite number$/);
    expect(await broken.list("out")).toEqual([]);
    await expect(collect(begin(broken, failing(2)))).rejects.toThrow(/finite number\. .* is in checkpoint-2: resume/);
    await expect(collect(begin(broken, failing(0), true))).rejects.toThrow(/must be a finite number$/);
    expect(metricsOf(await collect(begin(broken, lengthReward, true)))).toEqual(straight.slice(2));
    for (const file of ["policy/model.safetensors", "value/model.safetensors"]) {
      expect(await broken.read(`out/${file}`)).toEqual(await whole.read(`out/${file}`));
    }
  });
});
