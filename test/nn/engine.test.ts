import { beforeAll, describe, expect, it } from "vitest";
import {
  type CausalLM,
  Engine,
  EngineBusyError,
  type EngineOptions,
  type Generation,
  type GenerationRequest,
  generate,
  type Piece,
  promptLogProbs,
} from "webrlhf/nn";
import { values } from "../fixture.ts";
import gpt2 from "../fixtures/models-gpt2.json" with { type: "json" };
import llama from "../fixtures/models-llama.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";
import { openLM, type ReferenceLM } from "./reference-model.ts";

beforeAll(gpuReady);

const models: [string, ReferenceLM][] = [
  ["GPT-2", gpt2 as unknown as ReferenceLM],
  ["Llama", llama as unknown as ReferenceLM],
];
const reference = models[1][1];
const prompts = reference.prompts.map((p) => Uint32Array.from(p));
const greedy = { maxNewTokens: reference.greedy[0].length, temperature: 0, seed: 1, eosIds: [] };

/** Everything a request gives, per sample. */
async function whole(generation: AsyncIterable<Piece>, samples = 1) {
  const all = Array.from({ length: samples }, () => ({
    ids: [] as number[],
    logProbs: [] as number[],
    top: [] as number[][],
    finish: null as Piece["finish"],
  }));
  for await (const piece of generation) {
    const one = all[piece.sample];
    one.ids.push(...piece.ids);
    one.logProbs.push(...piece.logProbs);
    one.top.push(...(piece.top ?? []).map((t) => [...t.ids]));
    one.finish = piece.finish ?? one.finish;
  }
  return all;
}

async function withEngine<R>(
  use: (engine: Engine, model: CausalLM) => Promise<R>,
  options: EngineOptions = {},
  from = reference,
): Promise<R> {
  const model = await openLM(from);
  const engine = new Engine(model, { capacity: 32, ...options });
  try {
    return await use(engine, model);
  } finally {
    await engine.close();
    model.destroy();
  }
}

describe.each(models)("the engine with %s", (_, reference) => {
  it.each([
    ["one slot", { slots: 1 }],
    ["two slots, one step per read", { slots: 2, stepsPerRead: 1 }],
    ["more slots than requests", { slots: 8, stepsPerRead: 5 }],
    ["all rows, always", { slots: 3, fixedRows: true, stepsPerRead: 4 }],
  ])("decodes greedily as transformers does, with %s", async (_, options) => {
    await withEngine(
      async (engine) => {
        const requests = reference.prompts.flatMap((p, i) => [
          { i, generation: engine.submit({ ids: Uint32Array.from(p), params: greedy }) },
          { i, generation: engine.submit({ ids: Uint32Array.from(p), params: greedy, samples: 2, top: 2 }) },
        ]);
        await Promise.all(
          requests.map(async ({ i, generation }, n) => {
            for (const { ids, logProbs, finish, top } of await whole(generation, 1 + (n % 2))) {
              expect(ids).toEqual(reference.greedy[i]);
              expect(finish).toBe("length");
              expectClose(logProbs, values(reference.greedyLogProbs[i]), 2e-5, 1e-6, "log-probabilities");
              if (n % 2) expect(top.map((t) => t[0])).toEqual(ids);
            }
          }),
        );
        expect(engine.load).toEqual({ waiting: 0, active: 0 });
      },
      options,
      reference,
    );
  });
});

