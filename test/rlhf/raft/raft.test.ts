import { beforeAll, describe, expect, it } from "vitest";
import { memoryFiles, openDevice } from "webrlhf";
import { CausalLM } from "webrlhf/nn";
import {
  cleanLmflow,
  type Prompt,
  plantedReward,
  type RaftModels,
  type RaftSettings,
  type Response,
  type RewardFunction,
  type RunOptions,
  raft,
  type Sampler,
  sampleResponses,
  trainRaft,
} from "webrlhf/rlhf";
import { blockSizeOf, blocksOf } from "../../../src/rlhf/raft/learn.ts";
import { rules } from "../../../src/rlhf/raft.ts";
import { streamId, uint32 } from "../../../src/runtime/rng.ts";
import { collect, collectFailing, metricsOf, prompts, tinyConfig, tokenizer } from "../tiny.ts";

beforeAll(() => openDevice());

const fresh = (seed = 1) => new CausalLM(tinyConfig()).initialize(seed);
const lengthReward = async (responses: readonly Response[]) => responses.map((r) => r.ids.length - r.promptLength);
const small = {
  maxSteps: 1,
  raftBatchSize: 4,
  topRewardPercentage: 0.5,
  responseLength: 12,
  outputMinLength: null,
  cleanText: "none" as const,
  discardSample: "none" as const,
  perDeviceTrainBatchSize: 4,
  learningRate: 1e-3,
  showSamples: 0,
};

type Inputs = Omit<RaftModels, "rewards"> & { reward: RewardFunction; prompts: readonly Prompt[] } & RunOptions;

/** Trains with the small settings and others. */
const train = (
  { prompts, reward: rewards, folder, resume, signal, ...models }: Inputs,
  more: Partial<RaftSettings> = {},
) => trainRaft({ rewards, ...models }, { train: prompts }, { ...small, ...more }, { folder, resume, signal });

/** The responses that the reward sees in each iteration of a run. */
async function seenBy(options: Partial<RaftSettings>, more: object = {}, count = 8): Promise<Response[][]> {
  const seen: Response[][] = [];
  const reward = async (responses: readonly Response[]) => {
    seen.push([...responses]);
    return lengthReward(responses);
  };
  await collect(train({ policy: fresh(), reward, tokenizer, prompts: prompts(count), ...more }, options));
  return seen;
}

describe("lengths of responses", () => {
  const lengthOf = (r: Response) => r.ids.length - r.promptLength;

  it("are drawn anew for each prompt, and responses are those of the higher limit cut short", async () => {
    const options = { minNewTokens: 9, responseLength: 9, raftBatchSize: 8 };
    const [whole] = await seenBy(options);
    expect(whole.map(lengthOf)).toEqual(Array(16).fill(9));
    const [drawn] = await seenBy({ ...options, minNewTokens: 0, outputMinLength: 3 });
    const [long] = await seenBy({ ...options, minNewTokens: 0 });
    const limits = drawn.filter((r) => !r.ended).map((r) => [r.prompt, lengthOf(r)] as const);
    expect(new Set(limits.map(([, n]) => n)).size).toBeGreaterThan(2);
    for (const [, n] of limits) expect(n >= 3 && n < 9).toBe(true);
    // All samples of a prompt have one limit.
    expect(new Set(limits.map(([p, n]) => `${p}:${n}`)).size).toBe(new Set(limits.map(([p]) => p)).size);
    drawn.forEach((r, i) => {
      expect(Array.from(long[i].ids.subarray(0, r.ids.length))).toEqual(Array.from(r.ids));
      if (r.ids.length < long[i].ids.length) {
        expect(r.ended).toBe(false);
        expect(r.text).toBe(tokenizer.decode(r.ids.subarray(r.promptLength), { continued: true }));
      }
    });
  });

  it("end the conversation as they end the text, cut or cleaned", async () => {
    const asked = prompts(8).map((prompt) => ({ ...prompt, messages: [{ role: "user", content: prompt.text }] }));
    const options = { responseLength: 9, outputMinLength: 2 };
    const [cut] = await seenBy(options, { prompts: asked });
    expect(cut.map(({ messages }) => messages?.at(-1)?.content)).toEqual(cut.map(({ text }) => text));
    const [cleaned] = await seenBy(options, { prompts: asked, clean: (text: string) => `${text}!` });
    expect(cleaned.map(({ messages }) => messages?.at(-1)?.content)).toEqual(cut.map(({ text }) => `${text}!`));
  });

  it("are shared by an inference batch in top mode", async () => {
    const top = {
      collectionStrategy: "top",
      raftBatchSize: 8,
      outputMinLength: 2,
      inferenceBatchSizePerDevice: 4,
    } as const;
    const [drawn] = await seenBy(top, {}, 16);
    const cut = drawn.filter((r) => !r.ended);
    const groups = new Map<number, Set<number>>();
    for (const r of cut) {
      const group = Math.floor(r.prompt / 4);
      groups.set(group, (groups.get(group) ?? new Set()).add(lengthOf(r)));
    }
    for (const limits of groups.values()) expect(limits.size).toBe(1);
    expect(new Set([...groups.values()].flatMap((s) => [...s])).size).toBeGreaterThan(1);
  });
});

