/** Online iterative DPO in an environment: pairs are the best and the worst episode of a prompt, and what the policy wrote counts alone. */
import { beforeAll, describe, expect, it } from "vitest";
import { type Files, memoryFiles } from "webrlhf";
import { readSampledRows, rowLine, type SampledRow } from "webrlhf/data";
import {
  type Environment,
  environmentReward,
  type IterateSettings,
  responseLogProbs,
  type TrainEvent,
  trainIteratively,
} from "webrlhf/rlhf";
import { gpuReady } from "../../helpers.ts";
import { keeper } from "../../keep.ts";
import { type Heard, listening, prompts, tokenizer } from "../environment/listening.ts";
import { wordPolicy } from "../environment/words.ts";
import { metricsOf } from "../tiny.ts";

beforeAll(gpuReady);

const keep = keeper();
const fresh = (seed = 2) => keep(wordPolicy(tokenizer, seed, { hiddenSize: 16, maxPositions: 80 }));
const settings: Partial<IterateSettings> = {
  iterations: 2,
  promptsPerIteration: 3,
  numGenerations: 4,
  responseLength: 30,
  maxTurns: 3,
  perDeviceTrainBatchSize: 3,
  numTrainEpochs: 1,
  learningRate: 1e-2,
  seed: 5,
};

async function run(
  environment: Environment,
  more: Partial<IterateSettings> = {},
  files: Files = memoryFiles(),
  resume = false,
  events: TrainEvent[] = [],
) {
  const policy = fresh();
  const models = { policy, initial: fresh(), tokenizer, environment, rewards: environmentReward };
  const data = { train: prompts(6), eval: prompts(2) };
  const how = { folder: { files, path: "out" }, resume };
  for await (const event of trainIteratively(models, data, { ...settings, ...more }, how)) events.push(event);
  return { events, weights: await policy.store.read() };
}

const rowsIn = async (text: string): Promise<SampledRow[]> => {
  const rows: SampledRow[] = [];
  const stream = () => new Blob([text]).stream() as ReadableStream<Uint8Array>;
  for await (const row of readSampledRows({ name: "rows.jsonl", stream })) rows.push(row);
  return rows;
};

