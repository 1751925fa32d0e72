/**
 * Python's tinker package against a training server, and the cookbook's three-stage recipe of RLHF as it is published. Needs a
 * Python with `tinker`, and `tinker_cookbook` for the recipe, which WEBRLHF_PYTHON may name.
 */
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { worldTokenizer } from "webrlhf/data";
import { CausalLM, decoderConfig, modelFiles } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { openTextModel } from "../../src/serve/open.ts";
import { startServer } from "../../src/serve/server.ts";
import { trainingDefaults } from "../../src/serve/train/limits.ts";
import { gpuReady } from "../helpers.ts";
import { python, whyNot } from "./python.ts";

const noPackage = whyNot(["tinker", "torch", "transformers"]);
const noCookbook = noPackage || whyNot(["tinker_cookbook"]);
const KEY = "tml-secret";
/** A name that the cookbook knows, of a model that it writes to as "User: ... Assistant: ...". */
const NAME = "Qwen/Qwen3-8B-Base";

let dir = "";
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-tinker-"));
});
afterAll(() => rm(dir, { recursive: true }));

/** Serves a model's folder for the time of some work. */
async function serving<R>(path: string, name: string, work: (url: string) => Promise<R>): Promise<R> {
  await gpuReady();
  const opened = await openTextModel(path, {}, () => ({ name, slots: 8 }));
  const { adapt, modules, family, openAdapter: open } = opened;
  const files = await diskFiles();
  const training = {
    ...trainingDefaults,
    files,
    folder: join(dir, "saved"),
    tokenizer: path,
    adapt,
    modules,
    family,
    open,
  };
  const server = await startServer(opened.model, { port: 0, training, apiKey: KEY });
  try {
    return await work(server.url);
  } finally {
    await server.close(1000);
    await opened.close();
  }
}

const run = (args: readonly string[], url: string, cwd: string) =>
  promisify(execFile)(python, args, {
    cwd,
    maxBuffer: 1 << 26,
    env: {
      ...process.env,
      TINKER_BASE_URL: url,
      TINKER_API_KEY: KEY,
      TINKER_TELEMETRY: "0",
      HF_HUB_OFFLINE: "1",
      TINKER_COOKBOOK_RUNS_DIR: join(dir, "runs"),
    },
  });

describe.skipIf(noPackage !== "")(`the tinker package${noPackage && ` (skipped: ${noPackage})`}`, () => {
  it("trains, samples, saves and loads, and understands errors", async () => {
    const script = fileURLToPath(new URL("check_tinker.py", import.meta.url));
    const model = join(process.cwd(), "models/world-sft");
    const { stdout } = await serving(model, "world-sft", (url) => run([script], url, dir));
    const found = JSON.parse(stdout);
    expect(found.model).toBe("world-sft");
    expect(found.learned).toBeLessThan(found.losses[0] / 3);
    // Where nothing has changed since, ratios are 1: the losses are the advantages' sum, and that of the log-probabilities.
    const sum = found.logprobs.reduce((a: number, b: number) => a + b, 0);
    for (const name of ["importance_sampling", "ppo"])
      expect(found.ratios[name]).toBeCloseTo(-found.logprobs.length, 4);
    for (const name of ["cispo", "dro"]) expect(found.ratios[name]).toBeCloseTo(-sum, 3);
    expect(found.custom.mine).toBeCloseTo(found.custom["loss:sum"], 4);
    expect(found.drawn[0]).toEqual(found.drawn[1]);
    expect(found.again).toEqual(found.drawn);
    expect(found.top).toEqual(found.drawn[0]);
    expect(found.drawn_logprobs[0].every((p: number) => p <= 0)).toBe(true);
    expect(found.prompt_logprobs).toEqual(found.scored);
    expect(found.prompt_logprobs[0]).toBeNull();
    for (const i of [1, 2, 3]) expect(found.prompt_logprobs[i]).toBeCloseTo(found.logprobs[i - 1], 3);
    if (found.stopped[1] === "stop" && found.stopped[0].includes("park")) expect(found.stopped[0]).toMatch(/park$/);
    expect(found.resumed).toBe(found.learned);
    expect(found.run).toBe(8);
    expect(found.checkpoints).toEqual(["sampler_weights/named", "weights/state"]);
    const [loss, step, path, base] = found.errors;
    expect(loss).toMatch(/RequestFailedError.*gspo.*not known here/);
    expect(step).toMatch(/left out.*gspo/);
    expect(path).toMatch(/no name to save by/);
    expect(base).toMatch(/BadRequestError.*trains .*world-sft.*not .*another/);
  }, 240_000);
});

