import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { philox } from "../../src/runtime/rng.ts";
import { scope, tensor } from "../../src/tensor/core.ts";
import {
  allDone,
  readSamples,
  SAMPLE_DOMAIN,
  type SampleOptions,
  type SampleState,
  sampleState,
  sampleTokens,
} from "../../src/tensor/ops/sample.ts";
import { type FixtureArray, numbers } from "../fixture.ts";
import fixtures from "../fixtures/sampling.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";
import { values } from "./check.ts";

beforeAll(gpuReady);

/** One call on the given logits; promptLength 5. */
function once(logits: Float32Array, streams: number[], options: SampleOptions, maxNewTokens = 1): SampleState {
  const batch = streams.length;
  return scope(() => {
    const state = sampleState({ streams, promptLengths: streams.map(() => 5), maxNewTokens });
    sampleTokens(tensor(logits, [batch, logits.length / batch]), state, options);
    return state;
  });
}

const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/** -ln(1 - v) of the uniform v that belongs to a column. */
function exponential(seed: number, stream: number, step: number, column: number): number {
  const words = philox(seed >>> 0, Math.floor(seed / 2 ** 32), stream, step, column >>> 2, SAMPLE_DOMAIN);
  const v = (words[column & 3] + 0.5) / 2 ** 32;
  return -Math.log1p(-v);
}

