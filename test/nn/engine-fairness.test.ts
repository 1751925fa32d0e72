import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  CausalLM,
  decoderConfig,
  Engine,
  EngineBusyError,
  type EngineOptions,
  type Generation,
  type GenerationRequest,
  promptLogProbs,
} from "webrlhf/nn";
import { expectClose, gpuReady } from "../helpers.ts";

const CONTEXT = 160;
const shape = { vocabSize: 60, hiddenSize: 16, layers: 2, heads: 2, maxPositions: CONTEXT, eosId: 1 };
const families = ["llama", "gpt2"] as const;
const models = new Map<string, CausalLM>();
let model: CausalLM;

beforeAll(async () => {
  await gpuReady();
  for (const family of families) models.set(family, new CausalLM(decoderConfig({ family, ...shape })).initialize(3));
  model = models.get("llama") as CausalLM;
});
afterAll(() => {
  for (const one of models.values()) one.destroy();
});

const promptOf = (length: number, seed: number) =>
  Uint32Array.from({ length }, (_, i) => 2 + ((seed * 31 + i * 17 + ((i * i) % 13)) % 58));

interface Whole {
  ids: number[];
  logProbs: number[];
  top: number[];
}

/** All that a request gives, and what it has given when it is through. */
async function whole(
  generation: Generation,
  samples = 1,
  ended: () => void = () => {},
  began: () => void = () => {},
): Promise<Whole[]> {
  const all = Array.from({ length: samples }, (): Whole => ({ ids: [], logProbs: [], top: [] }));
  for await (const { sample, ids, logProbs, top } of generation) {
    began();
    all[sample].ids.push(...ids);
    all[sample].logProbs.push(...logProbs);
    all[sample].top.push(...(top ?? []).flatMap((one) => [...one.ids]));
  }
  ended();
  return all;
}

async function withEngine<R>(options: EngineOptions, use: (engine: Engine) => Promise<R>, on = model): Promise<R> {
  const engine = new Engine(on, options);
  try {
    return await use(engine);
  } finally {
    await engine.close();
  }
}

/** Each request in an engine of its own, whole prompts at once. */
async function alone(requests: readonly GenerationRequest[], on = model): Promise<Whole[][]> {
  const found: Whole[][] = [];
  for (const request of requests) {
    const options = { slots: request.samples ?? 1, stepsPerRead: 4 };
    found.push(await withEngine(options, (engine) => whole(engine.submit(request), request.samples), on));
  }
  return found;
}

function expectSame(found: readonly Whole[], expected: readonly Whole[]): void {
  expect(found.map(({ ids }) => ids)).toEqual(expected.map(({ ids }) => ids));
  expect(found.map(({ top }) => top)).toEqual(expected.map(({ top }) => top));
  found.forEach(({ logProbs }, i) => {
    expectClose(logProbs, expected[i].logProbs, 3e-5, 1e-5);
  });
}

const params = { maxNewTokens: 12, temperature: 0.9, seed: 5, ignoreEos: true };

describe("an engine's prompts", () => {
  it.each(families)("run in stretches as they run whole (%s)", async (family) => {
    const on = models.get(family) as CausalLM;
    const requests: GenerationRequest[] = [
      { ids: promptOf(90, 1), params, samples: 5, top: 2 },
      { ids: promptOf(3, 2), params },
      { ids: promptOf(41, 3), params: { ...params, repetitionPenalty: 1.4 }, samples: 2 },
    ];
    const expected = await alone(requests, on);
    for (const [promptTokens, slots] of [
      [7, 2],
      [16, 8],
      [64, 3],
    ]) {
      const found = await withEngine(
        { slots, promptTokens, stepsPerRead: 2 },
        (engine) => Promise.all(requests.map((request) => whole(engine.submit(request), request.samples))),
        on,
      );
      for (const [i, one] of found.entries()) expectSame(one, expected[i]);
    }
  });

  it("run once for all of a request's samples", async () => {
    // Samples that come later go on from what the slots of earlier ones hold.
    const ids = promptOf(100, 4);
    const decoder = model.decoder as unknown as { forward(ids: { gpu: { size: number } }, at: object): unknown };
    const { forward } = decoder;
    let tokens = 0;
    decoder.forward = (rows, at) => {
      tokens += rows.gpu.size;
      return forward.call(decoder, rows, at);
    };
    try {
      await withEngine({ slots: 2, stepsPerRead: 4 }, (engine) =>
        whole(engine.submit({ ids, params: { ...params, maxNewTokens: 5 }, samples: 8 }), 8),
      );
    } finally {
      decoder.forward = forward;
    }
    expect(tokens).toBeLessThan(100 + 100);
  });

  it("are scored in stretches, too, beside the responses to them", async () => {
    const ids = promptOf(70, 5);
    const expected = await promptLogProbs(model, ids, 3);
    for (const promptTokens of [10, 4096]) {
      await withEngine({ slots: 2, promptTokens, stepsPerRead: 2 }, async (engine) => {
        const [generation, ...others] = [
          engine.submit({ ids, params, samples: 1, top: 3, score: 3 }),
          engine.submit({ ids, params, samples: 0, score: 0 }),
          engine.submit({ ids: Uint32Array.of(7), params, samples: 0, score: 2 }),
        ];
        const { logProbs, top } = await generation.scores();
        expectClose(logProbs, expected.logProbs, 1e-5, 1e-6);
        expect(top.map((one) => [...one.ids])).toEqual(expected.top.map((one) => [...one.ids]));
        expectSame(await whole(generation), (await alone([{ ids, params, top: 3 }]))[0]);
        const [bare, single] = await Promise.all(others.map((one) => one.scores()));
        expectClose(bare.logProbs, expected.logProbs, 1e-5, 1e-6);
        expect(bare.top).toEqual([]);
        expect(single.logProbs.length).toBe(0);
        expect(await whole(others[0], 0)).toEqual([]);
        expect(engine.load).toEqual({ waiting: 0, active: 0 });
      });
    }
  });

  it("can be given up on while they run", async () => {
    await withEngine({ slots: 2, promptTokens: 4, stepsPerRead: 1 }, async (engine) => {
      const ids = promptOf(120, 6);
      const controller = new AbortController();
      const { signal } = controller;
      const left = [
        engine.submit({ ids, params, score: 2, signal }),
        engine.submit({ ids, params, samples: 0, score: 2, signal }),
      ];
      const kept = engine.submit({ ids, params, samples: 2 });
      kept.stop(0);
      const outcomes = left.map((one) => one.scores().catch((error: Error) => error.message));
      setTimeout(() => controller.abort(new Error("gone")), 30);
      expect(await Promise.all(outcomes)).toEqual(["gone", "gone"]);
      const [expected] = await alone([{ ids, params, samples: 2 }]);
      expectSame((await whole(kept, 2)).slice(1), expected.slice(1));
      expect(engine.load).toEqual({ waiting: 0, active: 0 });
    });
  });
});

