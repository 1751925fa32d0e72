/** Loading and sampling are followed and stopped, and leave nothing behind. */
import { beforeAll, describe, expect, it } from "vitest";
import { type Files, memoryFiles, stats } from "webrlhf";
import {
  CausalLM,
  decoderConfig,
  generate,
  loadCausalLM,
  loadScoreModel,
  modelFiles,
  type SamplingParams,
  type ScoreModel,
} from "webrlhf/nn";
import { gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

const config = decoderConfig({
  family: "llama",
  vocabSize: 300,
  hiddenSize: 32,
  layers: 3,
  heads: 4,
  maxPositions: 128,
});

async function saved(dtype: "float32" | "bfloat16" = "float32"): Promise<Files> {
  const files = memoryFiles();
  const model = new CausalLM(config, "saved").initialize(1);
  await files.writeFolder("m", await modelFiles(model, { dtype }));
  model.destroy();
  return files;
}

describe.each(["float32", "int8"] as const)("loading as %s", (format) => {
  const loaders: [string, (files: Files, loading: object) => Promise<CausalLM | ScoreModel>][] = [
    ["a language model", (files, loading) => loadCausalLM(files, "m", "model", format, loading)],
    ["a scorer", (files, loading) => loadScoreModel(files, "m", "scorer", 0, format, {}, loading)],
  ];
  it.each(loaders)("%s tells how far it is, to the last byte of the file's weights", async (_, load) => {
    const model = new CausalLM(config, "counted");
    const parameters = model.store.parameters.reduce((sum, { size }) => sum + size, 0);
    model.destroy();
    for (const [dtype, bytes] of [
      ["float32", 4],
      ["bfloat16", 2],
    ] as const) {
      const seen: [number, number][] = [];
      const loaded = await load(await saved(dtype), {
        progress: (done: number, total: number) => seen.push([done, total]),
      });
      loaded.destroy();
      const total = seen[0][1];
      expect(Math.abs(total - bytes * parameters)).toBeLessThan(bytes * 300 * 32 + 1); // a scorer has no head
      expect(seen.at(-1)).toEqual([total, total]);
      expect(seen.every(([done, all], i) => all === total && done >= (seen[i - 1]?.[0] ?? 0))).toBe(true);
      expect(seen.length).toBeGreaterThan(5);
    }
  });

  it.each(loaders)("%s stops at once, with nothing on the GPU", async (_, load) => {
    const files = await saved();
    (await load(files, {})).destroy();
    const before = stats().poolBytes;
    const reason = new Error("enough");
    for (const after of [0, 1, 4]) {
      const stop = new AbortController();
      let calls = 0;
      const progress = () => {
        if (++calls === after) stop.abort(reason);
      };
      if (after === 0) stop.abort(reason);
      await expect(load(files, { signal: stop.signal, progress })).rejects.toBe(reason);
      expect(calls).toBe(after);
      expect(stats().poolBytes).toBe(before);
    }
  });
});

describe("sampling", () => {
  const prompts = [Uint32Array.of(1, 2, 3), Uint32Array.of(4, 5)];
  const params: SamplingParams = { seed: 1, maxNewTokens: 60 };

  it("gives the same tokens where it could be stopped", async () => {
    const model = new CausalLM(config, "sampled").initialize(2);
    const plain = await generate(model, prompts, params);
    expect(await generate(model, prompts, { ...params, signal: new AbortController().signal })).toEqual(plain);
    model.destroy();
  });

  it("stops between decode steps and frees all that it had", async () => {
    const model = new CausalLM(config, "stopped").initialize(2);
    await generate(model, prompts, params);
    const before = stats().poolBytes;
    const reason = new Error("enough");
    for (let i = 0; i < 4; i++) {
      const stop = new AbortController();
      const sampling = generate(model, prompts, { ...params, signal: stop.signal });
      setTimeout(() => stop.abort(reason), 0);
      await expect(sampling).rejects.toBe(reason);
      expect(stats().poolBytes).toBe(before);
    }
    await expect(generate(model, prompts, { ...params, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(await generate(model, prompts, params)).toHaveLength(2); // the model is still good
    model.destroy();
  });
});