function distribution(row: ArrayLike<number>, temperature: number): number[] {
  const top = Math.max(...Array.from(row));
  const weights = Array.from(row, (v) => Math.exp((v - top) / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / total);
}

describe("sampleTokens", () => {
  it("takes the Gumbel-max winner of the host's random numbers", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 9 }),
        fc.constantFrom(1, 2, 3, 4, 5, 31, 64, 100, 257),
        fc.maxSafeNat(),
        async (batch, vocab, seed) => {
          const logits = values(batch * vocab, seed % 1000, 3);
          const streams = range(batch).map((i) => (i * 2654435761) >>> 0);
          const { tokens, logProbs, rawLogProbs } = await readSamples(
            once(logits, streams, { seed, temperature: 0.7 }),
          );
          for (let r = 0; r < batch; r++) {
            const row = logits.subarray(r * vocab, (r + 1) * vocab);
            const scores = Array.from(row, (z, j) => z / 0.7 - Math.log(exponential(seed, streams[r], 0, j)));
            const [token] = tokens[r];
            expect(scores[token]).toBeGreaterThan(Math.max(...scores) - 1e-4);
            expectClose(logProbs[r], [Math.log(distribution(row, 0.7)[token])], 2e-6, 2e-6);
            expectClose(rawLogProbs[r], [Math.log(distribution(row, 1)[token])], 2e-6, 2e-6);
          }
        },
      ),
      { numRuns: 10, seed: 7 },
    );
  });

  for (const c of fixtures.cases) {
    it(`has the reference distribution: ${c.name}`, async () => {
      // Every row of the fixture, drawn many times: only kept tokens, reported with their probability, as often as expected.
      const draws = 1500;
      const [rows, vocab] = c.logits.shape;
      const data = numbers(c.logits as FixtureArray);
      const probs = numbers(c.probs as FixtureArray);
      const raw = numbers(c.rawLogProbs as FixtureArray);
      const many = new Float32Array(rows * draws * vocab);
      for (let i = 0; i < draws; i++) many.set(data, i * rows * vocab);
      const { temperature, topK, topP } = c;
      const options = { seed: 11, temperature, topK, topP };
      const got = await readSamples(once(many, range(rows * draws), options));
      const counts = new Float64Array(rows * vocab);
      got.tokens.forEach(([token], i) => {
        const at = (i % rows) * vocab + token;
        counts[at] += 1;
        expect(c.kept[i % rows]).toContain(token);
        expect(Math.abs(got.logProbs[i][0] - Math.log(probs[at]))).toBeLessThan(2e-5);
        expect(Math.abs(got.rawLogProbs[i][0] - raw[at])).toBeLessThan(2e-5);
      });
      for (let r = 0; r < rows; r++) {
        expect(
          chiSquare(counts.subarray(r * vocab, (r + 1) * vocab), probs.slice(r * vocab, (r + 1) * vocab), draws),
        ).toBeLessThan(4);
      }
    });
  }

  it("gives a row the same tokens in any batch", async () => {
    const vocab = 100;
    const row = (stream: number) => values(vocab, stream, 2);
    const options = { seed: 2 ** 40 + 3, temperature: 1.2, topK: 50, topP: 0.95 };
    const generate = async (streams: number[]) => {
      const logits = Float32Array.from(streams.flatMap((s) => Array.from(row(s))));
      const state = scope(() => {
        const state = sampleState({ streams, promptLengths: streams, maxNewTokens: 6 });
        for (let i = 0; i < 6; i++) sampleTokens(tensor(logits, [streams.length, vocab]), state, options);
        return state;
      });
      const { tokens } = await readSamples(state);
      return new Map(streams.map((s, i) => [s, [...tokens[i]]]));
    };
    const together = await generate([9, 4, 7, 1, 3, 8, 2, 6, 5, 11, 10]);
    for (const streams of [[7], [10, 7, 3]]) {
      for (const [stream, tokens] of await generate(streams)) expect(tokens).toEqual(together.get(stream));
    }
    expect(new Set(together.get(7)).size).toBeGreaterThan(1); // steps differ
  });

  it("is greedy at temperature 0, with the lowest id on ties", async () => {
    const logits = new Float32Array([1, 3, 3, 0, 2, 3, -1, -1, -1, -1, 5, 5, 0, 0, 0, 0, 0, 0]);
    const { tokens, logProbs } = await readSamples(once(logits, [0, 1, 2], { seed: 1, temperature: 0 }));
    expect(tokens.map(([t]) => t)).toEqual([1, 4, 0]);
    expect(logProbs.map(([p]) => p)).toEqual([0, 0, 0]);
  });

  it("advances rows until their end token and leaves finished rows alone", async () => {
    const eos = 2;
    const peak = (token: number) => range(5).map((j) => (j === token ? 50 : 0));
    const steps = [
      [1, 0],
      [eos, 3],
      [4, 4],
    ]; // row 0 ends at its second token
    const state = scope(() => {
      const state = sampleState({ streams: [0, 1], promptLengths: [3, 7], maxNewTokens: 4 });
      for (const tokens of steps) {
        sampleTokens(tensor(tokens.flatMap(peak), [2, 5]), state, { seed: 3, eosIds: [eos], padId: 1 });
      }
      return state;
    });
    const { tokens, done } = await readSamples(state);
    expect(tokens.map((t) => [...t])).toEqual([
      [1, eos],
      [0, 3, 4],
    ]);
    expect(done).toEqual([true, false]);
    expect([...(await state.next.readIds())]).toEqual([1, 4]);
    expect([...(await state.positions.readIds())]).toEqual([4, 9]);
    expect([...(await state.cachedLengths.readIds())]).toEqual([5, 10]);
    expect(await allDone(state)).toBe(false);
    scope(() => sampleTokens(tensor([...peak(0), ...peak(0)], [2, 5]), state, { seed: 3, eosIds: [eos] }));
    expect(await allDone(state)).toBe(true); // row 1 is full
  });

  it("does not end before minNewTokens", async () => {
    const logits = new Float32Array([0, 1, 90, 0, 80]);
    const state = scope(() => {
      const state = sampleState({ streams: [0], promptLengths: [1], maxNewTokens: 5 });
      for (let i = 0; i < 3; i++) {
        sampleTokens(tensor(logits, [1, 5]), state, { seed: 1, eosIds: [2, 4], minNewTokens: 2 });
      }
      return state;
    });
    const { tokens, done } = await readSamples(state);
    expect([...tokens[0].slice(0, 2)].every((t) => t !== 2 && t !== 4)).toBe(true);
    expect(tokens[0][2]).toBe(2);
    expect(done).toEqual([true]);
  });
});

/** The chi-square statistic as a number of standard deviations above its mean; cells expected below 5 are pooled. */
function chiSquare(counts: ArrayLike<number>, probs: number[], draws: number): number {
  let statistic = 0;
  let cells = 0;
  let restCount = 0;
  let restExpected = 0;
  const add = (count: number, expected: number) => {
    statistic += (count - expected) ** 2 / expected;
    cells += 1;
  };
  probs.forEach((p, j) => {
    if (p * draws >= 5) {
      add(counts[j], p * draws);
    } else {
      restCount += counts[j];
      restExpected += p * draws;
    }
  });
  if (restExpected > 0) add(restCount, restExpected);
  const freedom = cells - 1;
  return freedom === 0 ? 0 : (statistic - freedom) / Math.sqrt(2 * freedom);
}
