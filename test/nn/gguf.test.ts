/** Models written as GGUF, against files that the reference package wrote of the same models, and read back. */
import { describe, expect, it } from "vitest";
import { type Files, isUserError, memoryFiles } from "webrlhf";
import { trainBpe } from "webrlhf/data";
import { convertModel, decoderConfig, type GgufType, toHfConfig, writeGguf } from "webrlhf/nn";
import { type GgufHeader, readGgufHeader } from "../../src/io/gguf.ts";
import { openGguf, openGgufTokenizer } from "../../src/io/gguf-model.ts";
import { writeSafetensors } from "../../src/io/safetensors-write.ts";
import { openWeights } from "../../src/io/weights.ts";
import { fileTensors } from "../../src/nn/huggingface.ts";
import { bytesFile } from "../../src/runtime/open.ts";
import fixture from "../fixtures/gguf.json" with { type: "json" };

const base64 = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const { tokenizerJson, tokenizerConfigJson } = trainBpe([], {
  vocabSize: 2,
  specialTokens: ["<s>", "</s>"],
  alphabet: "seen",
});
const tokenizer = {
  "tokenizer.json": JSON.stringify(tokenizerJson),
  "tokenizer_config.json": JSON.stringify({
    ...tokenizerConfigJson,
    eos_token: "</s>",
    chat_template: "{{ messages }}",
  }),
};

async function written(files: Files, path: string, type?: GgufType) {
  const result = await writeGguf(files, path, "out.gguf", type);
  const bytes = (await files.read("out.gguf")) as Uint8Array;
  return { result, bytes, header: await readGgufHeader(bytesFile(bytes), "out.gguf") };
}

const dataOf = ({ header, bytes }: { header: GgufHeader; bytes: Uint8Array }, name: string) => {
  const { begin, end } = header.tensors.get(name)!;
  return bytes.subarray(begin, end);
};

const shapesOf = (header: GgufHeader) => new Map([...header.tensors].map(([name, { shape }]) => [name, shape]));

const farthest = (a: Float32Array, b: Float32Array) => a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);

describe.each(fixture.models)("a model of architecture $arch", ({ arch, file }) => {
  it("is the reference's file, tensor for tensor, and says what that says", async () => {
    const files = memoryFiles();
    await files.writeFile("m.gguf", base64(file));
    await convertModel(files, "m.gguf", "m");
    await files.writeFiles("m", tokenizer);
    const ours = await written(files, "m", "f32");
    const reference = { bytes: base64(file), header: await readGgufHeader(bytesFile(base64(file)), "m.gguf") };
    expect(shapesOf(ours.header)).toEqual(shapesOf(reference.header));
    for (const name of reference.header.tensors.keys()) {
      const [a, b] = [ours, reference].map((one) => new Float32Array(dataOf(one, name).slice().buffer));
      // Gemma's norms went to weight - 1 and back.
      const exact = !(arch.startsWith("gemma") && name.includes("norm")) && name !== "rope_freqs.weight";
      if (exact) expect(a, name).toEqual(b);
      else expect(farthest(a, b), name).toBeLessThan(2e-6);
    }
    for (const [key, value] of reference.header.metadata) {
      expect(ours.header.metadata.get(key), key).toEqual(value);
    }
  });
});

/** A folder with a model of fresh weights, which a test may spoil. */
async function folder(
  shape: Partial<Parameters<typeof decoderConfig>[0]>,
  change: (values: Record<string, Float32Array>) => void = () => {},
  more: Record<string, string> = {},
): Promise<Files> {
  const config = decoderConfig({
    family: "llama",
    vocabSize: 20,
    hiddenSize: 64,
    layers: 1,
    heads: 2,
    eosId: 1,
    ...shape,
  });
  const json = toHfConfig(config, "lm");
  const files = memoryFiles();
  const { hiddenSize: d, intermediateSize: f, kvHeads, heads, headDim } = config;
  const sizes: Record<string, number[]> = {
    embed_tokens: [config.vocabSize, d],
    lm_head: [config.vocabSize, d],
    q_proj: [heads * headDim, d],
    k_proj: [kvHeads * headDim, d],
    v_proj: [kvHeads * headDim, d],
    o_proj: [d, heads * headDim],
    gate_proj: [f, d],
    up_proj: [f, d],
    down_proj: [d, f],
  };
  const tensors = fileTensors(config, "lm").map(({ name }, t): [string, { shape: number[]; data: Float32Array }] => {
    const part = Object.keys(sizes).find((key) => name.includes(key));
    const shape = part && name.endsWith("weight") ? sizes[part] : [d];
    const data = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(i * 0.7 + t));
    return [name, { shape, data }];
  });
  change(Object.fromEntries(tensors.map(([name, { data }]) => [name, data])));
  await files.writeFolder("m", {
    "config.json": JSON.stringify(json),
    "model.safetensors": writeSafetensors(Object.fromEntries(tensors)),
    ...tokenizer,
    ...more,
  });
  return files;
}