describe("iterative DPO", () => {
  it("compares what the policy wrote in a prompt's best and worst episode, to it and to the reference", async () => {
    const heard: Heard[] = [];
    const { events } = await run(listening(heard), { iterations: 1 });
    const drawn = heard.slice(2, 2 + 12); // between two evaluations on two prompts
    expect(heard).toHaveLength(2 + 12 + 2);
    const pairs = [...new Set(drawn.map(({ prompt }) => prompt))].flatMap((id) => {
      const own = drawn.filter(({ prompt }) => prompt === id);
      const best = own.reduce((a, b) => (b.reward > a.reward ? b : a));
      const worst = own.reduce((a, b) => (b.reward < a.reward ? b : a));
      return best.reward > worst.reward ? [{ best, worst }] : [];
    });
    expect(pairs.length).toBeGreaterThan(1);
    const before = fresh();
    const sums = async (some: readonly Heard[]) => {
      const whole = some.map(({ ids }) => ({ ids: Uint32Array.from(ids), promptLength: 1 }));
      const { logProbs } = await responseLogProbs(before, whole);
      return some.map(({ written }, i) => logProbs[i].reduce((sum, lp, t) => sum + written[t + 1] * lp, 0));
    };
    const mean = (all: readonly number[]) => all.reduce((a, b) => a + b, 0) / all.length;
    const [first] = metricsOf(events);
    expect(first["logps/chosen"]).toBeCloseTo(mean(await sums(pairs.map(({ best }) => best))), 3);
    expect(first["logps/rejected"]).toBeCloseTo(mean(await sums(pairs.map(({ worst }) => worst))), 3);
    // The policy is still its reference, token by token.
    expect(first.loss).toBeCloseTo(Math.log(2), 5);
    const last = events.findLast((event) => event.type === "eval");
    expect(last?.metrics).toMatchObject({ pairs: pairs.length, heldout_mean_turns: expect.any(Number) });
    expect(last?.metrics.mean_length).toBe(mean(drawn.map(({ written }) => written.reduce((a, b) => a + b, 0))));
  });

  it("goes on after a break to the same end", async () => {
    const whole = await run(listening([]), { saveSteps: 1 });
    const files = memoryFiles();
    let left = 9;
    const broken: Files = {
      ...files,
      writeFile: async (...asked) => {
        if (left-- === 0) throw new Error("killed");
        await files.writeFile(...asked);
      },
    };
    await expect(run(listening([]), { saveSteps: 1 }, broken)).rejects.toThrow("killed");
    const again = await run(listening([]), { saveSteps: 1 }, files, true);
    expect(again.weights).toEqual(whole.weights);
  });

  it("leaves out prompts whose environment fails, and episodes that begin differently", async () => {
    const failing: Environment = {
      reset(start) {
        if (start.prompt.row?.id === 4) throw new Error("not today");
        return listening([]).reset(start);
      },
    };
    await expect(run(failing)).rejects.toThrow(/prompt 4, .*not today/);
    const { events } = await run(failing, { environmentFailure: "drop" });
    expect(events).toContainEqual({
      type: "warning",
      step: expect.any(Number),
      text: expect.stringMatching(/left out: .*prompt 4, .*not today/),
    });
    let begun = 0;
    const changing: Environment = {
      reset() {
        const reward = begun++; // the four episodes of a prompt begin in four ways
        return {
          observation: ["go", "on", "a", "b"][reward % 4],
          step: () => ({ reward, done: true }),
        };
      },
    };
    const heard: TrainEvent[] = [];
    await expect(run(changing, { iterations: 1 }, undefined, false, heard)).rejects.toThrow("nothing was learned");
    const text = "3 of 3 pairs are left out: their episodes begin differently";
    expect(heard).toContainEqual({ type: "warning", step: 0, text });
  });

  it("takes an environment's rewards, and no judge", async () => {
    const models = {
      policy: fresh(),
      initial: fresh(),
      tokenizer,
      environment: listening([]),
      rewards: environmentReward,
    };
    const start = (some: object) =>
      trainIteratively({ ...models, ...some }, prompts(6), settings, {
        folder: { files: memoryFiles(), path: "out" },
      }).next();
    await expect(start({ judge: () => async () => [] })).rejects.toThrow("give environmentReward, and no judge");
    await expect(start({ rewards: undefined })).rejects.toThrow("give environmentReward, and no judge");
    await expect(start({ rewards: () => [1] })).rejects.toThrow("put environmentReward among the rewards");
  });
});

describe("files of episodes", () => {
  const turn = { start: 2, end: 4, text: "a", calls: [], reward: 0.5 };
  const row: SampledRow = {
    id: 3,
    prompt: "go",
    responses: ["a on"],
    ended: [true],
    tokenIds: [[5, 6, 7]],
    episodes: [{ prompt: "go", promptIds: [1, 2], turns: [turn], messages: [{ role: "user", content: "go" }] }],
  };

  it("keep them whole", async () => {
    const [{ where, ...again }] = await rowsIn(rowLine(row));
    expect(again).toEqual(row);
    expect(where).toBe("rows.jsonl:1");
  });

  it.each([
    [
      { prompt_ids: [1, -2] },
      'rows.jsonl:1: episode 1 must be {"prompt": text, "prompt_ids": token ids, "turns": list}',
    ],
    [
      { turns: [{ ...turn, end: 6 }] },
      "episode 1: turn 1 must have start, end, text, calls and reward, within the response",
    ],
    [{ turns: [turn, turn] }, "episode 1: turn 2"],
    [{ turns: [{ ...turn, reward: "much" }] }, "episode 1: turn 1"],
    [{ messages: [{ content: "go" }] }, "has no role"],
  ])("are refused with %j", async (wrong, message) => {
    const line = JSON.parse(rowLine(row)) as { episodes: object[] };
    Object.assign(line.episodes[0], wrong);
    await expect(rowsIn(JSON.stringify(line))).rejects.toThrow(message);
  });

  it("have token ids, too", async () => {
    const { token_ids: _, ...line } = JSON.parse(rowLine(row));
    await expect(rowsIn(JSON.stringify(line))).rejects.toThrow("episodes 1 must be beside token_ids");
  });
});
