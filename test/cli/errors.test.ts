import { spawn } from "node:child_process";
import { cp, mkdir, mkdtemp, open, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { caps, diskFiles, openDevice } from "webrlhf";
import { main } from "webrlhf/cli";
import { Tokenizer, trainBpe } from "webrlhf/data";
import { CausalLM, modelFiles, ScoreModel } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { clearDeviceError, device } from "../../src/gpu/device.ts";
import { sha256File } from "../../src/runtime/sha256.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";
import { silentTerminal } from "./terminal.ts";

/** What the tests only read: a language model, a reward model. */
let shared: string;
let base: string;
let judge: string;
/** What each test may write into. */
let dir: string;
let out: string;

beforeAll(async () => {
  process.setMaxListeners(100); // every run of the program listens for Ctrl-C
  await openDevice();
  shared = await mkdtemp(path.join(tmpdir(), "webrlhf-"));
  base = path.join(shared, "base");
  judge = path.join(shared, "judge");
  const files = await diskFiles();
  const models = {
    [base]: new CausalLM(tinyConfig()).initialize(1),
    [judge]: new ScoreModel(tinyConfig()).initialize(1),
  };
  for (const [folder, model] of Object.entries(models)) {
    await files.writeFolder(folder, { ...(await modelFiles(model)), ...tokenizerFiles(tokenizer) });
    model.destroy();
  }
});
afterAll(() => rm(shared, { recursive: true }));

beforeEach(async () => {
  dir = await mkdtemp(path.join(tmpdir(), "webrlhf-"));
  out = path.join(dir, "out");
});
afterEach(() => rm(dir, { recursive: true, force: true }));

async function run(...words: string[]): Promise<{ code: number; text: string }> {
  const terminal = silentTerminal();
  const code = await main(words, terminal);
  return { code, text: terminal.written.join("") };
}

/** Runs what must fail; returns the one line that says why. */
async function failing(...words: string[]): Promise<string> {
  const { code, text } = await run(...words);
  expect(code, text).toBe(1);
  return onlyError(text);
}

function onlyError(text: string): string {
  const lines = text.trimEnd().split("\n");
  expect(
    lines.filter((line) => line.startsWith("error: ")),
    text,
  ).toHaveLength(1);
  expect(lines.at(-1), text).toMatch(/^error: /);
  expect(text).not.toMatch(/\n\s+at |defect of webrlhf/);
  return lines.at(-1) as string;
}

/** Every file and folder below the output folder. */
const written = async (): Promise<string[]> => (await readdir(out, { recursive: true }).catch(() => [])).sort();

const tiny = ["--hidden_size", "16", "--num_hidden_layers", "1", "--num_attention_heads", "2"];
const little = ["--max_train_samples", "8", "--max_eval_samples", "2", "--per_device_train_batch_size", "2"];
const sft = (...words: string[]) => ["sft", ...tiny, ...little, "--output_dir", out, ...words];
const small = ["--max_train_samples", "8", "--per_device_train_batch_size", "2"];
const from = (folder: string, ...words: string[]) => {
  const sizes = ["--max_steps", "1", ...small, "--output_dir", out];
  return ["sft", "--model_name_or_path", folder, ...sizes, ...words];
};

/** A copy of the language model, to be spoilt. */
async function copyOfBase(): Promise<string> {
  const folder = path.join(dir, "model");
  await cp(base, folder, { recursive: true });
  return folder;
}

async function editJson(file: string, edit: (json: Record<string, unknown>) => void): Promise<void> {
  const json = JSON.parse(await readFile(file, "utf8"));
  edit(json);
  await writeFile(file, JSON.stringify(json));
}

type Entry = { data_offsets: [number, number]; shape: number[] };

/** Rewrites a safetensors header; the data stays. */
async function editHeader(file: string, edit: (header: Record<string, Entry>) => void): Promise<void> {
  const bytes = await readFile(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString());
  edit(header);
  const text = Buffer.from(JSON.stringify(header));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(text.length));
  await writeFile(file, Buffer.concat([size, text, bytes.subarray(8 + length)]));
}

async function dataset(name: string, content: string | Uint8Array): Promise<string> {
  const file = path.join(dir, name);
  await writeFile(file, content);
  return file;
}

const pair = (prompt: string) => `${JSON.stringify({ prompt, completion: " there was a cat." })}\n`;