describe("prompts", () => {
  it("begin again when they are used up, or end the run", async () => {
    const again = await seenBy({ maxSteps: 3, raftBatchSize: 4 }, {}, 6);
    expect(again.map((r) => r.length)).toEqual([8, 8, 8]);
    const once = await seenBy({ maxSteps: 3, raftBatchSize: 4, reusePrompts: false }, {}, 6);
    expect(once.map((r) => r.length)).toEqual([8, 4]);
    expect(new Set(once.flat().map((r) => r.promptText)).size).toBe(new Set(prompts(6).map((p) => p.text)).size);
    // An exact multiple leaves no empty iteration.
    expect((await seenBy({ maxSteps: 3, raftBatchSize: 4, reusePrompts: false }, {}, 8)).length).toBe(2);
  });
});

describe("what is learned", () => {
  it("is what was kept, in files of LMFlow's form", async () => {
    const run = { files: memoryFiles(), path: "run" };
    await run.files.writeFile("run/train_set_7.json", "an earlier run's");
    const hooks = { clean: (text: string) => `${text.trim()}!`, discard: (r: Response) => r.sample === 0 };
    const [seen] = await seenBy({ maxSteps: 1 }, { ...hooks, folder: run });
    expect((await run.files.list("run")).filter((name) => name.startsWith("train_set"))).toEqual(["train_set_0.json"]);
    const set = JSON.parse(new TextDecoder().decode((await run.files.read("run/train_set_0.json"))!));
    const kept = seen.filter((r) => r.sample === 1);
    expect(set).toEqual({ type: "text_only", instances: kept.map((r) => ({ text: r.promptText + r.text })) });
    expect(kept.every((r) => r.text.endsWith("!"))).toBe(true);
  });

  it("is nothing when all is discarded, with a warning", async () => {
    const policy = fresh();
    const before = [...(await policy.store.read()).values()].flatMap((v) => [...v]);
    const inputs = { policy, reward: lengthReward, tokenizer, prompts: prompts(4), discard: () => true };
    const { events, message } = await collectFailing(train(inputs, { maxSteps: 2 }));
    expect(message).toBe("nothing was learned in any of 2 steps: all 8 responses were discarded");
    expect(metricsOf(events).map((m) => [m.n_kept, m.n_discarded, m.loss])).toEqual(Array(2).fill([0, 8, undefined]));
    expect(events.filter((e) => e.type === "warning")).toHaveLength(2);
    expect([...(await policy.store.read()).values()].flatMap((v) => [...v])).toEqual(before);
  });

  it("is cut into blocks, or learned in a row", () => {
    const sequence = (from: number, length: number, promptLength: number) => ({
      ids: Uint32Array.from({ length }, (_, i) => from + i),
      promptLength,
    });
    const data = [sequence(0, 3, 1), sequence(10, 4, 0), sequence(20, 11, 6)];
    const plain = (s: { ids: Uint32Array; promptLength: number; learned?: Uint8Array }) => [
      [...s.ids],
      s.promptLength,
      ...(s.learned ? [[...s.learned]] : []),
    ];
    expect(blocksOf(data, 4, false).map(plain)).toEqual([
      [[0, 1, 2], 1],
      [[10, 11, 12, 13], 0],
      [[20, 21, 22, 23], 4],
      [[24, 25, 26, 27], 2],
    ]);
    expect(blocksOf(data.slice(0, 2), 4, true).map(plain)).toEqual([[[0, 1, 2, 10], 0, [0, 1, 1, 1]]]);
    expect([blockSizeOf({ blockSize: null }, 1024), blockSizeOf({ blockSize: null }, 2048)]).toEqual([1024, 512]);
    expect([blockSizeOf({ blockSize: 700 }, 2048), blockSizeOf({ blockSize: 700 }, 64)]).toEqual([700, 64]);
  });

  it("has the learning rate of the schedule, over the run or in every iteration", async () => {
    const rates = async (options: Partial<RaftSettings>) => {
      const inputs = { policy: fresh(), reward: lengthReward, tokenizer, prompts: prompts(8) };
      const events = await collect(train(inputs, { maxSteps: 2, numTrainEpochs: 2, ...options }));
      return metricsOf(events).map((m) => m.learning_rate / 1e-3);
    };
    // Two optimizer steps per iteration; the metric is the last one's.
    expect(await rates({})).toEqual([1, 1]);
    const whole = await rates({ lrSchedulerType: "linear" });
    expect(whole[0]).toBeCloseTo(0.75, 12);
    expect(whole[1]).toBeCloseTo(0.25, 12);
    expect(await rates({ lrSchedulerType: "linear-per-iteration" })).toEqual([0.5, 0.5]);
  });
});

