/**
 * Weights in several files and in 16 bits: real transformers opens what webrlhf writes and converts, and webrlhf opens the
 * shards that transformers writes. Needs a Python as transformers.test.ts does; skipped, with the reason, without.
 */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import {
  CausalLM,
  convertModel,
  decoderConfig,
  loadCausalLM,
  loadScoreModel,
  type Model,
  modelFiles,
  type SaveOptions,
  ScoreModel,
} from "webrlhf/nn";
import { expectClose, gpuReady } from "../helpers.ts";
import { logitsOf, runPython, whyNot } from "./python.ts";

const reason = whyNot(["torch", "transformers"]);

const shape = { vocabSize: 64, hiddenSize: 16, layers: 3, heads: 4, maxPositions: 32, eosId: 1, padId: 0 };
const llama = decoderConfig({ ...shape, family: "llama", kvHeads: 2, headDim: 8, tieEmbeddings: false });
const gpt2 = decoderConfig({ ...shape, family: "gpt2" });
const ids = [[3, 5, 7, 4, 6, 40, 41], [9], [10, 10, 11, 60]];

interface Case {
  name: string;
  config: typeof llama;
  score?: boolean;
  save: SaveOptions;
  /** Written by converting a whole float32 folder, rather than from the GPU. */
  convert?: boolean;
}

const cases: Case[] = [
  { name: "whole-f32", config: llama, save: {} },
  { name: "shards-f32", config: llama, save: { maxShardSize: 6000 } },
  { name: "shards-bf16", config: llama, save: { maxShardSize: 3000, dtype: "bfloat16" } },
  { name: "tied-gpt2-shards-f16", config: gpt2, save: { maxShardSize: 3000, dtype: "float16" } },
  { name: "score-shards-f32", config: llama, score: true, save: { maxShardSize: 6000 } },
  { name: "score-gpt2-shards-bf16", config: gpt2, score: true, save: { maxShardSize: 3000, dtype: "bfloat16" } },
  { name: "converted-bf16", config: llama, save: { maxShardSize: 3000, dtype: "bfloat16" }, convert: true },
];

interface Answer {
  logits: number[][] | number[][][];
  parameters: number;
}

describe.skipIf(reason !== "")(`sharded weights in transformers${reason && ` (skipped: ${reason})`}`, () => {
  let root = "";
  const answers = new Map<string, Answer>();

  beforeAll(async () => {
    await gpuReady();
    root = mkdtempSync(join(tmpdir(), "webrlhf-shards-"));
    const files = await diskFiles();
    for (const { name, config, score, save, convert } of cases) {
      const model = score ? new ScoreModel(config, name) : new CausalLM(config, name);
      for (const [i, parameter] of model.initialize(5).store.parameters.entries()) {
        const data = (await parameter.value.read()).map((x, k) => x * 8 + ((i + k) % 7) / 50);
        parameter.value.write(data);
      }
      const folder = join(root, name);
      await files.writeFolder(convert ? `${folder}-source` : folder, await modelFiles(model, convert ? {} : save));
      if (convert) await convertModel(files, `${folder}-source`, folder, save);
      model.destroy();
    }
    const request = join(root, "request.json");
    writeFileSync(request, JSON.stringify({ ids, resave: "again", maxShardSize: "5KB" }));
    const lines = runPython("check_transformers.py", [...cases.map(({ name }) => join(root, name)), request]);
    for (const [i, line] of lines.entries()) answers.set(cases[i].name, JSON.parse(line));
  }, 300_000);

  afterAll(() => {
    if (root) rmSync(root, { recursive: true, force: true });
  });

  it.each(cases)("$name: both see the same logits", async ({ name, score }) => {
    const files = await diskFiles();
    const folders = [name, join(name, "again")];
    expect(shardsIn(join(root, name)), name).toBeGreaterThan(name.startsWith("whole") ? 0 : 2);
    expect(shardsIn(join(root, name, "again"))).toBeGreaterThan(2);
    for (const folder of folders) {
      const load = score ? loadScoreModel : loadCausalLM;
      const model: Model = await load(files, join(root, folder));
      expect(model.store.count).toBe(answers.get(name)?.parameters);
      await expectSame(model, answers.get(name) as Answer);
      model.destroy();
    }
  });
});

const shardsIn = (folder: string) => readdirSync(folder).filter((file) => file.endsWith(".safetensors")).length;

async function expectSame(model: Model, answer: Answer): Promise<void> {
  expectClose(await logitsOf(model, ids), (answer.logits as number[][][]).flat(2), 2e-5, 1e-6, "logits");
}