describe.skipIf(noCookbook !== "")(`the cookbook${noCookbook && ` (skipped: ${noCookbook})`}`, () => {
  it("runs its recipe of SFT, preference model and RL as it is", async () => {
    // Data sets and tokenizers of these names are taken from the working folder where they are there.
    const model = join(dir, NAME);
    await gpuReady();
    const t = worldTokenizer();
    const { vocabSize, eosId = null, padId = null } = t;
    const size = { hiddenSize: 32, layers: 2, heads: 2, maxPositions: 2048 };
    const lm = new CausalLM(decoderConfig({ family: "llama", vocabSize, ...size, eosId, padId })).initialize(1);
    await (await diskFiles()).writeFolder(model, { ...(await modelFiles(lm)), ...tokenizerFiles(t) });
    lm.destroy();
    const names = ["Sam", "Mia", "Tom", "Ann", "Ben", "Lily", "Max", "Zoe"];
    const chats = names.map((name) => ({
      messages: [
        { role: "user", content: `Where did ${name} go?` },
        { role: "assistant", content: `${name} walked to the park.` },
      ],
    }));
    const pairs = names.map((name) => {
      const prompt = `\n\nHuman: What did ${name} do?\n\nAssistant:`;
      return { chosen: `${prompt} ${name} sang a song.`, rejected: `${prompt} No.` };
    });
    for (const [name, rows] of Object.entries({ "HuggingFaceH4/no_robots": chats, "Anthropic/hh-rlhf": pairs })) {
      await mkdir(join(dir, name), { recursive: true });
      const lines = (some: readonly object[]) => some.map((row) => `${JSON.stringify(row)}\n`).join("");
      await writeFile(join(dir, name, "train.jsonl"), lines(rows));
      await writeFile(join(dir, name, "test.jsonl"), lines(rows.slice(0, 4)));
    }
    const options = {
      base_model: NAME,
      short_name: "tiny",
      lora_rank: 8,
      max_length: 512,
      batch_size: 4,
      max_steps: 2,
    };
    const rl = { sft_learning_rate: 0.01, rl_max_tokens: 16, rl_group_size: 2 };
    const flags = Object.entries({ ...options, ...rl }).map(([name, value]) => `${name}=${value}`);
    const recipe = ["-m", "tinker_cookbook.recipes.preference.rlhf.rlhf_pipeline", ...flags];
    await serving(model, NAME, (url) => run(recipe, url, dir));
    for (const stage of ["sft", "rm", "rl"]) {
      const folder = join(dir, "runs/rlhf-tiny", stage);
      const read = async (file: string) =>
        (await readFile(join(folder, file), "utf8"))
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line.replaceAll("NaN", "null")));
      const metrics = await read("metrics.jsonl");
      expect(metrics.length, stage).toBeGreaterThanOrEqual(2);
      if (stage === "sft") expect(metrics[1].train_mean_nll).toBeLessThan(metrics[0].train_mean_nll);
      const last = (await read("checkpoints.jsonl")).at(-1);
      expect(last.state_path, stage).toMatch(/^tinker:\/\/.*\/weights\/final$/);
      expect(last.sampler_path, stage).toMatch(/^tinker:\/\/.*\/sampler_weights\/final$/);
    }
  }, 400_000);
});