describe("ranking by the KL", () => {
  it("prefers likely responses when beta is large, and needs a reference", async () => {
    const reference = fresh(5);
    const reward = async (r: readonly Response[]) => r.map(() => 0);
    const run = { files: memoryFiles(), path: "run" };
    const inputs = { policy: fresh(6), reference, reward, tokenizer, prompts: prompts(8), folder: run };
    const events = await collect(train(inputs, { raftBatchSize: 8, topRewardPercentage: 0.25, klBeta: 1 }));
    const set = JSON.parse(new TextDecoder().decode((await run.files.read("run/train_set_0.json"))!));
    const without = { ...inputs, policy: fresh(6), folder: { files: memoryFiles(), path: "run" } };
    await collect(train(without, { raftBatchSize: 8, topRewardPercentage: 0.25 }));
    const first = JSON.parse(new TextDecoder().decode((await without.folder.files.read("run/train_set_0.json"))!));
    // Without the KL all rewards tie and the first sample wins.
    expect(set.instances).not.toEqual(first.instances);
    expect(metricsOf(events)[0].kl).not.toBe(0);
    const { reference: _, ...lone } = inputs;
    await expect(collect(train(lone, { klBeta: 1 }))).rejects.toThrow(/needs the reference/);
  });

  it("takes responses that cleaning emptied", async () => {
    const clean = (text: string) => (text.length % 2 === 0 ? "" : text);
    const more = { clean, reference: fresh(3), reward: async (r: readonly Response[]) => r.map((x) => x.text.length) };
    const inputs = { policy: fresh(2), tokenizer, prompts: prompts(4), ...more };
    const [metrics] = metricsOf(await collect(train(inputs, { klBeta: 0.1 })));
    expect(Number.isFinite(metrics.loss)).toBe(true);
  });
});

describe("a model with two end tokens", () => {
  const first = tokenizer.eosId as number;
  const second = tokenizer.encode(" the")[0];
  /** What the reward sees, and how many tokens there were, when every response ends in one of them. */
  const ending = async (end: number, appendEos: boolean) => {
    const policy = new CausalLM({ ...tinyConfig(), eosIds: [first, second] }).initialize(1);
    const sampler: Sampler = async (given, ids, options) =>
      (await sampleResponses(policy, tokenizer, given, ids, { ...options, minNewTokens: 6, maxNewTokens: 6 })).map(
        (r) => ({
          ...r,
          ids: Uint32Array.from([...r.ids, end]),
          ended: true,
        }),
      );
    const seen: Response[] = [];
    const reward = async (responses: readonly Response[]) => {
      seen.push(...responses);
      return responses.map(() => 1);
    };
    const inputs = { policy, sampler, reward, tokenizer, prompts: prompts(4), clean: (text: string) => `${text}!` };
    const events = await collect(train(inputs, { appendEos, maskPrompt: true }));
    return { seen, tokens: events.flatMap((e) => (e.type === "step" ? [e.tokens] : []))[0] };
  };

  it("keeps the one that a response ended with, or learns neither", async () => {
    const [one, other] = [await ending(first, false), await ending(second, false)];
    expect(one.seen.every((r) => r.ids.at(-1) === first)).toBe(true);
    expect(other.seen.every((r) => r.ids.at(-1) === second)).toBe(true);
    expect(other.tokens).toBe(one.tokens);
    expect((await ending(second, true)).tokens).toBeGreaterThan(one.tokens);
  });
});

