import { beforeAll, describe, expect, it } from "vitest";
import { type Files, memoryFiles } from "webrlhf";
import type { SampledRow, ScoredRow } from "webrlhf/data";
import { CausalLM } from "webrlhf/nn";
import {
  annotateRows,
  type IterateSettings,
  judgeByPreference,
  judgeByReward,
  type Response,
  type RowJudge,
  RowLog,
  rewardStatistics,
  type TrainEvent,
  trainIteratively,
} from "webrlhf/rlhf";
import { gpuReady } from "../../helpers.ts";
import { prompts, tinyConfig, tokenizer } from "../tiny.ts";

beforeAll(gpuReady);

const options: Partial<IterateSettings> = {
  iterations: 2,
  promptsPerIteration: 4,
  numGenerations: 3,
  responseLength: 5,
  reference: "previous",
  showSamples: 2,
  learningRate: 1e-2,
  perDeviceTrainBatchSize: 2,
  numTrainEpochs: 1,
  saveSteps: 1,
  seed: 5,
};

/** Rewards responses with many different tokens. */
const reward = async (responses: readonly Response[]) =>
  responses.map((r) => new Set(r.ids.subarray(r.promptLength)).size + r.text.length / 100);

const judge = judgeByReward(reward, (row, k) => ({
  ids: Uint32Array.from((row.tokenIds as number[][])[k]),
  promptLength: 0,
  prompt: 0,
  sample: k,
  promptText: String(row.prompt),
  text: row.responses[k],
  ended: true,
}));

interface Killed extends Error {
  killed: true;
}

/** Files that stop working after so many writes, as a killed process's do. */
function dying(files: Files, writes: number, onWrite = () => {}): Files {
  let left = writes;
  const guard =
    <A extends unknown[], R>(work: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      if (left-- <= 0) throw Object.assign(new Error("killed"), { killed: true }) as Killed;
      onWrite();
      return work(...args);
    };
  return {
    ...files,
    writeFile: guard(files.writeFile),
    writeFiles: guard(files.writeFiles),
    writeFolder: guard(files.writeFolder),
    append: guard(files.append),
    remove: guard(files.remove),
  };
}

async function run(
  files: Files,
  more: Partial<IterateSettings> = {},
  inputs: { judge?: RowJudge; resume?: boolean; acceptChanges?: boolean; held?: number } = {},
): Promise<{ events: TrainEvent[]; killed: boolean; weights: unknown }> {
  const policy = new CausalLM(tinyConfig()).initialize(1);
  const initial = new CausalLM(tinyConfig()).initialize(1);
  const all = prompts(20);
  const events: TrainEvent[] = [];
  let killed = false;
  let weights: unknown;
  try {
    const { judge: own, held = 2, ...how } = inputs;
    const models = { policy, initial, tokenizer, judge: () => own ?? judge, rewards: reward };
    const data = { train: all.slice(0, 14), eval: all.slice(14, 14 + held) };
    const run = { folder: { files, path: "out" }, ...how };
    for await (const event of trainIteratively(models, data, { ...options, ...more }, run)) events.push(event);
    weights = await policy.store.read();
  } catch (error) {
    if (!(error as Killed).killed) throw error;
    killed = true;
  } finally {
    policy.destroy();
    initial.destroy();
  }
  return { events, killed, weights };
}

const sum = async (bytes: Uint8Array) =>
  Array.from(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes.slice())), (b) => b.toString(16)).join(" ");

/** Everything on disk, by name; of tensors their checksum. */
async function contents(files: Files, path = "out"): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of await files.list(path)) {
    const bytes = await files.read(`${path}/${name}`);
    if (bytes)
      found[`${path}/${name}`] = name.endsWith(".safetensors") ? await sum(bytes) : new TextDecoder().decode(bytes);
    else Object.assign(found, await contents(files, `${path}/${name}`));
  }
  return found;
}