describe("the engine", () => {
  const params = { maxNewTokens: 9, temperature: 1.2, topP: 0.95, seed: 11, eosIds: [] };
  const requests: GenerationRequest[] = prompts.flatMap((ids, i) => [
    { ids, params: { ...params, seed: 100 + i } },
    { ids, params: { ...params, seed: 200 + i, maxNewTokens: 4, topK: 20, presencePenalty: 1 }, samples: 3 },
    { ids, params: { ...params, seed: 300 + i, minP: 0.1, logitBias: new Map([[5, 3]]) } },
  ]);

  it("samples what a request asks for, whatever runs beside it and however few slots there are", async () => {
    const alone = await withEngine(async (engine) => {
      const results: number[][][] = [];
      for (const request of requests) {
        results.push((await whole(engine.submit(request), request.samples)).map(({ ids }) => ids));
      }
      return results;
    });
    for (const options of [{ slots: 2 }, { slots: 5, stepsPerRead: 3 }, { slots: 16 }]) {
      const together = await withEngine(
        (engine) =>
          Promise.all(
            requests.map(async (request) =>
              (await whole(engine.submit(request), request.samples)).map(({ ids }) => ids),
            ),
          ),
        options,
      );
      expect(together).toEqual(alone);
    }
    expect(new Set(alone.flat().map(String)).size).toBeGreaterThan(requests.length); // samples differ
  });

  it("draws what `generate` draws from the same seeds and streams", async () => {
    const streams = prompts.map((_, i) => 1000 + i);
    await withEngine(async (engine, model) => {
      const expected = await generate(model, prompts, { ...params, streams });
      const found = await Promise.all(
        prompts.map((ids, i) => whole(engine.submit({ ids, params, streams: [streams[i]] }))),
      );
      expect(found.map(([{ ids }]) => ids)).toEqual(expected.map(({ ids }) => [...ids]));
      found.forEach(([{ logProbs }], i) => {
        expectClose(logProbs, expected[i].logProbs, 2e-5, 1e-6);
      });
      // Options that only slots know take the other way through `generate`: neutral in effect, they change nothing.
      const other = await generate(model, prompts, { ...params, streams, logitBias: new Map([[3, 0]]), batchSize: 2 });
      expect(other.map(({ ids, prompt }) => [prompt, ...ids])).toEqual(
        expected.map(({ ids, prompt }) => [prompt, ...ids]),
      );
    });
  });

  it("ends at any of several end tokens, not before minNewTokens, and never with ignoreEos", async () => {
    await withEngine(async (engine) => {
      const [ids] = prompts;
      const [wanted] = reference.greedy;
      const ends = [wanted[5], 1, 2, wanted[3]];
      const run = async (more: object) =>
        (await whole(engine.submit({ ids, params: { ...greedy, eosIds: ends, ...more } })))[0];
      const first = wanted.findIndex((id) => ends.includes(id));
      expect(await run({})).toMatchObject({ ids: wanted.slice(0, first + 1), finish: "stop" });
      expect(await run({ ignoreEos: true })).toMatchObject({ ids: wanted, finish: "length" });
      const late = await run({ minNewTokens: first + 2 });
      expect(late.ids.length).toBeGreaterThan(first + 1);
      expect(late.ids.slice(0, first + 1).some((id) => ends.includes(id))).toBe(false);
    });
  });

  it("ends as soon as minNewTokens lets it", async () => {
    const end = 7;
    const eager = { ...greedy, eosIds: [end], logitBias: new Map([[end, 100]]) };
    for (const stepsPerRead of [1, 3, 16]) {
      await withEngine(
        async (engine) => {
          for (const minNewTokens of [0, 1, 2, 5]) {
            const [{ ids }] = await whole(engine.submit({ ids: prompts[0], params: { ...eager, minNewTokens } }));
            expect(ids.indexOf(end)).toBe(minNewTokens);
            expect(ids.length).toBe(minNewTokens + 1);
          }
        },
        { stepsPerRead },
      );
    }
  });

  it("frees the slots of requests that are stopped, aborted or left", async () => {
    await withEngine(
      async (engine) => {
        const long = { ids: prompts[0], params: { ...greedy, maxNewTokens: 20 } };
        const controller = new AbortController();
        const aborted = engine.submit({ ...long, signal: controller.signal });
        const left = engine.submit(long);
        const stopped = engine.submit({ ...long, samples: 2 });
        const after = engine.submit({ ids: prompts[0], params: greedy });
        const outcomes = await Promise.all([
          whole(aborted).catch((error: Error) => error.name),
          (async () => {
            for await (const _ of left) break;
          })(),
          (async () => {
            let pieces = 0;
            for await (const { sample } of stopped) {
              pieces += 1;
              if (sample === 0) stopped.stop(0);
              else if (pieces > 3) stopped.cancel();
            }
          })(),
          whole(after),
          Promise.resolve().then(() => controller.abort()),
        ]);
        expect(outcomes[0]).toBe("AbortError");
        expect(outcomes[3]).toMatchObject([{ ids: reference.greedy[0] }]);
        await expect(whole(engine.submit({ ...long, signal: AbortSignal.abort() }))).rejects.toThrow(/abort/i);
        expect(await whole(engine.submit({ ids: prompts[0], params: greedy }))).toMatchObject([
          { ids: reference.greedy[0] },
        ]);
        expect(engine.load).toEqual({ waiting: 0, active: 0 });
      },
      { slots: 2, stepsPerRead: 1 },
    );
  });

  it("refuses what it cannot serve, and more than may wait", async () => {
    await withEngine(
      async (engine) => {
        const request = { ids: prompts[0], params: greedy };
        const refused = (more: Partial<GenerationRequest>, message: RegExp) =>
          expect(() => engine.submit({ ...request, ...more })).toThrow(message);
        refused({ ids: new Uint32Array() }, /empty/);
        refused({ ids: Uint32Array.of(1, 9999) }, /token 9999/);
        refused({ params: { ...greedy, maxNewTokens: 40 } }, /exceeds the context of 32/);
        refused({ params: { ...greedy, topP: 0 } }, /top_p/);
        refused({ params: { ...greedy, temperature: Number.NaN } }, /temperature/);
        refused({ params: { ...greedy, eosIds: [1, 2, 3, 4, 5, 6, 7, 8, 9] } }, /at most 8/);
        refused({ params: { ...greedy, logitBias: new Map([[99999, 1]]) } }, /token id/);
        const accepted = [engine.submit(request), engine.submit(request), engine.submit(request)];
        expect(() => engine.submit(request)).toThrow(EngineBusyError);
        for (const result of await Promise.all(accepted.map((g: Generation) => whole(g)))) {
          expect(result[0].ids).toEqual(reference.greedy[0]);
        }
      },
      { slots: 1, maxWaiting: 2 },
    );
  });

  it("ends its requests when it is closed", async () => {
    const model = await openLM(reference);
    const engine = new Engine(model, { slots: 1, capacity: 32 });
    const running = whole(engine.submit({ ids: prompts[0], params: greedy }));
    const failed = expect(running).rejects.toThrow(/closed/);
    await engine.close();
    await failed;
    expect(() => engine.submit({ ids: prompts[0], params: greedy })).toThrow(/closed/);
    model.destroy();
  });

  it("says how probable a prompt is", async () => {
    await withEngine(async (_, model) => {
      for (const [i, ids] of reference.ids.entries()) {
        const { logProbs, top } = await promptLogProbs(model, Uint32Array.from(ids), 3);
        expectClose(logProbs, values(reference.logProbs[i]), 1e-5, 1e-6);
        const vocab = model.config.vocabSize;
        const logits = values(reference.logits[i]);
        top.forEach((found, row) => {
          const z = logits.subarray(row * vocab, (row + 1) * vocab);
          const order = Array.from(z, (_, id) => id).sort((a, b) => z[b] - z[a] || a - b);
          expect([...found.ids]).toEqual(order.slice(0, 3));
        });
        expect(top.length).toBe(ids.length - 1);
      }
      expect((await promptLogProbs(model, Uint32Array.of(1))).logProbs.length).toBe(0);
    });
  });
});