describe("a model folder that is wrong", () => {
  const q = "model.layers.0.self_attn.q_proj.weight";

  it("is truncated: the file and the tensor are named", async () => {
    const folder = await copyOfBase();
    const file = path.join(folder, "model.safetensors");
    await truncate(file, (await readFile(file)).length - 100);
    expect(await failing(...from(folder))).toMatch(/model\.safetensors: tensor "[\w.]+": data_offsets .*truncated/);
    expect(await written()).toEqual([]);
  });

  it("has a header that lies about offsets: the file and the tensor are named", async () => {
    const folder = await copyOfBase();
    await editHeader(path.join(folder, "model.safetensors"), (header) => {
      header[q].data_offsets[1] += 4096;
    });
    expect(await failing(...from(folder))).toContain(`model.safetensors: tensor "${q}": `);
    expect(await written()).toEqual([]);
  });

  it("has wrong shapes: the tensor and both shapes are named", async () => {
    const folder = await copyOfBase();
    await editJson(path.join(folder, "config.json"), (config) => {
      config.intermediate_size = 96;
    });
    expect(await failing(...from(folder))).toMatch(
      /tensor model\.layers\.0\.mlp\.gate_proj\.weight has shape \[\d+,16\], but config\.json asks for \[96,16\]/,
    );
    expect(await written()).toEqual([]);
  });

  it("lacks a tensor, or a file, or is not there", async () => {
    const folder = await copyOfBase();
    await editHeader(path.join(folder, "model.safetensors"), (header) => {
      header.stranger = header[q];
      delete header[q];
    });
    expect(await failing(...from(folder))).toMatch(/model\.safetensors: tensor stranger does not belong/);
    for (const file of ["model.safetensors", "config.json", "tokenizer.json"]) {
      await rm(path.join(folder, file));
      expect(await failing(...from(folder))).toContain(`${path.join(folder, file)} is missing`);
    }
    expect(await failing(...from(path.join(dir, "nowhere")))).toMatch(/nowhere: there is no such folder/);
    expect(await failing("ppo", "--model_name_or_path", base, "--reward_model_path", path.join(dir, "rm"))).toContain(
      `${path.join(dir, "rm", "config.json")} is missing`,
    );
    expect(await written()).toEqual([]);
  });

  it("has a config.json that is no JSON, or of another family", async () => {
    const folder = await copyOfBase();
    const file = path.join(folder, "config.json");
    await editJson(file, (config) => {
      config.model_type = "mamba";
    });
    expect(await failing(...from(folder))).toContain(`${file}: model_type "mamba" is not supported`);
    await writeFile(file, '{"model_type": ');
    expect(await failing(...from(folder))).toContain(`${file}: not valid JSON`);
  });

  it("has a tokenizer whose ids exceed the model's vocabulary", async () => {
    const folder = path.join(dir, "tokenizer");
    await mkdir(folder);
    const big = Tokenizer.fromTrained(trainBpe(["the cat sat on the mat with a hat and a bat"], { vocabSize: 300 }));
    const json = structuredClone(big.json) as unknown as { added_tokens: { id: number; content: string }[] };
    for (let id = big.vocabSize; id < 600; id++) {
      json.added_tokens.push({ ...json.added_tokens[0], id, content: `<far-${id}>` });
    }
    await writeFile(path.join(folder, "tokenizer.json"), JSON.stringify(json));
    await writeFile(path.join(folder, "tokenizer_config.json"), JSON.stringify(big.configJson));
    expect(await failing(...from(base, "--tokenizer_name_or_path", folder))).toMatch(
      /tokenizer\.json: the tokenizer's ids go up to 599 \("<far-599>"\), but the model's vocabulary has only \d+ entries/,
    );
    expect(await written()).toEqual([]);
  });
});