describe("iterative DPO", () => {
  it("samples, scores, pairs and trains in every iteration, on new prompts", async () => {
    const files = memoryFiles();
    const { events } = await run(files);
    const all = await contents(files);
    const lines = (name: string) =>
      all[name]
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line));
    const ids = [1, 2].flatMap((i) => lines(`out/iteration_${i}/responses.jsonl`).map((row) => row.id));
    expect(ids.length).toBe(8);
    expect(new Set(ids).size).toBe(8);
    const scored = lines("out/iteration_2/rewards.jsonl") as ScoredRow[];
    expect(scored.every((row) => row.responses.length === 3 && row.rewards.length === 3)).toBe(true);
    for (const pair of lines("out/iteration_2/pairs.jsonl")) {
      expect(Object.keys(pair)).toEqual(["prompt", "chosen", "rejected", "margin"]);
      const row = scored.find(({ prompt }) => prompt === pair.prompt) as ScoredRow;
      const at = (text: string) => row.rewards[row.responses.indexOf(text)];
      expect(at(pair.chosen) - at(pair.rejected)).toBeCloseTo(pair.margin, 9);
    }
    const evals = events.filter((e) => e.type === "eval");
    expect(evals.map(({ metrics }) => metrics.iteration)).toEqual([0, 1, 2]);
    expect(Object.keys(evals[1].metrics).slice(0, 5)).toEqual([
      "iteration",
      "mean_length",
      "eos_rate",
      "reward",
      "reward_top1",
    ]);
    expect(evals[1].metrics.kl).toBe(0);
    expect(evals[2].metrics.kl).not.toBe(0);
    const steps = events.flatMap((e) => (e.type === "step" ? [e.step] : []));
    expect(steps).toEqual(steps.map((_, i) => i + 1));
    expect(all["out/model.safetensors"]).toBe(all["out/iteration_2/model/model.safetensors"]);
    expect(Object.keys(all).filter((name) => /partial|checkpoint/.test(name))).toEqual([]);
    // The first step of each iteration has the policy as its own reference.
    const losses = events.flatMap((e) => (e.type === "step" && e.metrics["rewards/margins"] === 0 ? [e.step] : []));
    expect(losses).toEqual([
      1,
      (events.find((e) => e.type === "step" && e.metrics.iteration === 2) as { step: number }).step,
    ]);
  });

  it("ends responses at the tokens that are named", async () => {
    const places = { judge: async (rows: readonly SampledRow[]) => rows.map((row) => row.responses.map((_, i) => i)) };
    const first = async (eosIds?: number[]) => {
      const files = memoryFiles();
      await run(files, { iterations: 1, numGenerations: 2, ...(eosIds && { eosTokenId: eosIds }) }, places);
      const text = new TextDecoder().decode((await files.read("out/iteration_1/responses.jsonl"))!);
      const { token_ids: ids, ended } = JSON.parse(text.split("\n")[0]);
      return { ids: ids[0] as number[], ended: ended[0] as boolean };
    };
    const whole = await first();
    expect(whole).toMatchObject({ ended: false });
    const end = whole.ids[1];
    const cut = await first([end]);
    expect(cut).toMatchObject({ ids: whole.ids.slice(0, whole.ids.indexOf(end) + 1), ended: true });
  });

  it("measures against the initial model where asked, which makes a difference from the second iteration on", async () => {
    const models = await Promise.all(
      (["initial", "previous"] as const).map(async (reference) => {
        const files = memoryFiles();
        await run(files, { reference });
        return contents(files);
      }),
    );
    const same = (i: number) => models.map((m) => m[`out/iteration_${i}/model/model.safetensors`]);
    expect(same(1)[0]).toBe(same(1)[1]);
    expect(same(2)[0]).not.toBe(same(2)[1]);
  });

  it("ends with the same bytes wherever it was killed", async () => {
    const whole = memoryFiles();
    let writes = 0;
    const { events } = await run(dying(whole, Number.POSITIVE_INFINITY, () => writes++));
    const expected = await contents(whole);
    expect(writes).toBeGreaterThan(20);
    for (let kill = 0; kill < 10; kill++) {
      const before = Math.floor(((kill + 0.5) * writes) / 10);
      const files = memoryFiles();
      let attempts = 0;
      let last: TrainEvent[] = [];
      for (let killed = true; killed; attempts++) {
        const outcome = await run(attempts === 0 ? dying(files, before) : files, {}, { resume: true });
        ({ killed } = outcome);
        last = outcome.events;
      }
      expect(attempts).toBe(2);
      expect(await contents(files)).toEqual(expected);
      expect(last.filter((e) => e.type === "eval")).toEqual(events.filter((e) => e.type === "eval"));
      expect(last.at(-1)).toEqual(events.at(-1));
    }
  }, 180_000);

  it("loads what a finished run trained", async () => {
    const files = memoryFiles();
    const { weights } = await run(files);
    const again = await run(files, {}, { resume: true });
    expect(again.events.map(({ type }) => type)).toEqual(["note", "end"]);
    expect(again.weights).toEqual(weights);
  });

  it("ends with the iteration that evaluated best, and stops where none gets better", async () => {
    const plain = memoryFiles();
    const three = { iterations: 3, learningRate: 0.1 };
    const six = { held: 6 };
    await run(plain, three, six);
    const metricsOf = async (iteration: number): Promise<Record<string, number>> => {
      const text = new TextDecoder().decode((await plain.read(`out/iteration_${iteration}/metrics.json`))!);
      return JSON.parse(text).metrics;
    };
    const [first, ...others] = await Promise.all([1, 2, 3].map(metricsOf));
    // A number and a direction by which the first is the best.
    const [metric, greaterIsBetter] = Object.keys(first)
      .filter((name) => name.startsWith("heldout_"))
      .flatMap((name) => [true, false].map((greater) => [name, greater] as const))
      .find(([name, greater]) => others.every((m) => (greater ? m[name] < first[name] : m[name] > first[name])))!;
    const best = { loadBestModelAtEnd: true, metricForBestModel: metric, greaterIsBetter };
    const files = memoryFiles();
    const end = (await run(files, { ...three, ...best }, six)).events.at(-1)!;
    const found = { metric, value: first[metric], checkpoint: "iteration_1/model" };
    expect(end).toMatchObject({ type: "end", best: found });
    const [all, before] = [await contents(files), await contents(plain)];
    expect(all["out/model.safetensors"]).toBe(before["out/iteration_1/model/model.safetensors"]);
    expect(all["out/iteration_3/model/model.safetensors"]).toBe(before["out/model.safetensors"]);

    const short = { ...three, ...best, earlyStoppingPatience: 1 };
    const early = memoryFiles();
    let writes = 0;
    const { events } = await run(
      dying(early, Number.POSITIVE_INFINITY, () => writes++),
      short,
      six,
    );
    expect(events.at(-1)).toMatchObject({ type: "end", best: found, stoppedEarly: true });
    expect((await early.list("out")).filter((name) => name.startsWith("iteration"))).toHaveLength(3);
    const expected = await contents(early);
    expect(expected["out/model.safetensors"]).toBe(all["out/model.safetensors"]);
    for (const kill of [Math.floor(writes / 2), writes - 2]) {
      const again = memoryFiles();
      expect((await run(dying(again, kill), short, six)).killed).toBe(true);
      await run(again, short, { resume: true, ...six });
      expect(await contents(again)).toEqual(expected);
    }
    const { events: nothing } = await run(early, short, { resume: true, ...six });
    expect(nothing.map(({ type }) => type)).toEqual(["note", "end"]);
    await expect(run(memoryFiles(), best, { held: 0 })).rejects.toThrow(/loadBestModelAtEnd needs held-out prompts/);
    const wrong = { ...best, metricForBestModel: "loss" };
    await expect(run(memoryFiles(), wrong)).rejects.toThrow(/metricForBestModel loss .* report heldout_mean_length/);
  }, 120_000);

  it("asks for enough prompts, refuses ties, and a folder of another run", async () => {
    await expect(run(memoryFiles(), { promptsPerIteration: 8 })).rejects.toThrow(/need 16 prompts; there are 14/);
    const equal = { judge: async (rows: readonly SampledRow[]) => rows.map((row) => row.responses.map(() => 1)) };
    await expect(run(memoryFiles(), {}, equal)).rejects.toThrow(
      /nothing was learned in any of 2 iterations: no pair says which response is better/,
    );
    const files = memoryFiles();
    const hinge = { lossType: ["hinge"], labelSmoothing: 0.1 };
    await expect(run(files, hinge)).rejects.toThrow(/labelSmoothing does not apply to hinge/);
    expect(await files.list("out")).toEqual([]); // before anything is sampled
    await run(files, { iterations: 1 });
    const held = JSON.parse(new TextDecoder().decode((await files.read("out/iteration_0/metrics.json"))!));
    expect(Object.keys(held.metrics).slice(0, 2)).toEqual(["iteration", "heldout_mean_length"]);
    await expect(run(files)).rejects.toThrow(/holds iteration_0 of an earlier run/);
    await expect(run(files, { promptsPerIteration: 5 }, { resume: true })).rejects.toThrow(
      /prompts_per_iteration was 4 and is 5/,
    );
    const anyway = { resume: true, acceptChanges: true };
    await expect(run(files, { promptsPerIteration: 5, iterations: 2 }, anyway)).rejects.toThrow(
      /iteration_0\/metrics.json: the run had promptsPerIteration 4, not 5/,
    );
    await expect(run(files, { reference: "initial", iterations: 2 }, anyway)).rejects.toThrow(
      /had reference previous, not initial/,
    );
    await files.remove("out/iteration_1/metrics.json");
    await expect(run(files, { numGenerations: 5, iterations: 2 }, anyway)).rejects.toThrow(
      /iteration_1\/responses.jsonl holds rows of \d responses: the run had K \d, not 5/,
    );
  });
});

