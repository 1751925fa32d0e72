/** A GPU's kernels, chosen so that a row's bits do not depend on the rows beside it. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Caps, caps, packing, scope, tensor } from "webrlhf";
import { CausalLM, decoderConfig, generate } from "webrlhf/nn";
import { batchInvariantly, cacheShares, matmulVariant } from "../../src/gpu/variants.ts";
import { gpuReady } from "../helpers.ts";

const own = { kind: "cpu" };
beforeAll(async () => {
  own.kind = (await gpuReady()).kind;
});
afterAll(() => void Object.assign(caps(), own));

const config = decoderConfig({
  ...{ family: "llama", vocabSize: 300, hiddenSize: 640, layers: 2, heads: 10, kvHeads: 5, intermediateSize: 1056 },
  ...{ maxPositions: 512, tieEmbeddings: true },
});
const idsOf = (length: number, seed: number) =>
  Uint32Array.from({ length }, (_, i) => (1 + i * 31 + seed * 7919) % config.vocabSize);

/** The first sequence's log-probabilities, measured in one pass with these many others. */
async function measured(model: CausalLM, others: number): Promise<number[]> {
  const all = [idsOf(70, 1), ...Array.from({ length: others }, (_, i) => idsOf(3 + ((i * 5) % 40), 2 + i))];
  const ids = Uint32Array.from(all.flatMap((one) => [...one]));
  const rows = Uint32Array.from(ids, (_, i) => i);
  const { logProbs, entropy } = scope(() =>
    model.logProbs({ gpu: tensor(ids), host: ids }, packing(all.map(({ length }) => length)), rows, ids),
  );
  const found = [...(await logProbs.readPart(0, 70)), ...(await entropy.readPart(0, 70))];
  for (const one of [logProbs, entropy]) one.free("test");
  return found;
}

/** The first response, drawn beside these many others. */
async function drawn(model: CausalLM, others: number): Promise<number[]> {
  const prompts = [idsOf(9, 1), ...Array.from({ length: others }, (_, i) => idsOf(2 + ((i * 7) % 30), 2 + i))];
  const streams = prompts.map((_, i) => [i]);
  const options = { maxNewTokens: 8, seed: 5, eosIds: [], streams: Uint32Array.from(streams.flat()) };
  const [first] = await generate(model, prompts, options);
  return [...first.ids, ...first.logProbs];
}

// Compiling a GPU's kernels takes minutes on a CPU.
const kinds = globalThis.process.env.WEBRLHF_ADAPTER_KIND === "hardware" ? (["hardware"] as const) : (["cpu"] as const);

describe.each(kinds)("kernels of kind %s", { timeout: 600_000 }, (kind) => {
  const counts = [0, 7, 40];

  it.each([
    ["log-probabilities and entropies", measured],
    ["responses and their log-probabilities", drawn],
  ])("give the same %s, to the bit, whatever is computed beside them", async (_, values) => {
    Object.assign(caps(), { kind });
    const model = new CausalLM(config, "test").initialize(3);
    try {
      model.batchInvariant = true;
      const alone = await values(model, counts[0]);
      for (const others of counts.slice(1)) expect(await values(model, others), `${others} others`).toEqual(alone);
      model.batchInvariant = false;
      const fastest = [];
      for (const others of counts) fastest.push(JSON.stringify(await values(model, others)));
      // What a GPU computes fastest differs by the number of rows, or this test could not fail.
      expect(new Set(fastest).size > 1).toBe(kind === "hardware");
    } finally {
      Object.assign(caps(), own);
      model.destroy();
    }
  });
});

describe("the choice of a GPU's kernels", () => {
  const hardware = (): Caps => ({ ...caps(), kind: "hardware", saturating: 256 });
  const rows = [1, 2, 8, 9, 33, 64, 65, 200, 640, 5000];

  it("splits and joins nothing by the number of rows", () => {
    const chosen = () => [
      ...rows.flatMap((m) =>
        (["f32", "f16"] as const).map((T) =>
          matmulVariant(hardware(), { mode: "NT", m, n: 960, k: 4096, batch: 1, T }),
        ),
      ),
      ...rows.map((m) => ({ family: "cache", ...cacheShares(hardware(), 9 * m, 3, 4096) })),
    ];
    for (const one of batchInvariantly(chosen)) {
      expect(one).toMatchObject(one.family === "cache" ? { heads: 3, parts: 1 } : { family: "tiled", splits: 1 });
    }
    const fastest = chosen();
    expect(fastest.some((one) => one.family === "skinny")).toBe(true);
    expect(fastest.some((one) => "splits" in one && one.splits > 1)).toBe(true);
    expect(fastest.some((one) => "parts" in one && one.parts > 1)).toBe(true);
  });
});