describe("a dataset that is wrong", () => {
  it.each([
    ["is missing", "none.jsonl", null, /cannot read .*none\.jsonl: no such file/],
    ["has a malformed line", "bad.jsonl", `${pair("a")}\n${pair("b")}{"prompt": "c", \n`, /bad\.jsonl:4: .*JSON/],
    ["lacks a column", "bad.jsonl", `${pair("a")}{"prompt": "b"}\n`, /bad\.jsonl:2: column "completion" is missing/],
    ["has a number for a text", "bad.jsonl", '{"prompt": "a", "completion": 3}\n', /bad\.jsonl:1: .*completion/],
    ["is empty", "empty.jsonl", "", /empty\.jsonl: the dataset is empty/],
    ["is empty after decompression", "empty.jsonl.gz", gzipSync(""), /empty\.jsonl\.gz: the dataset is empty/],
    ["is cut off", "cut.jsonl.gz", gzipSync(pair("a").repeat(99)).subarray(0, 60), /cut\.jsonl\.gz: damaged or trunc/],
    ["is of an unknown format", "data.xlsx", "PK", /data\.xlsx: unknown kind of file; known are jsonl/],
    [
      "has only prompts",
      "prompts.jsonl",
      '{"prompt": "a"}\n',
      /prompts\.jsonl:1: a prompt alone holds nothing to learn/,
    ],
    [
      "has a prompt longer than the context",
      "long.jsonl",
      `${pair("a")}${pair("the cat sat. ".repeat(60))}`,
      /long\.jsonl:2: the prompt has \d+ tokens and leaves no room for an answer within 64 tokens.*--long_prompts skip/,
    ],
  ] as const)("%s", async (_, name, content, message) => {
    const file = content === null ? path.join(dir, name) : await dataset(name, content);
    expect(await failing(...from(base, "--dataset_name", file))).toMatch(message);
    expect(await written()).toEqual([]);
  });

  it("has a prompt that is too long to be answered", async () => {
    const words = ["--model_name_or_path", base, "--prompt", "the cat sat. ".repeat(60)];
    expect(await failing("generate", ...words)).toMatch(/prompt 0 has \d+ tokens.*exceeds the context of 64/);
    const rows = ["the cat", "the cat sat on the mat"].map((prompt) => `${JSON.stringify({ prompt })}\n`).join("");
    const models = ["--model_name_or_path", base, "--reward_model_path", "http://127.0.0.1:9/"];
    const ppo = ["ppo", ...models, "--dataset_name", await dataset("prompts.jsonl", rows)];
    for (const dialect of [
      ["--max_length_of", "sequence"],
      ["--dialect", "safe"],
    ]) {
      expect(await failing(...ppo, "--max_length", "6", ...dialect, "--response_length", "60")).toMatch(
        /prompts.jsonl:2: .* no room for an answer within 6 /,
      );
    }
    expect(await failing(...ppo, "--max_length", "6", "--response_length", "8")).toMatch(
      /--max_length 6 and --response_length 8 both say how long a response may be: .* --max_length_of sequence/,
    );
    expect(await failing(...ppo, "--max_length", "60")).toMatch(/no room for an answer of 60 tokens within 64 /);
    expect(await failing(...ppo, "--response_length", "60")).toMatch(/no room for an answer of 60 tokens within 64 /);
    expect(await failing(...ppo, "--response_length", "64")).toMatch(/64 tokens leave no room for a prompt/);
    expect(await written()).toEqual([]);
  });
});