describe("formats", () => {
  const typesOf = (header: GgufHeader) =>
    Object.fromEntries([...header.tensors].map(([name, { type }]) => [name.replace("blk.0.", ""), type.name]));

  it.each<[GgufType, string, string, string]>([
    ["f32", "F32", "F32", "F32"],
    ["f16", "F16", "F16", "F16"],
    ["bf16", "BF16", "BF16", "BF16"],
    ["q8_0", "Q8_0", "Q8_0", "F16"],
    ["q4_0", "Q4_0", "Q8_0", "F16"],
  ])("%s: matrices, the one of the logits, rows that are no multiple of 32", async (type, matrix, logits, odd) => {
    for (const tieEmbeddings of [true, false]) {
      const files = await folder({ intermediateSize: 40, tieEmbeddings });
      const { header, result } = await written(files, "m", type);
      const types = typesOf(header);
      expect(types).toMatchObject({ "attn_q.weight": matrix, "ffn_down.weight": odd, "attn_norm.weight": "F32" });
      expect(types["token_embd.weight"]).toBe(tieEmbeddings ? logits : matrix);
      expect(types["output.weight"]).toBe(tieEmbeddings ? undefined : logits);
      expect(result.asF16).toEqual(type.startsWith("q") ? ["blk.0.ffn_down.weight"] : []);
      expect(result.tensors).toBe(header.tensors.size);
      // And all of it is read again.
      const model = await openGguf(files, "out.gguf");
      const source = await openWeights(files, "m");
      for (const name of model.weights.names) {
        const [ours, exact] = [await model.weights.read(name), await source.read(name)];
        const step = { f32: 0, f16: 2 ** -11, bf16: 2 ** -8, q8_0: 1 / 220, q4_0: 1 / 7.9 }[type];
        expect(farthest(ours, exact), name).toBeLessThanOrEqual(step);
      }
    }
  });

  it("makes another type of a GGUF file, tokenizer and all", async () => {
    const files = await folder({});
    await written(files, "m", "f32");
    await files.writeFile("first.gguf", (await files.read("out.gguf"))!);
    const { header } = await written(files, "first.gguf", "q8_0");
    expect(header.tensors.get("blk.0.attn_k.weight")?.type.name).toBe("Q8_0");
    expect((await openGgufTokenizer(files, "out.gguf")).config).toMatchObject({
      chat_template: "{{ messages }}",
      eos_token: "</s>",
    });
  });

  it("keeps the template of a file of its own, and every end of a text", async () => {
    const files = await folder({ eosIds: [2, 1, 5] }, undefined, { "chat_template.jinja": "{{ bos_token }}" });
    const { header } = await written(files, "m");
    const { metadata } = header;
    expect(metadata.get("tokenizer.chat_template")).toBe("{{ bos_token }}");
    const ends = ["eos", "eot", "eom"].map((name) => metadata.get(`tokenizer.ggml.${name}_token_id`));
    expect(ends).toEqual([1, 2, 5]);
    expect((await openGguf(files, "out.gguf")).config.eos_token_id).toEqual(ends);
  });
});

describe("what is refused", () => {
  async function refusal(files: Files, path = "m", type: GgufType = "f16"): Promise<string> {
    const error = await writeGguf(files, path, "out.gguf", type).then(
      () => new Error("it was written"),
      (e) => e,
    );
    expect(isUserError(error), error.stack).toBe(true);
    expect(await files.read("out.gguf")).toBeNull();
    return error.message;
  }

  it.each<[string, Parameters<typeof folder>[0], RegExp]>([
    [
      "a window that files of its kind lack",
      { family: "qwen2", slidingWindow: 8 },
      /cannot say that slidingWindow is 8/,
    ],
    ["layers without positions", { family: "smollm3" }, /family smollm3 are not written as GGUF; these are: llama,/],
    ["another scale", { family: "gemma2", attentionScale: 0.5 }, /cannot say that attentionScale is 0\.5/],
    ["no softcap", { family: "gemma2", logitSoftcap: null }, /cannot say that logitSoftcap is null/],
    ["more ends than there are names", { eosIds: [1, 2, 3, 4] }, /tokenizer\.json: 4 tokens end a text/],
    [
      "a scaling unlike Llama 3's",
      {
        ropeScaling: { type: "llama3", factor: 8, lowFreqFactor: 1, highFreqFactor: 8, originalMaxPositions: 8192 },
      },
      /rope_freqs\.weight is not the scaling of Llama 3/,
    ],
  ])("%s", async (_, shape, message) => {
    expect(await refusal(await folder(shape))).toMatch(message);
  });

  it("an adapter, with what to do", async () => {
    const files = memoryFiles();
    await files.writeFolder("m", { "adapter_config.json": "{}" });
    expect(await refusal(files)).toMatch(
      /m is an adapter: put it into its base first, with webrlhf merge --adapter_path m/,
    );
  });

  it("a reward model, and a folder without a tokenizer", async () => {
    const files = await folder({});
    await files.remove("m/tokenizer.json");
    expect(await refusal(files)).toMatch(/m\/tokenizer\.json is missing: a GGUF file carries its model's tokenizer/);
    const scorer = await folder({});
    await scorer.writeFile(
      "m/model.safetensors",
      writeSafetensors({ "score.weight": { shape: [1, 64], data: new Float32Array(64) } }),
    );
    expect(await refusal(scorer)).toMatch(/m is a reward model/);
  });

  it.each<[GgufType, number, RegExp]>([
    [
      "f16",
      65520,
      /tensor model\.layers\.0\.self_attn\.v_proj\.weight holds 65520, too large for F16: use outtype bf16/,
    ],
    ["q4_0", 65520 * 8, /too large for Q4_0/],
    ["q8_0", 65520 * 127, /too large for Q8_0/],
    ["f32", Number.NaN, /holds NaN/],
  ])("%s of %s, leaving nothing behind", async (type, value, message) => {
    const files = await folder({}, (values) => {
      values["model.layers.0.self_attn.v_proj.weight"][70] = value;
    });
    expect(await refusal(files, "m", type)).toMatch(message);
  });
});