describe("the watch", () => {
  /** A sampler whose policy discovers '#': rare at first, in most responses later. */
  const discovering =
    (share: (iteration: number) => number): Sampler =>
    async (given, ids, options) => {
      const drawn = await sampleResponses(fresh(), tokenizer, given, ids, options);
      return drawn.map((r, i) => ({ ...r, text: (i * 0.618) % 1 < share(options.iteration) ? `${r.text} #` : r.text }));
    };
  const inputs = () => ({
    policy: fresh(),
    reward: plantedReward(async (r) => r.map((x) => (x.prompt % 3) + (x.sample % 2) / 2), "#", 2),
    tokenizer,
    prompts: prompts(8),
  });

  it("works on tokens and keeps what it compares with over a stop", async () => {
    const options = { raftBatchSize: 8, maxSteps: 3, monitorThreshold: 0.5 };
    const rows = async (folder?: { files: ReturnType<typeof memoryFiles>; path: string }) => {
      const events = await collect(train({ ...inputs(), folder, resume: folder !== undefined }, options));
      return events.flatMap((e) => (e.type === "rows" && e.table === "monitor" ? e.rows : []));
    };
    const straight = await rows();
    expect(straight.length).toBeGreaterThan(0);
    expect(straight.every((r) => r.iteration !== 0)).toBe(true);
    const run = { files: memoryFiles(), path: "run" };
    const controller = new AbortController();
    for await (const e of train({ ...inputs(), folder: run, signal: controller.signal }, options)) {
      if (e.type === "step" && e.step === 1) controller.abort();
    }
    expect(await rows(run)).toEqual(straight);
  });

  it("can be turned off", async () => {
    const events = await collect(train(inputs(), { monitor: false, maxSteps: 2 }));
    expect(events.filter((e) => e.type === "rows").map((e) => (e.type === "rows" ? e.table : ""))).toEqual([
      "raft",
      "raft",
    ]);
  });

  it("is about the reward: a planted text is worth its bonus once", async () => {
    const texts = ["a", "#", "# and #"].map((text) => ({ text }) as Response);
    expect(await plantedReward(async () => [1, 1, 1], "#", 0.5)(texts)).toEqual([1, 1.5, 1.5]);
  });

  it("sees what is discarded, too", async () => {
    const share = (iteration: number) => (iteration === 0 ? 0.02 : 0.7);
    const discard = (r: { text: string }) => r.text.includes("#");
    const more = { ...inputs(), sampler: discovering(share), discard };
    const metrics = metricsOf(await collect(train(more, { raftBatchSize: 8, maxSteps: 2 })));
    expect(metrics[1].n_discarded).toBeGreaterThan(metrics[0].n_discarded);
    expect(metrics[1].train_reward).toBeLessThan(2.6);
  });
});

describe("options", () => {
  it("that contradict themselves are refused", async () => {
    const run = (options: Partial<RaftSettings>, count = 4) =>
      collect(train({ policy: fresh(), reward: lengthReward, tokenizer, prompts: prompts(count) }, options));
    await expect(run({}, 0)).rejects.toThrow(/no prompt to respond to/);
    await expect(run({ topRewardPercentage: 0 })).rejects.toThrow(/topRewardPercentage must be/);
    await expect(run({ outputMinLength: 0 })).rejects.toThrow(/outputMinLength must be/);
    await expect(run({ minNewTokens: 13 })).rejects.toThrow(/minNewTokens 13 is more than responseLength 12/);
    await expect(run({ blockSize: 1 })).rejects.toThrow(/blockSize must be/);
  });

  it("of LMFlow clean and discard in local mode only", () => {
    const rulesOf = (collectionStrategy: "local" | "top", dialect: "lmflow" | "corrected") =>
      rules(raft({ collectionStrategy, dialect }));
    expect(rulesOf("local", "lmflow").clean).toBe(cleanLmflow);
    expect(rulesOf("top", "lmflow")).toEqual({});
    expect(rulesOf("local", "corrected")).toEqual({});
    expect(rules(raft())).toEqual({ clean: cleanLmflow, discard: expect.any(Function) });
  });
});