describe("an engine's slots", () => {
  it("go round among requests, however many samples one has", async () => {
    const order: string[] = [];
    await withEngine({ slots: 2, stepsPerRead: 2 }, async (engine) => {
      const big = { ids: promptOf(10, 1), params, samples: 30 };
      const small = { ids: promptOf(5, 2), params };
      await Promise.all([
        whole(engine.submit(big), 30, () => order.push("big")),
        whole(engine.submit(small), 1, () => order.push("small")),
        whole(engine.submit(small), 1, () => order.push("small")),
      ]);
    });
    expect(order).toEqual(["small", "small", "big"]);
  });

  it("are shared by tokens, not by samples", async () => {
    // Of two requests that never end, the one with longer responses gets no more tokens than the other one.
    const tokens = { long: 0, short: 0 };
    await withEngine({ slots: 1, stepsPerRead: 4 }, async (engine) => {
      const ask = async (name: "long" | "short", maxNewTokens: number) => {
        const samples = Math.floor(600 / maxNewTokens);
        const request = { ids: promptOf(2, 1), params: { ...params, maxNewTokens }, samples };
        for await (const { ids } of engine.submit(request)) {
          if (tokens.long + tokens.short > 300) break;
          tokens[name] += ids.length;
        }
      };
      await Promise.all([ask("long", 40), ask("short", 10)]);
    });
    expect(tokens.short / tokens.long).toBeGreaterThan(0.6);
    expect(tokens.short / tokens.long).toBeLessThan(1.5);
  });

  it("are waited for in a room of which everybody has a share", async () => {
    await withEngine({ slots: 1, maxWaiting: 7 }, async (engine) => {
      const ask = (samples: number, owner?: object) => engine.submit({ ids: promptOf(4, 1), params, samples, owner });
      const greedy = {};
      const accepted = [ask(8, greedy), ask(4), ask(2)];
      for (const more of [() => ask(4), () => ask(1, greedy)]) expect(more).toThrow(EngineBusyError);
      accepted.push(ask(1));
      await Promise.all(accepted.map((one, i) => whole(one, [8, 4, 2, 1][i])));
    });
  });

  it("go round among owners and clients", async () => {
    const order: string[] = [];
    await withEngine({ slots: 1, stepsPerRead: 4 }, async (engine) => {
      const owner = {};
      const ask = (name: string, more: object) =>
        whole(engine.submit({ ids: promptOf(5, 3), params, ...more }), 1, () => order.push(name));
      const many = Array.from({ length: 6 }, () => ask("many", { owner, client: "a" }));
      const busy = Array.from({ length: 6 }, () => ask("busy", { client: "a" }));
      await Promise.all([...many, ...busy, ask("other", { client: "b" })]);
    });
    // One owner's prompts are one request; all of client a's are no more than client b's one.
    expect(order.indexOf("other")).toBeLessThanOrEqual(1);
    expect(order.slice(0, 8).filter((name) => name === "many").length).toBeLessThanOrEqual(2);
  });

  it("are taken from long responses for short ones, which go on later as if nothing had been", async () => {
    const long: GenerationRequest[] = [1, 2, 3].map((seed) => ({
      ids: promptOf(12, seed),
      params: { ...params, seed, maxNewTokens: 140, presencePenalty: 0.7, frequencyPenalty: 0.1, minNewTokens: 90 },
      top: 2,
    }));
    const short: GenerationRequest[] = [4, 5, 6, 7].map((seed) => ({ ids: promptOf(4, seed), params }));
    const expected = await alone([...long, ...short]);
    const order: string[] = [];
    await withEngine({ slots: 2, stepsPerRead: 4 }, async (engine) => {
      let running: Promise<Whole[]>[] = [];
      await new Promise<void>((began) => {
        running = long.map((request) => whole(engine.submit(request), 1, () => order.push("long"), began));
      });
      expect(engine.load).toEqual({ active: 2, waiting: 1 });
      const later = short.map((request) => whole(engine.submit(request), 1, () => order.push("short")));
      const found = await Promise.all([...running, ...later]);
      for (const [i, one] of found.entries()) expectSame(one, expected[i]);
    });
    expect(order.slice(0, 4)).toEqual(["short", "short", "short", "short"]);
  });
});
