/**
 * Rows as TRL's trainers put them into the model beside those that webrlhf's do: which tokens, which of them are learned, and
 * what is left out for its length. Needs a Python with torch, transformers, trl and datasets: python3 on the PATH, or the one
 * that WEBRLHF_PYTHON names. Skipped, with the reason, where there is none.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import type { Tokenizer } from "webrlhf/data";
import { CausalLM, loadCausalLM, loadScoreModel, ScoreModel } from "webrlhf/nn";
import { openDataset, tokenizerFiles } from "webrlhf/open";
import { trainDpo, trainReward, trainSft } from "webrlhf/rlhf";
import { uint32 } from "../../src/runtime/rng.ts";
import { openKind } from "../data/kinds.ts";
import trl from "../fixtures/trl.json" with { type: "json" };
import { gpuReady } from "../helpers.ts";
import { collect } from "../rlhf/tiny.ts";
import { askPython } from "./python.ts";
import { withoutTrl as reason, writeModel } from "./trl.ts";

/** A sequence in the model, and whether each token after the first is learned. */
interface Row {
  ids: number[];
  learned: number[];
}

const WORDS = ["the cat", "wants", "a dish", "of über milk", "12 times,", "we'll see", "3.14", "日本語", "\n\n", "no"];
const say = (role: string, ...key: number[]) => {
  const one = key.reduce((all, k) => 31 * all + k, 1);
  const words = Array.from({ length: 1 + (uint32(11, one) % 7) }, (_, i) => WORDS[uint32(12, one, i) % WORDS.length]);
  return { role, content: words.join(" ").trim() || "well" };
};
/** `turns` questions with their answers. */
const talk = (turns: number, ...key: number[]) =>
  Array.from({ length: turns }, (_, i) => [say("user", ...key, i, 0), say("assistant", ...key, i, 1)]).flat();

const LIMIT = 64;
const many = <R>(make: (i: number) => R): R[] => Array.from({ length: 12 }, (_, i) => make(i));
const conversations = many((i) => ({ messages: talk(1 + (i % 3), i) }));
const completions = many((i) => {
  const messages = talk(1 + (i % 3), i, 1);
  return { prompt: messages.slice(0, -1), completion: messages.slice(-1) };
});
const pairs = many((i) => {
  const given = talk(1 + (i % 3), i, 2);
  return { prompt: given.slice(0, -1), chosen: given.slice(-1), rejected: [say("assistant", i, 3)] };
});
const whole = pairs.map(({ prompt, chosen, rejected }) => ({
  chosen: [...prompt, ...chosen],
  rejected: [...prompt, ...rejected],
}));

interface Job {
  method: "sft" | "dpo" | "reward";
  rows: Record<string, unknown>[];
  /** As TRL has them; webrlhf takes the same ones. */
  options: { max_length: number | null; assistant_only_loss?: boolean };
}
const jobs: Record<string, Job> = {};
for (const limit of [null, LIMIT]) {
  const options = { max_length: limit };
  const end = limit === null ? "" : `, at most ${limit} tokens`;
  jobs[`sft on messages${end}`] = { method: "sft", rows: conversations, options };
  const only = { ...options, assistant_only_loss: true };
  jobs[`sft on messages, assistant_only_loss${end}`] = { method: "sft", rows: conversations, options: only };
  jobs[`sft on prompts and completions${end}`] = { method: "sft", rows: completions, options };
  jobs[`reward${end}`] = { method: "reward", rows: whole, options };
  jobs[`dpo${end}`] = { method: "dpo", rows: pairs, options };
}