describe("annotation", () => {
  const rows: SampledRow[] = [
    { prompt: "p", responses: ["a", "bbb", "cc"] },
    { prompt: "q", responses: ["dddd"] },
    { prompt: "r", responses: ["e", "f", "gg"] },
  ];
  const byLength = judgeByReward(
    async (responses) => responses.map(({ text }) => text.length),
    (row, k) => ({
      ids: new Uint32Array(),
      promptLength: 0,
      prompt: 0,
      sample: k,
      promptText: "",
      text: row.responses[k],
      ended: true,
    }),
  );

  it("goes on where a judge broke off", async () => {
    const files = memoryFiles();
    let calls = 0;
    const failing = async (given: readonly SampledRow[]) => {
      if (++calls > 2) throw new Error("the endpoint is gone");
      return byLength(given);
    };
    const log = await RowLog.open<number[]>(files, "log");
    await expect(annotateRows(failing, rows, log, { rowsAtOnce: 1 })).rejects.toThrow("the endpoint is gone");
    const asked: string[] = [];
    const again = await RowLog.open<number[]>(files, "log");
    const scored = await annotateRows(
      (given) => {
        asked.push(...given.map(({ prompt }) => String(prompt)));
        return byLength(given);
      },
      rows,
      again,
      { rowsAtOnce: 1 },
    );
    expect(asked).toEqual(["r"]);
    expect(scored?.map((row) => row.rewards)).toEqual([[1, 3, 2], [4], [1, 1, 2]]);
    expect(rewardStatistics(scored as ScoredRow[])).toEqual({
      total: 3,
      kept: 2,
      samples: 3,
      mean_reward: 10 / 6,
      top1_reward: 2.5,
      min_reward: 1,
      mean_characters: 10 / 6,
    });
  });

  it("ranks by comparisons", async () => {
    const model = {
      prefer: async (_: unknown, a: readonly string[], b: readonly string[]) =>
        a.map((text, i) => (text.length > b[i].length ? 1 : text.length < b[i].length ? 0 : 0.5)),
    };
    expect(await judgeByPreference(model, "round_robin")(rows)).toEqual([[0, 1, 0.5], [0.5], [0.25, 0.25, 1]]);
    expect(await judgeByPreference(model, "tournament")(rows)).toEqual([[0, 1, 0.5], [1], [0.5, 0, 1]]);
  });
});
