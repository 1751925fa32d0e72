import { describe, expect, it } from "vitest";
import { isUserError, memoryFiles } from "webrlhf";
import { readGgufHeader } from "../../src/io/gguf.ts";
import { openGguf } from "../../src/io/gguf-model.ts";
import { bytesFile } from "../../src/runtime/open.ts";
import fixture from "../fixtures/gguf.json" with { type: "json" };
import { GgufWriter } from "./gguf-writer.ts";

const base64 = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

async function open(bytes: Uint8Array) {
  const files = memoryFiles();
  await files.writeFile("m.gguf", bytes);
  return openGguf(files, "m.gguf");
}

describe("tensor formats", () => {
  const { file, tensors } = fixture.formats;
  it.each(tensors)("$name gives the reference implementation's values, bit for bit", async ({ name, shape, f32 }) => {
    const bytes = base64(file);
    const header = await readGgufHeader(bytesFile(bytes), "x");
    const tensor = header.tensors.get(name);
    expect(tensor?.type.name).toBe(name);
    expect(tensor?.shape).toEqual(shape);
    const values = tensor?.type.decode(bytes.subarray(tensor.begin, tensor.end)) as Float32Array;
    expect(new Uint8Array(values.buffer, values.byteOffset, values.byteLength)).toEqual(base64(f32));
  });
});

/** Depends on where every value stands. */
const checksum = (data: Float32Array) => data.reduce((sum, x, i) => sum + x * (((i * 7919) % 101) - 50), 0);

describe.each(fixture.models)("a model of architecture $arch", ({ arch, file, config, tensors }) => {
  it("has the config of the model it was made from", async () => {
    const model = await open(base64(file));
    const ours = model.config;
    for (const [key, value] of Object.entries(config)) {
      if (ours[key] !== undefined) expect({ [key]: ours[key] }).toEqual({ [key]: value });
    }
    const shared = Object.keys(config).filter((key) => ours[key] !== undefined);
    expect(shared.length).toBeGreaterThanOrEqual(arch === "gpt2" ? 7 : 9);
    expect([ours.bos_token_id, ours.eos_token_id]).toEqual([1, 2]);
  });

  it("has its tensors, whole and by rows", async () => {
    const { weights } = await open(base64(file));
    const nameOf = (name: string) => (arch === "gptneox" ? name.replace("lm_head", "embed_out") : name);
    expect([...weights.names].sort()).toEqual(Object.keys(tensors).map(nameOf).sort());
    for (const [name, { shape, checksum: expected }] of Object.entries(tensors)) {
      const ours = nameOf(name);
      const bytes = 4 * shape.reduce((product: number, size: number) => product * size, 1);
      expect(weights.info(ours)).toEqual({ dtype: "F32", shape, bytes });
      const whole = await weights.read(ours);
      expect(Math.abs(checksum(whole) - expected), name).toBeLessThan(1e-3);
      const width = whole.length / shape[0];
      for (const [first, last] of [
        [0, 1],
        [1, shape[0] - 1],
        [shape[0] - 1, shape[0]],
      ]) {
        expect(await weights.readRows(ours, first, last)).toEqual(whole.slice(first * width, last * width));
      }
    }
  });
});

/** A small Llama that each test spoils in its own way. */
function llama(change: (w: GgufWriter) => void = () => {}): GgufWriter {
  const w = new GgufWriter();
  w.text("general.architecture", "llama");
  for (const [key, value] of Object.entries({
    context_length: 8,
    embedding_length: 8,
    block_count: 1,
    feed_forward_length: 8,
    "attention.head_count": 2,
  })) {
    w.u32(`llama.${key}`, value);
  }
  w.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
  w.tensor("token_embd.weight", [4, 8]);
  w.tensor("output_norm.weight", [8]);
  change(w);
  return w;
}

async function refusal(bytes: Uint8Array): Promise<string> {
  const error = await open(bytes).then(
    () => new Error("it was accepted"),
    (e) => e,
  );
  expect(isUserError(error), error.stack).toBe(true);
  return error.message;
}