/** Notes what goes into a model, and which rows of it are asked for the next token. */
function watched(model: CausalLM | ScoreModel): Row[] {
  const seen: Row[] = [];
  const note = (
    host: Uint32Array,
    { lengths, starts }: { lengths: readonly number[]; starts: readonly number[] },
    asked: Uint32Array,
  ) => {
    const picked = new Set(asked);
    for (const [i, start] of starts.entries()) {
      const learned = Array.from({ length: lengths[i] - 1 }, (_, t) => Number(picked.has(start + t)));
      seen.push({ ids: [...host.subarray(start, start + lengths[i])], learned });
    }
  };
  if (model instanceof CausalLM) {
    const { hidden, logProbs } = model;
    model.logProbs = (ids, packing, rows, ...others) => {
      note(ids.host, packing, rows);
      return logProbs.call(model, ids, packing, rows, ...others);
    };
    model.hidden = (ids, packing, rows = new Uint32Array()) => {
      note(ids.host, packing, rows);
      return hidden.call(model, ids, packing, rows);
    };
  } else {
    const { scores } = model;
    model.scores = (ids, packing, rows) => {
      note(ids.host, packing, new Uint32Array());
      return scores.call(model, ids, packing, rows);
    };
  }
  return seen;
}

const sorted = (rows: readonly Row[]) => rows.map((row) => JSON.stringify(row)).sort();

describe.skipIf(reason)(`rows beside TRL's${reason && ` (skipped: ${reason})`}`, () => {
  const folder = mkdtempSync(join(tmpdir(), "webrlhf-trl-rows-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  let tokenizer: Tokenizer;
  let theirs: Record<string, Row[]>;

  beforeAll(async () => {
    await gpuReady();
    const kind = trl.rows.find(({ kind }) => kind === "llama3") as unknown as Parameters<typeof openKind>[0];
    tokenizer = await openKind(kind);
    const { vocabSize, eosId = null } = tokenizer;
    const shape = { vocabSize, maxPositions: 256, eosId, padId: eosId };
    const files = tokenizerFiles(tokenizer);
    await writeModel(join(folder, "model"), { shape, files });
    await writeModel(join(folder, "scorer"), { shape, files, kind: ScoreModel });
    writeFileSync(join(folder, "jobs.json"), JSON.stringify(Object.values(jobs)));
    const { results } = askPython<{ results: Row[][] }>("check_trl_rows.py", [folder]);
    theirs = Object.fromEntries(Object.keys(jobs).map((name, i) => [name, results[i]]));
  }, 600_000);

  /** Trains one step on everything; gives what the model saw. */
  async function ours({ method, rows, options }: Job): Promise<Row[]> {
    const files = await diskFiles();
    const settings = {
      maxLength: options.max_length,
      maxSteps: 1,
      perDeviceTrainBatchSize: 2 * rows.length,
      learningRate: 1e-6,
    };
    const data = openDataset(rows, { longPrompts: "skip" });
    if (method === "reward") {
      const model = await loadScoreModel(files, join(folder, "scorer"));
      const seen = watched(model);
      await collect(trainReward({ model, tokenizer }, data, settings));
      model.destroy();
      return seen;
    }
    const policy = await loadCausalLM(files, join(folder, "model"));
    const seen = watched(policy);
    const assistantOnlyLoss = options.assistant_only_loss ?? false;
    if (method === "sft") await collect(trainSft({ policy, tokenizer }, data, { ...settings, assistantOnlyLoss }));
    else await collect(trainDpo({ policy, tokenizer }, data, settings));
    policy.destroy();
    return seen;
  }

  it.each(Object.keys(jobs))("%s", async (name) => {
    const job = jobs[name];
    const expected = theirs[name];
    // What is to be compared happens: several turns are learned or not, and something is too long.
    if (job.options.max_length !== null) {
      const full = theirs[name.replace(/, at most.*/, "")];
      expect(expected.length < full.length || expected.some(({ ids }) => ids.length === LIMIT)).toBe(true);
      expect(expected.length).toBeGreaterThan(4);
    }
    if (job.method === "reward") expect(expected.length % 2).toBe(0);
    const learning = job.method === "reward" ? expected : expected.filter(({ learned }) => learned.includes(1));
    expect(sorted(await ours(job))).toEqual(sorted(learning));
  });
});
