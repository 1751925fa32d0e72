/** Damaged files of every format: each is refused with a message for the person, or everything in it can be read. */
import { describe, expect, it } from "vitest";
import { type Files, isUserError, memoryFiles, writeSafetensors } from "webrlhf";
import { openGguf, openGgufTokenizer } from "../../src/io/gguf-model.ts";
import { INDEX_FILE, openWeights, type WeightSource } from "../../src/io/weights.ts";
import { RandomStream } from "../../src/runtime/rng.ts";
import fixture from "../fixtures/gguf.json" with { type: "json" };
import { GgufWriter } from "./gguf-writer.ts";
import { mutate } from "./mutate.ts";

const base64 = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const SLOW = 2000; // ms for one file, on a machine with other work; most take well below one

/** Files in memory that notice a read outside of them. */
function guarded(): Files & { outside: number } {
  const files = memoryFiles();
  const guard = {
    ...files,
    outside: 0,
    async open(path: string) {
      const file = await files.open(path);
      if (!file) return null;
      const read = (offset: number, length: number) => {
        if (!(offset >= 0 && length >= 0 && offset + length <= file.size)) guard.outside += 1;
        return file.read(offset, length);
      };
      return { ...file, read };
    },
  };
  return guard;
}

/** Every tensor has the values that its shape says. */
async function readAll(source: WeightSource): Promise<void> {
  for (const name of source.names) {
    const size = source.info(name).shape.reduce((a, b) => a * b, 1);
    expect((await source.read(name)).length).toBe(size);
  }
  await source.close();
}

/** Runs `open` on `count` damaged versions of `content`; returns how many were refused. */
async function damage(
  content: Uint8Array,
  count: number,
  seed: number,
  open: (files: Files, bytes: Uint8Array) => Promise<unknown>,
): Promise<number> {
  const random = new RandomStream(seed);
  let refused = 0;
  for (let i = 0; i < count; i++) {
    const bytes = mutate(content, random);
    const files = guarded();
    const start = performance.now();
    try {
      await open(files, bytes);
    } catch (error) {
      if (!isUserError(error)) throw new Error(`case ${i}: ${error}`, { cause: error });
      refused += 1;
    }
    expect(performance.now() - start, `case ${i}`).toBeLessThan(SLOW);
    expect(files.outside, `case ${i}`).toBe(0);
  }
  return refused;
}

describe("10,000 damaged files", () => {
  it("of safetensors", async () => {
    const content = writeSafetensors({
      "model.embed_tokens.weight": { shape: [4, 3], data: new Float32Array(12).fill(0.5) },
      ids: { shape: [2], data: new Uint32Array([1, 2]) },
      "b.bias": { shape: [1], data: new Float32Array([3]) },
    });
    const refused = await damage(content, 9000, 1, async (files, bytes) => {
      await files.writeFile("m/model.safetensors", bytes);
      const source = await openWeights(files, "m");
      for (const name of source.names) {
        if (["F32", "F16", "BF16", "F64"].includes(source.info(name).dtype)) await source.read(name);
      }
    });
    expect(refused).toBeGreaterThan(6000);
  });

  it("of indices of shards", async () => {
    const [a, b] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    const index = new TextEncoder().encode(
      JSON.stringify({ metadata: { total_size: 12 }, weight_map: { "x.weight": a, "y.weight": b } }),
    );
    const shard = (name: string) => writeSafetensors({ [name]: { shape: [1], data: new Float32Array(1) } });
    const refused = await damage(index, 1000, 2, async (files, bytes) => {
      await files.writeFile(`m/${INDEX_FILE}`, bytes);
      await files.writeFile(`m/${a}`, shard("x.weight"));
      await files.writeFile(`m/${b}`, shard("y.weight"));
      const source = await openWeights(files, "m");
      expect([...source.names].sort()).toEqual(["x.weight", "y.weight"]); // no damage loads something else
      await readAll(source);
    });
    expect(refused).toBeGreaterThan(600);
  });

  it("of GGUF", async () => {
    let refused = 0;
    for (const [i, { file }] of fixture.models.entries()) {
      const whole = base64(file);
      // The header is what can lie: damage mostly that, and the data at times.
      const header = whole.subarray(0, whole.length - Math.floor(whole.length * 0.6));
      refused += await damage(header, 900, 10 + i, async (files, bytes) => {
        const all = new Uint8Array(bytes.length + whole.length - header.length);
        all.set(bytes);
        all.set(whole.subarray(header.length), bytes.length);
        await files.writeFile("m.gguf", all);
        await readAll((await openGguf(files, "m.gguf")).weights);
      });
      refused += await damage(whole, 100, 50 + i, async (files, bytes) => {
        await files.writeFile("m.gguf", bytes);
        await readAll((await openGguf(files, "m.gguf")).weights);
      });
    }
    expect(refused).toBeGreaterThan(4000);
  });

  it("of GGUF with quantised tensors", async () => {
    const w = new GgufWriter();
    w.text("general.architecture", "qwen2");
    for (const key of [
      "context_length",
      "embedding_length",
      "block_count",
      "feed_forward_length",
      "attention.head_count",
    ])
      w.u32(`qwen2.${key}`, 32);
    w.f32("qwen2.attention.layer_norm_rms_epsilon", 1e-6);
    for (const [name, type] of Object.entries({ token_embd: 0, output: 1, output_norm: 0 }))
      w.tensor(`${name}.weight`, [4, 32], { type });
    const refused = await damage(w.bytes(), 1000, 3, async (files, bytes) => {
      await files.writeFile("m.gguf", bytes);
      await readAll((await openGguf(files, "m.gguf")).weights);
    });
    expect(refused).toBeGreaterThan(300);
  });

  it("of GGUF with tokenizers", async () => {
    let refused = 0;
    for (const [i, model] of ["gpt2", "llama"].entries()) {
      const w = new GgufWriter();
      const tokens = ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁a", "  ", "<0x0A>"];
      w.text("general.architecture", "llama");
      w.text("tokenizer.ggml.model", model);
      w.text("tokenizer.ggml.pre", "llama-bpe");
      w.texts("tokenizer.ggml.tokens", tokens);
      w.numbers("tokenizer.ggml.token_type", Int32Array.of(2, 3, 3, 1, 1, 1, 1, 1, 4, 6));
      w.numbers(
        "tokenizer.ggml.scores",
        Float32Array.from(tokens, (_, id) => -id),
      );
      if (model === "gpt2") w.texts("tokenizer.ggml.merges", ["a b", "▁ a"]);
      w.u32("tokenizer.ggml.bos_token_id", 1);
      w.u32("tokenizer.ggml.eos_token_id", 2);
      w.flag("tokenizer.ggml.add_bos_token", true);
      refused += await damage(w.bytes(), 1000, 100 + i, async (files, bytes) => {
        await files.writeFile("m.gguf", bytes);
        const { json } = await openGgufTokenizer(files, "m.gguf");
        expect(JSON.stringify(json).length).toBeLessThan(10_000);
      });
    }
    expect(refused).toBeGreaterThan(800);
  });
});
