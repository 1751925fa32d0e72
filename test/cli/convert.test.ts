import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { main } from "webrlhf/cli";
import { parseSize } from "../../src/cli/verbs/convert.ts";
import { silentTerminal } from "./terminal.ts";

describe("a size", () => {
  it.each([
    ["500MB", 5e8],
    ["5 GB", 5e9],
    ["2GiB", 2 ** 31],
    ["1.5kb", 1500],
    ["1000000", 1e6],
  ])("%s", (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  it.each(["", "0", "five", "5 parsecs", "-5MB", "0.1B", "1e9"])("is not %s", (text) => {
    expect(() => parseSize(text)).toThrow(/max_shard_size must be a size such as 500MB or 5GB/);
  });
});

const MODEL = "models/world-sft";
const WEIGHTS = "model.safetensors";

describe("converting what cannot be converted", () => {
  let dir: string;
  beforeEach(async () => {
    process.setMaxListeners(100);
    dir = await mkdtemp(path.join(tmpdir(), "webrlhf-"));
    await mkdir(path.join(dir, "m"));
    for (const name of await readdir(MODEL)) await copyFile(path.join(MODEL, name), path.join(dir, "m", name));
  });
  afterEach(() => rm(dir, { recursive: true }));

  type Damage = (file: Buffer) => Buffer | string;
  const headerOf = (file: Buffer) => Number(file.readBigUInt64LE(0));
  const valueAt =
    (value: number, share: number): Damage =>
    (file) => {
      const start = 8 + headerOf(file);
      file.writeFloatLE(value, start + 4 * Math.floor(((file.length - start) / 4 - 1) * share));
      return file;
    };
  const within = (change: (header: Record<string, { dtype: string; shape: number[] }>) => void): Damage => {
    return (file) => {
      const size = headerOf(file);
      const header = JSON.parse(file.toString("utf8", 8, 8 + size));
      change(header);
      const text = Buffer.from(JSON.stringify(header));
      const length = Buffer.alloc(8);
      length.writeBigUInt64LE(BigInt(text.length));
      return Buffer.concat([length, text, file.subarray(8 + size)]);
    };
  };
  const someTensor = (header: object) => Object.keys(header).find((name) => name !== "__metadata__") as string;

  it.each<[string, string, string, Damage, RegExp]>([
    [
      "NaN in the last weight",
      "float32",
      WEIGHTS,
      valueAt(Number.NaN, 1),
      /tensor \S+ holds NaN, which float32 cannot/,
    ],
    [
      "NaN in the first weight",
      "bfloat16",
      WEIGHTS,
      valueAt(Number.NaN, 0),
      /tensor \S+ holds NaN, which bfloat16 cannot/,
    ],
    ["infinity", "auto", WEIGHTS, valueAt(Number.POSITIVE_INFINITY, 0.5), /tensor \S+ holds Infinity, which float32/],
    ["a value too large", "float16", WEIGHTS, valueAt(65520, 0.7), /tensor \S+ holds 65520, which float16 cannot keep/],
    ["weights cut short", "float16", WEIGHTS, (file) => file.subarray(0, -1000), /model\.safetensors/],
    ["weights cut in the header", "auto", WEIGHTS, (file) => file.subarray(0, 50), /model\.safetensors/],
    ["no weights", "auto", WEIGHTS, () => "", /model\.safetensors/],
    ["a header that is no JSON", "auto", WEIGHTS, (file) => file.fill("x", 8, 40), /model\.safetensors/],
    ["a tensor less", "auto", WEIGHTS, within((header) => delete header[someTensor(header)]), /model\.safetensors/],
    [
      "a tensor of another shape",
      "auto",
      WEIGHTS,
      within((header) => header[someTensor(header)].shape.push(2)),
      /model\.safetensors/,
    ],
    ["a config that is no JSON", "auto", "config.json", () => "{", /config\.json/],
    [
      "a config of more layers",
      "auto",
      "config.json",
      (file) => String(file).replace(/("num_hidden_layers"\s*:\s*)\d+/, "$19"),
      /tensor \S+ is missing/,
    ],
  ])("ends in one line for %s, and leaves nothing behind", async (_, dtype, name, damage, said) => {
    const file = path.join(dir, "m", name);
    const before = await readFile(file);
    const damaged = damage(Buffer.from(before));
    expect(before.equals(Buffer.from(damaged))).toBe(false);
    await writeFile(file, damaged);
    const terminal = silentTerminal();
    const output = path.join(dir, "out");
    const words = ["--model_name_or_path", path.join(dir, "m"), "--output_dir", output, "--max_shard_size", "100KB"];
    expect(await main(["convert", ...words, "--dtype", dtype], terminal)).toBe(1);
    const text = terminal.written.join("");
    expect(text).toMatch(said);
    expect(text.trim().split("\n")).toHaveLength(1);
    expect(text).not.toMatch(/defect of webrlhf|\n\s+at /);
    expect(terminal.results).toEqual([]);
    expect(await readdir(dir)).toEqual(["m"]);
  });
});

describe("a GGUF file", () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(path.join(tmpdir(), "webrlhf-"));
  });
  afterEach(() => rm(dir, { recursive: true }));

  async function convert(...words: string[]) {
    const terminal = silentTerminal();
    const code = await main(["convert", "--model_name_or_path", MODEL, ...words], terminal);
    return { code, text: terminal.written.join("") };
  }

  it("is written with its record beside it, and converted back", async () => {
    const outfile = path.join(dir, "m.gguf");
    const { code, text } = await convert("--outfile", outfile, "--outtype", "f32");
    expect([code, text]).toEqual([0, expect.stringContaining("20 tensors (1.2 MB) as f32 in")]);
    expect(await readdir(dir)).toEqual(["m.gguf", "m.gguf.run.json"]);
    const back = ["convert", "--model_name_or_path", outfile, "--output_dir", path.join(dir, "back")];
    expect(await main(back, silentTerminal())).toBe(0);
    const weights = path.join(dir, "back", WEIGHTS);
    expect((await readFile(weights)).equals(await readFile(path.join(MODEL, WEIGHTS)))).toBe(true);
  });

  it.each([
    [["--outfile", "m.bin"], /outfile must end with \.gguf, not m\.bin/],
    [["--outfile", "m.gguf", "--dtype", "float16"], /--dtype has no effect together with --outfile/],
    [["--outtype", "q8_0"], /--outtype has no effect without --outfile/],
    [["--outfile", "m.gguf", "--outtype", "q4_k"], /--outtype must be one of f32, f16, bf16, q8_0, q4_0/],
  ])("%s is refused", async (words, message) => {
    const { code, text } = await convert(...words);
    expect(text).toMatch(message);
    expect(code).toBeGreaterThan(0);
  });
});
