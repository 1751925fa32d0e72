/** Which kernels were found to be fastest: kept in a file, used by products, and never trusted. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { adapterNote, type Caps, caps, closeDevice, openDevice, tensor } from "webrlhf";
import { dayModels } from "webrlhf/day";
import { tuneProducts } from "../../src/day/tune.ts";
import { keepTuning, readTuning, type Tuning, tokenClass, tunedCount, useTuning } from "../../src/gpu/tuning.ts";
import { batchInvariantly, matmulVariant, tabledVariant } from "../../src/gpu/variants.ts";
import { gemm } from "../../src/tensor/ops/gemm.ts";
import { values } from "../tensor/check.ts";

let folder: string;
let file: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "webrlhf-tuning-"));
  file = join(folder, "tuning.json");
  await writeFile(file, JSON.stringify("none yet"));
  process.env.WEBRLHF_TUNING = file;
  await openDevice();
});
afterAll(async () => {
  delete process.env.WEBRLHF_TUNING;
  closeDevice();
  await rm(folder, { recursive: true });
});

async function reopened(): Promise<string> {
  closeDevice();
  await openDevice();
  return adapterNote();
}

const mine = (products: Tuning["products"]): Tuning => ({
  adapter: caps().name,
  driver: caps().driver ?? "",
  products,
});
/** Another kernel than the table's for 33 to 64 rows. */
const other = () => {
  const { subgroupSize: lanes } = caps();
  const variant = { family: "subgroup" as const, rows: 8, cols: Math.max(2, 32 / lanes), lanes };
  return mine([{ mode: "NT", type: "f32", tokens: 64, sizes: [70, 40], variant, gain: 1.5 }]);
};
const shape = (m: number, n = 70) => ({ mode: "NT" as const, m, n, k: 40, batch: 1 });

describe("a tuning", () => {
  it("puts numbers of tokens that are alike into classes", () => {
    expect([1, 2, 7, 8, 9, 16, 17, 64, 65, 8192].map(tokenClass)).toEqual([1, 2, 7, 8, 16, 16, 32, 64, 128, 8192]);
  });

  it("is kept, comes before the table in later programs, and changes no bit on a CPU", async () => {
    const [a, b] = [tensor(values(50 * 40, 1), [50, 40]), tensor(values(70 * 40, 2), [70, 40])];
    const product = async () => (await gemm(a, b, "NT", [50, 70, 40]).read()).join();
    const before = await product();
    const tuning = other();
    expect(await keepTuning(tuning)).toBe(file);
    expect(await product()).toBe(before);
    expect(JSON.parse(await readFile(file, "utf8"))).toEqual(tuning);

    expect(await reopened()).not.toContain("not tuned");
    expect(tunedCount()).toBe(1);
    for (const m of [33, 50, 64]) expect(matmulVariant(caps(), shape(m))).toEqual(tuning.products[0].variant);
    for (const one of [shape(32), shape(65), shape(50, 71)]) {
      expect(matmulVariant(caps(), one)).toEqual(tabledVariant(caps(), one));
    }
    expect(matmulVariant(caps(), { ...shape(50), T: "f16" })).toEqual(
      tabledVariant(caps(), { ...shape(50), T: "f16" }),
    );
    const gpu: Caps = { ...caps(), kind: "hardware" };
    expect(batchInvariantly(() => matmulVariant(gpu, shape(50)))).toMatchObject({ family: "tiled", splits: 1 });

    process.env.WEBRLHF_TUNING = "off";
    await reopened();
    expect(tunedCount()).toBe(0);
    await expect(keepTuning(tuning)).rejects.toThrow("no place to keep a tuning");
    process.env.WEBRLHF_TUNING = file;
  });

  it("is left aside, with a word, where it is none of this adapter", async () => {
    for (const [content, word] of [
      ["{", "is not JSON: run `webrlhf tune` again"],
      ["[]", "is no tuning of kernels"],
      [JSON.stringify({ ...other(), adapter: "nvidia-h200" }), "is of nvidia-h200, and this is"],
    ]) {
      await writeFile(file, content);
      const note = await reopened();
      expect(note).toContain("kernels are not tuned: ");
      expect(note).toContain(word);
      expect(tunedCount()).toBe(0);
    }
    process.env.WEBRLHF_TUNING = join(folder, "missing.json");
    expect(await reopened()).toContain("cannot be read (ENOENT)");
    process.env.WEBRLHF_TUNING = file;
  });

  it("names no kernel that there is not", () => {
    const gpu: Caps = { ...caps(), kind: "hardware", maxInvocations: 256, maxWorkgroupStorage: 16384 };
    const tile = { family: "tiled", bm: 64, bn: 64, bk: 16, rows: 8, cols: 4, splits: 1 };
    const product = (variant: object, others = {}) => {
      const one = { mode: "NT", type: "f32", tokens: 64, sizes: [70, 40], gain: 2, variant, ...others };
      return () => readTuning(mine([one as Tuning["products"][number]]), gpu, "FILE");
    };
    expect(product(tile)).not.toThrow();
    for (const wrong of [
      { ...tile, bm: 60 },
      { ...tile, bk: 6 },
      { ...tile, bm: 128, bn: 128, bk: 32 }, // too much memory
      { ...tile, rows: 1, cols: 4 }, // too many invocations
      { ...tile, splits: 0 },
      { ...tile, splits: 1e9 },
      { ...tile, code: "evil" },
      { ...tile, turn: true },
      { family: "matrix", m: 16, n: 16, k: 16, lanes: 32, rows: 2, cols: 2, down: 2, splits: 1 }, // not on this adapter
      { family: "subgroup", rows: 8, cols: 4, lanes: 31 },
      { family: "constructor" },
      { family: "skinny", rows: 9 },
    ]) {
      expect(product(wrong), JSON.stringify(wrong)).toThrow("FILE: product 1 is none that this adapter can compute");
    }
    for (const others of [{ tokens: 0 }, { sizes: [70] }, { sizes: [70, -1] }, { mode: "TT" }, { type: "u32" }]) {
      expect(product(tile, others)).toThrow("product 1 is none");
    }
    expect(product({ family: "skinny", rows: 4 })).toThrow("too many rows for its kernel");
    expect(product({ family: "skinny", rows: 4 }, { tokens: 4 })).not.toThrow();
  });
});

describe("the tuner", () => {
  it("times all products, keeps what is faster, and can be stopped", { timeout: 120_000 }, async () => {
    const told: string[] = [];
    const model = { ...dayModels.tiny, rows: [9] };
    const tuning = await tuneProducts(caps(), { model, seconds: 1, tell: ({ what }) => told.push(what) });
    expect(told).toHaveLength(15); // forward and two gradients of five matrices
    expect(told[0]).toBe("qkv NT 9x128x64");
    expect(() => readTuning(tuning, caps(), "it")).not.toThrow();
    for (const { gain, variant, mode, tokens, sizes } of tuning.products) {
      expect(gain).toBeGreaterThanOrEqual(1.05);
      const [m, n, k] = mode === "TN" ? [...sizes, tokens] : [tokens, ...sizes];
      expect(variant).not.toEqual(tabledVariant(caps(), { mode, m, n, k, batch: 1 }));
    }
    const stopped = tuneProducts(caps(), { model, seconds: 1, signal: AbortSignal.abort(new Error("stop")) });
    await expect(stopped).rejects.toThrow("stop");
    useTuning(null);
  });
});