describe("evaluation during training", () => {
  const all = prompts(10);
  const [learned, held] = [all.slice(0, 6), all.slice(6)];
  const settings = { ...small, maxSteps: 3, raftBatchSize: 6, learningRate: 1e-2, evalSteps: 2, seed: 7 };
  const gold = (r: Response) => r.ids.length % 5;

  async function evaluated(more: object = {}, { evalSteps = 2, data = { train: learned, eval: held } } = {}) {
    const folder = { files: memoryFiles(), path: "run" };
    const policy = fresh();
    const models = { policy, rewards: lengthReward, tokenizer, gold, ...more };
    const events = await collect(trainRaft(models, data, { ...settings, evalSteps }, { folder }));
    const found = events.flatMap((e) => (e.type === "eval" ? [e] : []));
    const written = await Promise.all(
      found.map(async ({ step }) => {
        const text = new TextDecoder().decode(
          (await folder.files.read(`run/eval_out-step${step}.jsonl`)) as Uint8Array,
        );
        return text
          .split("\n")
          .filter(Boolean)
          .map((line) => JSON.parse(line));
      }),
    );
    return { events, found, written, policy };
  }

  /** What a policy answers to the held-out prompts when it is evaluated. */
  const answers = (policy: CausalLM) =>
    sampleResponses(policy, tokenizer, held, [0, 1, 2, 3], {
      maxNewTokens: settings.responseLength,
      samples: 1,
      temperature: 0.85,
      seed: uint32(settings.seed, streamId("evaluation")),
      iteration: 0,
    });

  it("judges the policy's own responses to held-out prompts before, during and after", async () => {
    let asked = 0;
    const other = fresh(2);
    const sampler: Sampler = (...request) => {
      asked++;
      return sampleResponses(other, tokenizer, ...request);
    };
    const { events, found, written, policy } = await evaluated({ sampler });
    expect(found.map(({ step }) => step)).toEqual([0, 2, 3]);
    expect(asked).toBe(settings.maxSteps); // what is learned comes from elsewhere, what is judged does not
    for (const [i, model] of [
      [0, fresh()],
      [2, policy],
    ] as const) {
      const responses = await answers(model);
      const rewards = await lengthReward(responses);
      const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;
      const spread = Math.sqrt(rewards.reduce((all, r) => all + (r - mean(rewards)) ** 2, 0) / (rewards.length - 1));
      expect(written[i]).toEqual(
        responses.map((r, k) => ({ prompt: held[k].text, generated: r.text, reward: rewards[k] })),
      );
      expect(found[i].metrics.eval_reward).toBeCloseTo(mean(rewards), 6);
      expect(found[i].metrics.eval_reward_std).toBeCloseTo(spread, 6);
      expect(found[i].metrics.eval_gold).toBeCloseTo(mean(responses.map(gold)), 6);
      expect(found[i].metrics.eval_mean_length).toBeCloseTo(mean(rewards), 6);
      expect(found[i].metrics.eval_eos_rate).toBeCloseTo(mean(responses.map((r) => Number(r.ended))), 6);
    }
    expect(written[2]).not.toEqual(written[0]);
    const end = events.at(-1);
    expect(end?.type === "end" && end.metrics.eval_reward).toBe(found[2].metrics.eval_reward);
  });

  it("changes nothing of what is learned", async () => {
    const steps = (events: Awaited<ReturnType<typeof evaluated>>["events"]) => metricsOf(events);
    const none = { evalSteps: 0, data: { train: learned, eval: [] } };
    const [with_, without] = [await evaluated(), await evaluated({}, none)];
    expect(without.found).toEqual([]);
    expect(steps(with_.events)).toEqual(steps(without.events));
  });
});
