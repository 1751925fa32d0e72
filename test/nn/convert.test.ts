import { beforeAll, describe, expect, it } from "vitest";
import { type Files, isUserError, memoryFiles } from "webrlhf";
import {
  CausalLM,
  convertModel,
  decoderConfig,
  loadCausalLM,
  loadScoreModel,
  modelFiles,
  ScoreModel,
} from "webrlhf/nn";
import { WEIGHTS_FILE } from "../../src/io/weights.ts";
import fixture from "../fixtures/gguf.json" with { type: "json" };
import { gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

const base64 = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const shape = { vocabSize: 24, hiddenSize: 16, layers: 2, heads: 2, maxPositions: 16 };

async function valuesOf(model: CausalLM | ScoreModel): Promise<Map<string, Float32Array>> {
  const values = await model.store.read();
  model.destroy();
  return values;
}

const readJson = async (files: Files, path: string) =>
  JSON.parse(new TextDecoder().decode((await files.read(path)) as Uint8Array));

/** A folder with a saved model, and the model's values. */
async function saved(family: "gpt2" | "llama" | "gpt_neox" | "gemma2", score = false) {
  const files = memoryFiles();
  const config = decoderConfig({ ...shape, family });
  const model = (score ? new ScoreModel(config) : new CausalLM(config)).initialize(3);
  await files.writeFolder("m", {
    ...(await modelFiles(model)),
    "tokenizer.json": "{}",
    "notes.txt": "not part of a model",
  });
  return { files, values: await valuesOf(model) };
}

describe("converting", () => {
  it.each(["gpt2", "llama", "gpt_neox", "gemma2"] as const)(
    "splits a %s model into files, and nothing changes",
    async (family) => {
      const { files, values } = await saved(family);
      const made = await convertModel(files, "m", "out", { maxShardSize: 4000 });
      expect(made.dtype).toBe("float32");
      expect(made.files.filter((name) => name.endsWith(".safetensors")).length).toBeGreaterThan(2);
      expect(made.files).toContain("tokenizer.json");
      expect(made.files).not.toContain("notes.txt");
      expect(await valuesOf(await loadCausalLM(files, "out"))).toEqual(values);
    },
  );

  it("rounds to 16 bits, says so in config.json, and keeps them when asked for nothing", async () => {
    const { files, values } = await saved("llama", true);
    await convertModel(files, "m", "half", { dtype: "bfloat16" });
    expect(await readJson(files, "half/config.json")).toMatchObject({ dtype: "bfloat16", torch_dtype: "bfloat16" });
    const half = await valuesOf(await loadScoreModel(files, "half"));
    for (const [name, exact] of values) {
      half.get(name)?.forEach((x, i) => {
        if (Math.abs(x - exact[i]) > Math.abs(exact[i]) / 256) throw new Error(`${name}[${i}]: ${x} for ${exact[i]}`);
      });
    }
    expect((await convertModel(files, "half", "again")).dtype).toBe("bfloat16");
    expect(await files.read(`again/${WEIGHTS_FILE}`)).toEqual(await files.read(`half/${WEIGHTS_FILE}`));
  });

  it.each(fixture.models.map(({ arch, file }) => ({ arch, file })))(
    "makes a folder of a GGUF file: $arch",
    async ({ file }) => {
      const files = memoryFiles();
      await files.writeFile("m.gguf", base64(file));
      const { dtype } = await convertModel(files, "m.gguf", "out", { maxShardSize: 3000 });
      expect(dtype).toBe("float32");
      const direct = await loadCausalLM(files, "m.gguf").catch((error) => error);
      if (direct instanceof CausalLM) {
        expect(await valuesOf(await loadCausalLM(files, "out"))).toEqual(await valuesOf(direct));
        return;
      }
      // The tiny heads of some fixtures are too narrow for the kernels: then both ways say so.
      expect(direct.message).toMatch(/headDim/);
      await expect(loadCausalLM(files, "out")).rejects.toThrow(/headDim/);
    },
  );

  it("refuses a folder that is not empty, and leaves none behind when it fails", async () => {
    const { files } = await saved("gpt2");
    await expect(convertModel(files, "m", "m")).rejects.toThrow("m is not empty: choose another output folder");
    const config = decoderConfig({ ...shape, family: "llama" });
    const model = new CausalLM(config).initialize(1);
    const weight = model.decoder.config && model.store.parameters.find((p) => p.name.endsWith("mlp.down.weight"));
    const data = await (weight as NonNullable<typeof weight>).value.read();
    data[5] = 70000;
    weight?.value.write(data);
    await files.writeFolder("big", await modelFiles(model));
    model.destroy();
    const error = await convertModel(files, "big", "out", { dtype: "float16" }).catch((e) => e);
    expect(isUserError(error)).toBe(true);
    expect(error.message).toMatch(
      /tensor model\.layers\.0\.mlp\.down_proj\.weight holds 70000, which float16 cannot keep/,
    );
    expect(await files.list("out")).toEqual([]);
    expect((await convertModel(files, "big", "out", { dtype: "bfloat16" })).tensors).toBe(20);
  });

  it.each(["float32", "bfloat16", "float16"] as const)(
    "refuses NaN and infinity in %s by the tensor's name",
    async (dtype) => {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        const { files } = await saved("llama");
        const bytes = (await files.read(`m/${WEIGHTS_FILE}`)) as Uint8Array;
        new DataView(bytes.buffer, bytes.byteOffset).setFloat32(bytes.length - 8, bad, true);
        await files.writeFile(`m/${WEIGHTS_FILE}`, bytes);
        const error = await convertModel(files, "m", "out", { dtype, maxShardSize: 4000 }).catch((e) => e);
        expect(isUserError(error)).toBe(true);
        expect(error.message).toMatch(new RegExp(`: tensor \\S+ holds ${bad}, which ${dtype} cannot keep$`));
        expect(await files.list("out")).toEqual([]);
      }
    },
  );
});