describe("what is refused", () => {
  it("accepts the untouched file", async () => {
    const { config, weights } = await open(llama().bytes());
    expect(config).toMatchObject({ model_type: "llama", rms_norm_eps: 1e-5, vocab_size: 4, tie_word_embeddings: true });
    expect(weights.names).toEqual(["model.embed_tokens.weight", "model.norm.weight"]);
  });

  it.each<[string, (w: GgufWriter) => void, RegExp]>([
    [
      "another architecture",
      (w) => w.set("general.architecture", "mamba"),
      /architecture "mamba" is not supported; llama,/,
    ],
    ["a missing number", (w) => w.drop("llama.block_count"), /llama\.block_count is missing/],
    ["text for a number", (w) => w.text("llama.block_count", "one"), /"llama\.block_count" occurs twice/],
    ["experts", (w) => w.u32("llama.expert_count", 8), /llama\.expert_count = 8 is not supported/],
    ["a part of a split model", (w) => w.u32("split.count", 3), /split into 3 files/],
    [
      "a tensor of another model",
      (w) => w.tensor("blk.0.ssm_in.weight", [8]),
      /blk\.0\.ssm_in\.weight does not belong/,
    ],
    ["two tensors of one name", (w) => w.tensor("output_norm.weight", [8]), /"output_norm\.weight" occurs twice/],
    ["heads that do not divide", (w) => w.tensor("blk.0.attn_q.weight", [6, 8]), /6 rows do not fit 2 heads/],
    [
      "an unknown format",
      (w) => w.tensor("blk.0.attn_v.weight", [8], { type: 16 }),
      /ggml type 16\) is not read; F32,/,
    ],
    ["half a block", (w) => w.tensor("blk.0.attn_v.weight", [8], { type: 8 }), /rows of 8 values do not divide/],
    ["an overlap", (w) => w.tensor("blk.0.attn_v.weight", [8], { offset: 0 }), /begins at byte 0 of the data/],
    ["a hole", (w) => w.tensor("blk.0.attn_v.weight", [8], { offset: 640 }), /begins at byte 640 of the data/],
    ["five dimensions", (w) => w.tensor("blk.0.attn_v.weight", [1, 1, 1, 1, 8]), /claims 5 dimensions/],
    ["an odd alignment", (w) => w.u32("general.alignment", 24), /general\.alignment must be a power of two/],
    ["a scaling it does not know", (w) => w.tensor("rope_freqs.weight", [2]), /not the scaling of Llama 3/],
  ])("%s", async (_, change, message) => {
    expect(await refusal(llama(change).bytes())).toMatch(message);
  });

  it.each<[string, (bytes: Uint8Array) => Uint8Array, RegExp]>([
    ["an empty file", () => new Uint8Array(), /not a GGUF file/],
    ["another magic", (b) => b.with(0, 0), /not a GGUF file/],
    ["version 1", (b) => b.with(4, 1), /version 1 is not read: convert it anew/],
    ["version 4", (b) => b.with(4, 4), /version 4 is not read/],
    ["a cut in the header", (b) => b.slice(0, 100), /truncated or damaged/],
    ["a cut in the data", (b) => b.slice(0, -20), /truncated: tensor "output_norm.weight" ends at byte/],
    ["more data", (b) => new Uint8Array([...b, ...new Uint8Array(40)]), /40 unexplained bytes after tensor/],
    ["a count of 2^40 tensors", (b) => b.with(13, 1), /tensor count is 1099511627778, more than the file can hold/],
    ["a count of 2^63 pairs", (b) => b.with(23, 128), /metadata count is 9223372036854775815/],
  ])("%s", async (_, change, message) => {
    expect(await refusal(change(llama().bytes()))).toMatch(message);
  });

  it("says when there is no file", async () => {
    await expect(openGguf(memoryFiles(), "x.gguf")).rejects.toThrow("x.gguf: there is no such file");
  });
});