describe("options that are wrong", () => {
  it.each([
    [["--learning_rate", "fast"], /learning_rate must be a number of at least 0, not "fast"/],
    [["--max_steps", "0"], /max_steps must be a whole number of at least 1, or none, not "0"/],
    [
      ["--lr_scheduler_type", "sine"],
      /lr_scheduler_type must be one of constant, constant_with_warmup, linear, cosine, cosine_with_min_lr, not "sine"/,
    ],
    [["--hidden_size", "17"], /hiddenSize \(17\) must be a multiple of heads \(2\)/],
    [["--num_key_value_heads", "3"], /heads \(2\) must be a multiple of kvHeads \(3\)/],
    [["--max_length", "4096"], /max_length 4096 is more than the model's context of 256 tokens/],
  ])("%j", async (words, message) => {
    expect(await failing(...sft("--max_steps", "1", ...words))).toMatch(message);
    expect(await written()).toEqual([]);
  });

  it("names held-out data that no evaluation would read", async () => {
    const words = ["ppo", "--model_name_or_path", base, "--reward_model_path", judge, "--eval_datasets", "held.jsonl"];
    expect(await failing(...words)).toMatch(/--eval_datasets is for evaluations, which --eval_steps 0 leaves out/);
    expect(await written()).toEqual([]);
  });

  it("suggests the nearest flag", async () => {
    const { code, text } = await run(...sft("--learning-rat", "1"));
    expect(code).toBe(1);
    expect(text).toBe("error: there is no option --learning_rat (did you mean --learning_rate?)\n");
  });

  it("suggests the nearest key of a config file, and names the line of a YAML mistake", async () => {
    const config = await dataset("ppo.yaml", "learning_rat: 0.1\n");
    expect(await failing("sft", "--config", config)).toBe(
      `error: there is no option learning_rat in ${config} line 1 (did you mean "learning_rate"?)`,
    );
    const broken = await dataset("broken.yaml", "seed: 1\noutput_dir: [a\n");
    expect(await failing("sft", "--config", broken)).toMatch(/broken\.yaml:\d:\d+: /);
    const recipe = await dataset("r.yaml", "name: r\nstages:\n  - name: a\n    verb: sft\n    options: { seeed: 1 }\n");
    expect(await failing("run", recipe)).toMatch(/no option seeed in .*r\.yaml \(did you mean "seed"\?\)/);
  });

  it("cannot write where a file is in the way", async () => {
    const file = await dataset("file", "");
    expect(await failing(...sft("--max_steps", "1", "--output_dir", path.join(file, "out")))).toMatch(
      /cannot write .*file\/out.*: a part of the path is not a folder/,
    );
  });
});

/** A hash of every file in a folder; but trainer_state.json, which repeats options, may change with them. */
async function hashesIn(folder: string): Promise<Record<string, string>> {
  const names = (await readdir(folder)).filter((name) => name.includes(".") && name !== "trainer_state.json");
  const files = await diskFiles();
  const hash = async (name: string) => [name, await sha256File(files, path.join(folder, name))];
  return Object.fromEntries(await Promise.all(names.map(hash)));
}

describe("a run that fails half-way", () => {
  const steps = (n: number, ...words: string[]) => sft("--save_steps", "2", "--max_steps", String(n), ...words);

  it("names the step of a loss that is not finite, and keeps the last checkpoint", async () => {
    expect((await run(...steps(2))).code).toBe(0);
    const before = await hashesIn(path.join(out, "checkpoint-2"));
    const anyway = ["--resume", "--resume_with_changes"];
    const message = await failing(
      ...steps(9, "--save_steps", "5", ...anyway, "--learning_rate", "1e20", "--weight_decay", "1e20"),
    );
    expect(message).toMatch(/loss became (NaN|Infinity) at step 4: lower --learning_rate/);
    expect(await hashesIn(path.join(out, "checkpoint-2"))).toEqual(before);
    const names = await written();
    expect(names.filter((name) => name.startsWith("checkpoint-") && !name.includes("/"))).toEqual(["checkpoint-2"]);
    const logged = (await readFile(path.join(out, "metrics.jsonl"), "utf8")).trim().split("\n");
    expect(logged.every((line) => JSON.parse(line).step <= 3)).toBe(true);
    // A model that has just blown up is not saved, even before its next loss tells.
    const again = [...anyway, "--save_steps", "1", "--learning_rate", "1e20", "--weight_decay", "1e20"];
    expect(await failing(...steps(9, ...again))).toMatch(/tensor [\w.]+ is not finite any more/);
    expect(await hashesIn(path.join(out, "checkpoint-2"))).toEqual(before);
  });

  it("leaves nothing half-written on a full disk, and goes on when there is room", async () => {
    const handle = await open(path.join(dir, "probe"), "w");
    await handle.close();
    const prototype = Object.getPrototypeOf(handle) as typeof handle;
    const write = prototype.writeFile;
    let room = Number.POSITIVE_INFINITY;
    const spy = vi.spyOn(prototype, "writeFile").mockImplementation(async function (this: typeof handle, data) {
      const content = Buffer.from(data as Uint8Array);
      const fits = content.subarray(0, Math.max(0, room));
      room -= content.length;
      await write.call(this, fits);
      if (room < 0) throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
    });
    try {
      expect((await run(...steps(2))).code).toBe(0);
      const before = await hashesIn(path.join(out, "checkpoint-2"));
      room = 70_000; // the log's files and a part of the next checkpoint
      expect(await failing(...steps(6, "--resume"))).toMatch(
        /cannot write .*checkpoint-4: the disk is full: free some space and try again/,
      );
      expect(await hashesIn(path.join(out, "checkpoint-2"))).toEqual(before);
      const names = await written();
      expect(names.filter((name) => name.includes(".partial-") || name.startsWith("checkpoint-4"))).toEqual([]);
      room = Number.POSITIVE_INFINITY;
      const { code, text } = await run(...steps(6, "--resume"));
      expect(code, text).toBe(0);
      expect(text).toContain("going on after step 2");
    } finally {
      spy.mockRestore();
    }
  });

  it("removes what a killed run left unfinished, and never reads it", async () => {
    expect((await run(...steps(2))).code).toBe(0);
    for (const folder of [
      "checkpoint-4.partial-77",
      "checkpoint-2/trainer_state.json.partial-77",
      "a.partial-old-77",
    ]) {
      await mkdir(path.join(out, folder));
    }
    const { code, text } = await run(...steps(3, "--resume"));
    expect(code, text).toBe(0);
    expect(text).toContain("going on after step 2");
    expect((await written()).filter((name) => name.includes(".partial-"))).toEqual([]);
  });

  it("does not mix with an earlier run's checkpoints", async () => {
    expect((await run(...steps(2))).code).toBe(0);
    const before = await hashesIn(out);
    expect(await failing(...steps(4))).toMatch(/out holds checkpoint-2 of an earlier run: resume from it/);
    expect(await hashesIn(out)).toEqual(before);
  });

  it("does not start where another run is writing", async () => {
    const other = spawn(process.execPath, ["-e", "setTimeout(() => {}, 60_000)"]);
    try {
      await mkdir(out);
      const stat = await readFile(`/proc/${other.pid}/stat`, "utf8").catch(() => null);
      const began = stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? null;
      const { hostname } = await import("node:os");
      const mark = path.join(out, ".running.json");
      await writeFile(mark, JSON.stringify({ pid: other.pid, host: hostname(), began }));
      expect(await failing(...steps(1))).toContain(`another run (process ${other.pid}) is writing here`);
      expect(await written()).toEqual([".running.json"]);
      await writeFile(mark, JSON.stringify({ pid: 2 ** 22 + 1, host: hostname(), began }));
      expect((await run(...steps(1))).code).toBe(0);
      expect(await written()).not.toContain(".running.json");
    } finally {
      other.kill();
    }
  });
});

describe("a GPU that is too small", () => {
  it("names the store over the limit of a buffer, its size and the limit", async () => {
    const rows = Math.ceil(caps().maxBuffer / (2 * 16 * 4)) + 1; // gate and up, 16 floats each
    expect(await failing(...sft("--max_steps", "1", "--intermediate_size", String(rows)))).toMatch(
      /out parameters \(\d+ floats, decoder\.blocks\.0\.mlp\.up\.weight .*\) needs [\d.]+ MiB, but one buffer of this adapter holds at most [\d.]+ MiB: use a smaller model/,
    );
    expect(await written()).toEqual([]);
  });

  it("names what did not fit when the memory is used up", async () => {
    // One lack of memory is met with a new device, so that the class refuses.
    const refusal = { message: "VK_ERROR_OUT_OF_DEVICE_MEMORY" } as GPUError;
    const spy = vi.spyOn(Object.getPrototypeOf(device()) as GPUDevice, "popErrorScope");
    spy.mockImplementation(async () => refusal);
    try {
      expect(await failing(...sft("--max_steps", "1"))).toMatch(
        /out of GPU memory, twice: out parameters \(\d+ floats.*\) \([\d.]+ MiB, after [\d.]+ MiB already held\): lower/,
      );
      expect((await written()).filter((name) => name.includes("safetensors") || name.includes("partial"))).toEqual([]);
    } finally {
      spy.mockRestore();
      clearDeviceError();
    }
  });
});

const root = path.resolve(import.meta.dirname, "../..");

/** Runs the program in a process of its own; `listen` gets its output streams. */
function inProcess(words: string[], env: Record<string, string>, listen: (child: ReturnType<typeof spawn>) => void) {
  const program = `
    import { createServer } from "vite";
    process.argv = [process.argv[0], "webrlhf", ...${JSON.stringify(words)}];
    const server = { middlewareMode: true, ws: false, watch: null };
    const vite = await createServer({ root: ${JSON.stringify(root)}, server, configFile: false, logLevel: "error", appType: "custom", optimizeDeps: { noDiscovery: true } });
    await vite.ssrLoadModule("/src/cli/main.ts");
    await vite.close();
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let text = "";
  child.stderr.on("data", (bytes) => (text += bytes));
  listen(child);
  return new Promise<{ code: number | null; text: string }>((resolve) =>
    child.on("close", (code) => resolve({ code, text })),
  );
}

// Loading the sources takes seconds where the machine is busy.
describe.concurrent("the program in a process of its own", { timeout: 180_000 }, () => {
  it.runIf(process.platform === "linux")("names the remedies where there is no adapter", async () => {
    const chosen = "/no/such/driver.json";
    const env = { VK_ICD_FILENAMES: chosen, VK_DRIVER_FILES: chosen };
    const { code, text } = await inProcess(["sft", "--output_dir", out], env, () => {});
    expect(code).toBe(1);
    expect(onlyError(text.replace(/^Warning: .*\n/gm, ""))).toMatch(/^error: No WebGPU adapter: .*mesa-vulkan-drivers/);
    expect(await written()).toEqual([]);
  });

  it("ends without a word when nobody reads its output", async () => {
    const { code, text } = await inProcess(["sft", "--help"], {}, (child) => child.stdout?.destroy());
    expect(text).toBe("");
    expect(code).toBe(141);
  });
});
