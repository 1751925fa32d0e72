/** The day's items on whatever adapter there is: every figure is there, is a number, and no value is wrong. */
import { describe, expect, it } from "vitest";
import { dayItems, dayModels, type Facts, type Figure, noise, runDayItem } from "webrlhf/day";
import { errorOf, productsOf } from "../../src/day/items/products.ts";
import { idTokenizer, tokensOf } from "../../src/day/made-up.ts";
import { matrices } from "../../src/day/models.ts";
import { dayLines } from "../../src/day/report.ts";
import { gpuReady } from "../helpers.ts";

const { tiny } = dayModels;

async function run(name: string): Promise<{ figures: Figure[]; facts: Facts }> {
  const item = dayItems.find((one) => one.name === name);
  if (!item) throw new Error(`no item ${name}`);
  const figures: Figure[] = [];
  let facts: Facts = {};
  await runDayItem(item, {
    model: tiny,
    seconds: 0.05,
    tell: (figure) => figures.push(figure),
    note: (more) => {
      facts = { ...facts, ...more };
    },
  });
  for (const { what, value, best, wrong } of figures) {
    expect(value, what).toBeGreaterThanOrEqual(0);
    expect(Number.isFinite(value), what).toBe(true);
    if (best !== undefined) expect(Number.isFinite(best), what).toBe(true);
    expect(wrong, what).toBeUndefined();
  }
  return { figures, facts };
}

describe("a day's items", () => {
  it("name the adapter, and say whether f16 works", async () => {
    const { f16, name } = await gpuReady();
    const about = await run("about");
    expect(about.facts).toMatchObject({ name, f16 });
    expect(about.facts.maxComputeInvocationsPerWorkgroup).toBeGreaterThan(0);
    expect((await run("f16")).figures).toHaveLength(f16 ? 1 : 0);
  });

  it("find every kernel's values right", async () => {
    const { figures } = await run("correct");
    const said = figures.map(({ what }) => what);
    for (const part of ["product NT", "product NN", "product TN", "attention", "RMSNorm", "log-softmax", "losses"]) {
      expect(
        said.some((what) => what.startsWith(part)),
        part,
      ).toBe(true);
    }
  });

  it("find the ceilings", async () => {
    const { figures } = await run("ceilings");
    const units = new Map(figures.map(({ what, unit, value }) => [what, `${value > 0} ${unit}`]));
    expect(units.get("f32 multiply-adds")).toBe("true GFLOP/s");
    expect(units.get("memory")).toBe("true GB/s");
    expect(units.get("a dispatch, one after the other")).toBe("true µs");
    expect(units.get("reading 4 bytes back")).toBe("true µs");
  });

  it("time products, attention and generation", async () => {
    const products = await run("products");
    for (const { name, mode, sizes } of productsOf(tiny)) {
      const what = `${name} ${mode} ${sizes.join("x")}`;
      expect(products.figures.filter((figure) => figure.what === what).length, what).toBeGreaterThan(0);
    }
    const { f16 } = await gpuReady();
    const types = f16 ? 2 : 1;
    // Where half precision has matrix units, it is timed with them and without.
    expect([4 * types, 12]).toContain((await run("attention")).figures.length);
    const decoded = await run("decode");
    expect(decoded.figures.map(({ unit }) => unit)).toEqual(Array(types * (tiny.decode.length + 1)).fill("tokens/s"));
    expect(new Set(decoded.figures.map(({ what }) => what)).size).toBe(decoded.figures.length);
  });

  it("train by every method", async () => {
    const { f16 } = await gpuReady();
    const { figures } = await run("train");
    const said = figures.map(({ what }) => what.split(",")[0]);
    const half = f16 ? ["SFT in half precision", "LoRA in half precision", "PPO in half precision"] : [];
    expect(said.sort()).toEqual(
      ["SFT", "SFT of an eighth of the length", "LoRA", "DPO", "PPO", "GRPO", ...half].sort(),
    );
    for (const { value, how } of figures) expect(value / 1000).toBeLessThan(1e6 / Number.parseFloat(how ?? "0"));
  });
});

describe("what a day measures with", () => {
  it("has the sizes of the models that it names", () => {
    const parameters = Object.fromEntries(
      Object.entries(dayModels).map(([name, model]) => {
        const { layers, vocabSize, hiddenSize } = model.config;
        const { head, ...layer } = matrices(model);
        const inLayer = Object.values(layer).reduce((sum, [outputs, inputs]) => sum + outputs * inputs, 0);
        return [name, Math.round((layers * inLayer + vocabSize * hiddenSize) / 1e6)];
      }),
    );
    // As their makers have it, without norms and biases.
    expect(parameters).toMatchObject({
      "smollm2-135m": 134,
      "qwen2.5-0.5b": 494,
      "llama-3.2-1b": 1236,
      "llama-3.2-3b": 3213,
    });
  });

  it("sees a wrong element of a product, wherever it is looked for", () => {
    const sizes = [3, 5, 7] as const;
    const values = [noise(21, 1), noise(35, 2)] as const;
    const c = new Float32Array(15);
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 5; j++) {
        for (let l = 0; l < 7; l++) c[i * 5 + j] += values[0][i * 7 + l] * values[1][j * 7 + l];
      }
    }
    const product = { name: "", mode: "NT", sizes } as const;
    expect(errorOf(product, values, c)).toBeLessThan(1e-6);
    for (const at of [0, 4, 10, 14]) {
      const wrong = c.slice();
      wrong[at] += 0.01;
      expect(errorOf(product, values, wrong)).toBeGreaterThan(1e-4);
      wrong[at] = Number.NaN;
      expect(errorOf(product, values, wrong)).toBeNaN();
    }
  });

  it("has tokens that its tokenizer knows", () => {
    const ids = tokensOf(tiny, 40, 3);
    expect(ids.every((id) => id > 0 && id < tiny.config.vocabSize)).toBe(true);
    const tokenizer = idTokenizer(tiny);
    expect(tokenizer.encode(tokenizer.decode(ids))).toEqual([...ids]);
  });

  it("shows figures beside their ceilings, and wrong ones as such", () => {
    const lines = dayLines([
      { item: "ceilings", seconds: 2, facts: {}, figures: [{ what: "memory", value: 200, unit: "GB/s" }] },
      {
        item: "products",
        seconds: 3.4,
        facts: {},
        failed: "its process was ended by SIGABRT",
        figures: [
          { what: "a", value: 7, unit: "GFLOP/s", bound: { ceiling: "memory", reached: 50 }, how: "tiled" },
          { what: "b", value: 1e-3, unit: "error", wrong: true },
        ],
      },
    ]);
    expect(lines[0]).toBe("ceilings (2 s)");
    expect(lines[2]).toBe("products (3 s): its process was ended by SIGABRT");
    expect(lines[3]).toMatch(/^ {2}a +7\.00 GFLOP\/s {2}25 % of memory; tiled$/);
    expect(lines[4]).toMatch(/^ {2}WRONG b +1\.0e-3 error$/);
  });
});
