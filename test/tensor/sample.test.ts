/** Sampling in slots against float64, against PyTorch's distributions, and against its own promises. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { scope, tensor, topLogProbs } from "webrlhf";
import { type SlotOptions, slotNeeds, slotState } from "../../src/nn/sampling.ts";
import { philox } from "../../src/runtime/rng.ts";
import { NO_TOKEN, SAMPLE_DOMAIN, type SlotStep, Slots } from "../../src/tensor/ops/sample.ts";
import { type FixtureArray, numbers } from "../fixture.ts";
import fixtures from "../fixtures/sampling.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";
import { values } from "./check.ts";

beforeAll(gpuReady);

const plain: SlotOptions = {
  seed: 3,
  stream: 0,
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  minNewTokens: 0,
  maxNewTokens: 100,
  endIds: [],
};

const range = (n: number) => Array.from({ length: n }, (_, i) => i);

const exponential = (seed: number, stream: number, step: number, column: number): number => {
  const words = philox(seed >>> 0, Math.floor(seed / 2 ** 32), stream, step, column >>> 2, SAMPLE_DOMAIN);
  return -Math.log1p(-(words[column & 3] + 0.5) / 2 ** 32);
};

/** One step in float64: every option as its definition says, over sorted probabilities. */
function reference(row: ArrayLike<number>, o: SlotOptions, prompt: number[], drawn: number[]) {
  const raw = Array.from(row);
  const logits = raw.map((v, id) => {
    let z = v + (o.logitBias?.get(id) ?? 0);
    if (prompt.includes(id) || drawn.includes(id)) z = z > 0 ? z / o.repetitionPenalty : z * o.repetitionPenalty;
    const count = drawn.filter((t) => t === id).length;
    z -= count * o.frequencyPenalty + (count > 0 ? o.presencePenalty : 0);
    return o.endIds.includes(id) && drawn.length < o.minNewTokens ? -1e30 : z;
  });
  const top = Math.max(...logits);
  const scaled = logits.map((z) => (o.temperature === 0 ? z - top : (z - top) / o.temperature));
  let kept = scaled.map((_, id) => id).sort((a, b) => scaled[b] - scaled[a]);
  if (o.temperature === 0) kept = kept.slice(0, 1);
  else {
    const floor = o.topK > 0 && o.topK < kept.length ? scaled[kept[o.topK - 1]] : Number.NEGATIVE_INFINITY;
    kept = kept.filter((id) => scaled[id] >= floor);
    const mass = kept.reduce((sum, id) => sum + Math.exp(scaled[id]), 0);
    let before = 0;
    if (o.topP < 1) {
      kept = kept.filter((id) => {
        const take = before < o.topP * mass;
        before += Math.exp(scaled[id]);
        return take;
      });
    }
    kept = kept.filter((id) => Math.exp(scaled[id]) >= o.minP);
  }
  const total = Math.log(kept.reduce((sum, id) => sum + Math.exp(scaled[id]), 0));
  const rawTop = Math.max(...raw);
  const rawTotal = Math.log(raw.reduce((sum, z) => sum + Math.exp(z - rawTop), 0));
  const score = (id: number) =>
    o.temperature === 0 ? 0 : scaled[id] - Math.log(exponential(o.seed, o.stream, drawn.length, id));
  return {
    kept,
    score,
    best: Math.max(...kept.map(score)),
    logProb: (id: number) => (o.temperature === 0 ? 0 : scaled[id] - total),
    rawLogProb: (id: number) => raw[id] - rawTop - rawTotal,
    /** Distance of the nearest token from a threshold, so that ties within rounding can be told. */
    scaled,
  };
}

/** Runs `steps` steps on the same logits for a list of sequences in the given slots. */
async function draw(
  logits: Float32Array[],
  rows: { options: SlotOptions; prompt: number[]; slot: number }[],
  steps: number,
  top = 0,
): Promise<{ steps: SlotStep[]; top: Awaited<ReturnType<Slots["readTop"]>> }> {
  const vocab = logits[0].length;
  const slots = new Slots(Math.max(...rows.map((r) => r.slot)) + 1, vocab, steps);
  const needsNow = () =>
    slotNeeds(
      rows.map((r) => r.options),
      true,
    );
  slots.begin(
    scope(() => needsNow().penalty),
    top,
  );
  scope(() => {
    slots.admit(
      rows.map(({ options, prompt, slot }) => ({
        state: slotState(options),
        prompt,
        slot,
        promptLength: prompt.length,
      })),
    );
    const which = tensor(Uint32Array.from(rows, (r) => r.slot));
    const data = tensor(Float32Array.from(logits.flatMap((l) => Array.from(l))), [rows.length, vocab]);
    const needs = needsNow();
    for (let s = 0; s < steps; s++) slots.sample(data, which, s, needs, top);
  });
  const result = { steps: await slots.read(steps, rows.length), top: await slots.readTop(top) };
  slots.free();
  return result;
}

const optionsArb = (vocab: number): fc.Arbitrary<SlotOptions> =>
  fc.record({
    seed: fc.maxSafeNat(),
    stream: fc.nat(1000),
    temperature: fc.constantFrom(0, 0.7, 1, 1.6),
    topK: fc.constantFrom(0, 0, 1, 5, 20),
    topP: fc.constantFrom(1, 1, 0.9, 0.4),
    minP: fc.constantFrom(0, 0, 0.05, 0.4, 1),
    repetitionPenalty: fc.constantFrom(1, 1, 1.3, 0.8),
    presencePenalty: fc.constantFrom(0, 0, 1.5, -0.5),
    frequencyPenalty: fc.constantFrom(0, 0, 0.7, -0.3),
    minNewTokens: fc.constantFrom(0, 3),
    maxNewTokens: fc.constant(100),
    endIds: fc.constantFrom<number[]>([], [vocab - 1], [0, vocab >> 1, 2]),
    logitBias: fc.option(
      fc
        .array(fc.tuple(fc.nat(vocab - 1), fc.constantFrom(-100, -2, 1.5, 5)), { maxLength: 4 })
        .map((pairs) => new Map(pairs)),
      { nil: undefined },
    ),
  });

describe("sampling in slots", () => {
  it("does what each row's options say, against float64", async () => {
    const batch = fc.constantFrom(5, 31, 64, 257).chain((vocab) =>
      fc.tuple(
        fc.constant(vocab),
        fc.array(fc.tuple(optionsArb(vocab), fc.array(fc.nat(vocab - 1), { minLength: 1, maxLength: 6 })), {
          minLength: 1,
          maxLength: 9,
        }),
      ),
    );
    await fc.assert(
      fc.asyncProperty(batch, async ([vocab, requests]) => {
        const logits = requests.map((_, i) => values(vocab, i + vocab, 3));
        const rows = requests.map(([options, prompt], i) => ({ options, prompt, slot: requests.length - 1 - i }));
        const { steps } = await draw(logits, rows, 4);
        rows.forEach(({ options, prompt }, r) => {
          const drawn: number[] = [];
          for (const step of steps) {
            const token = step.tokens[r];
            if (drawn.length > 0 && options.endIds.includes(drawn[drawn.length - 1])) {
              expect(token).toBe(NO_TOKEN);
              break;
            }
            const want = reference(logits[r], options, prompt, drawn);
            // A token within rounding of a threshold may fall on either side of it.
            const near = Math.min(...want.kept.map((id) => Math.abs(want.scaled[id] - want.scaled[token])));
            expect(near).toBeLessThan(2e-5);
            if (want.kept.includes(token) && options.temperature > 0 && options.topP === 1) {
              expect(want.score(token)).toBeGreaterThan(want.best - 1e-4);
              expectClose([step.logProbs[r]], [want.logProb(token)], 1e-5, 1e-5, JSON.stringify(options));
            }
            expectClose([step.rawLogProbs[r]], [want.rawLogProb(token)], 5e-6, 5e-6);
            drawn.push(token);
            expect(step.done[r]).toBe(options.endIds.includes(token));
          }
        });
      }),
      { numRuns: 12, seed: 5 },
    );
  });

  it.each([
    ["top-k, top-p and min-p together", { topK: 12, topP: 0.95, minP: 0.08 }],
    ["min-p alone, which looks at the tempered distribution", { minP: 0.25 }],
  ])("draws as often as the truncated distribution says: %s", async (_, truncation) => {
    const vocab = 24;
    const logits = values(vocab, 77, 2);
    const options = { ...plain, temperature: 1.3, ...truncation };
    const draws = 1200;
    const rows = Array.from({ length: draws }, (_, i) => ({
      options: { ...options, stream: i },
      prompt: [1],
      slot: i,
    }));
    const { steps } = await draw(
      rows.map(() => logits),
      rows,
      1,
    );
    const want = reference(logits, options, [1], []);
    const counts = new Map<number, number>();
    for (const token of steps[0].tokens) counts.set(token, (counts.get(token) ?? 0) + 1);
    expect([...counts.keys()].every((id) => want.kept.includes(id))).toBe(true);
    for (const id of want.kept) {
      const p = Math.exp(want.logProb(id));
      const deviation = Math.abs((counts.get(id) ?? 0) - draws * p) / Math.sqrt(draws * p * (1 - p));
      expect(deviation).toBeLessThan(4.5);
    }
  });

  for (const c of fixtures.cases) {
    it(`has the reference distribution: ${c.name}`, async () => {
      // Every row of the fixture, drawn many times: only kept tokens, reported with their probability, as often as expected.
      const draws = 1500;
      const [rows, vocab] = c.logits.shape;
      const data = numbers(c.logits as FixtureArray);
      const probs = numbers(c.probs as FixtureArray);
      const raw = numbers(c.rawLogProbs as FixtureArray);
      const { temperature, topK, topP } = c;
      const options = { ...plain, seed: 11, temperature, topK, topP };
      const { steps } = await draw(
        range(rows * draws).map((i) => Float32Array.from(data.slice((i % rows) * vocab, ((i % rows) + 1) * vocab))),
        range(rows * draws).map((i) => ({ options: { ...options, stream: i }, prompt: [1], slot: i })),
        1,
      );
      const [got] = steps;
      const counts = new Float64Array(rows * vocab);
      got.tokens.forEach((token, i) => {
        const at = (i % rows) * vocab + token;
        counts[at] += 1;
        expect(c.kept[i % rows]).toContain(token);
        expect(Math.abs(got.logProbs[i] - Math.log(probs[at]))).toBeLessThan(2e-5);
        expect(Math.abs(got.rawLogProbs[i] - raw[at])).toBeLessThan(2e-5);
      });
      for (let r = 0; r < rows; r++) {
        expect(
          chiSquare(counts.subarray(r * vocab, (r + 1) * vocab), probs.slice(r * vocab, (r + 1) * vocab), draws),
        ).toBeLessThan(4);
      }
    });
  }

  it("is greedy at temperature 0, with the lowest id on ties", async () => {
    const logits = [
      [1, 3, 3, 0, 2, 3],
      [-1, -1, -1, -1, 5, 5],
      [0, 0, 0, 0, 0, 0],
    ].map((row) => Float32Array.from(row));
    const rows = logits.map((_, slot) => ({ options: { ...plain, temperature: 0 }, prompt: [1], slot }));
    const [{ tokens, logProbs }] = (await draw(logits, rows, 1)).steps;
    expect([...tokens]).toEqual([1, 4, 0]);
    expect([...logProbs]).toEqual([0, 0, 0]);
  });

  it("advances rows until their end token or their last one and leaves finished rows alone", async () => {
    const eos = 2;
    const peak = (token: number) => range(5).map((j) => (j === token ? 50 : 0));
    const slots = new Slots(2, 5, 4);
    const needs = { sampled: true, topK: false, topP: false, penalty: false, biases: null };
    slots.begin(false, 0);
    scope(() => {
      const options = { ...plain, endIds: [eos], maxNewTokens: 4 };
      slots.admit(
        [3, 7].map((promptLength, slot) => ({ slot, state: slotState({ ...options, stream: slot }), promptLength })),
      );
    });
    const step = (s: number, tokens: number[]) =>
      scope(() => slots.sample(tensor(tokens.flatMap(peak), [2, 5]), slots.inputs(2).slots, s, needs));
    [
      [1, 0],
      [eos, 3], // row 0 ends at its second token
      [4, 4],
    ].forEach((tokens, s) => {
      step(s, tokens);
    });
    const { next, positions, lengths } = slots.inputs(2);
    expect([...(await next.readIds())]).toEqual([0, 4]);
    expect([...(await positions.readIds())]).toEqual([4, 9]);
    expect([...(await lengths.readIds())]).toEqual([0, 10]); // who is done attends to nothing
    step(3, [0, 0]);
    const steps = await slots.read(4, 2);
    expect(steps.map((s) => [...s.tokens])).toEqual([
      [1, 0],
      [eos, 3],
      [NO_TOKEN, 4],
      [NO_TOKEN, 0],
    ]);
    expect(steps.map((s) => s.done[1])).toEqual([false, false, false, true]); // row 1 is full
    slots.free();
  });

  it("gives a row the same tokens whatever the other rows want and wherever it sits", async () => {
    const vocab = 100;
    const one = { ...plain, seed: 2 ** 41 + 7, stream: 5, temperature: 1.1 };
    const others: SlotOptions[] = [
      { ...plain, topK: 3 },
      { ...plain, topP: 0.5, frequencyPenalty: 1 },
      { ...plain, temperature: 0, logitBias: new Map([[4, 50]]) },
      { ...plain, minP: 0.5, endIds: [1], minNewTokens: 2 },
    ];
    const logits = values(vocab, 1, 2);
    const alone = await draw([logits], [{ options: one, prompt: [2, 3], slot: 0 }], 6);
    const tokens = (steps: SlotStep[], row: number) => steps.map((s) => s.tokens[row]);
    for (const place of [0, 2, 4]) {
      const rows = others.map((options) => ({ options, prompt: [7], slot: 0 }));
      rows.splice(place, 0, { options: one, prompt: [2, 3], slot: 0 });
      rows.forEach((row, i) => {
        row.slot = (i * 3) % 5;
      });
      const data = rows.map((_, i) => (i === place ? logits : values(vocab, 50 + i, 2)));
      const together = await draw(data, rows, 6);
      expect(tokens(together.steps, place)).toEqual(tokens(alone.steps, 0));
      expect(together.steps.map((s) => s.logProbs[place])).toEqual(alone.steps.map((s) => s.logProbs[0]));
    }
  });

  it("reuses a slot without a trace of its last sequence", async () => {
    const vocab = 40;
    const logits = values(vocab, 9, 2);
    const wanted = { ...plain, repetitionPenalty: 1.5, presencePenalty: 1, frequencyPenalty: 0.5, maxNewTokens: 3 };
    const fresh = await draw([logits], [{ options: wanted, prompt: [1, 2], slot: 0 }], 3);
    const slots = new Slots(1, vocab, 3);
    slots.begin(true, 0);
    const needs = { sampled: true, topK: false, topP: false, penalty: true, biases: null };
    const turn = (prompt: number[], options: SlotOptions) =>
      scope(() => {
        slots.admit([{ slot: 0, state: slotState(options), prompt, promptLength: prompt.length }]);
        const { slots: which } = slots.inputs(1);
        for (let s = 0; s < 3; s++) slots.sample(tensor(logits, [1, vocab]), which, s, needs);
      });
    turn([5, 6, 7, 30], { ...wanted, seed: 99 });
    turn([1, 2], wanted);
    expect(await slots.read(3, 1)).toEqual(fresh.steps);
    const { next, positions, lengths } = slots.inputs(1);
    expect([...(await positions.readIds())]).toEqual([4]); // the third token's position after a prompt of two
    expect([...(await lengths.readIds())]).toEqual([5]);
    expect([...(await next.readIds())]).toEqual([fresh.steps[2].tokens[0]]);
    // An emptied slot draws nothing and attends to nothing.
    scope(() => {
      slots.admit([{ slot: 0, state: null, promptLength: 0 }]);
      slots.sample(tensor(logits, [1, vocab]), slots.inputs(1).slots, 0, needs);
    });
    expect((await slots.read(1, 1))[0].tokens[0]).toBe(NO_TOKEN);
    expect([...(await lengths.readIds())]).toEqual([0]);
    slots.free();
  });

  it("finds the most probable tokens, the lower id first among equals", async () => {
    for (const vocab of [3, 64, 101]) {
      const logits = [0, 1, 2].map((i) => values(vocab, i, 2).map((v) => Math.round(v * 2) / 2)); // with ties
      const rows = logits.map((_, slot) => ({ options: { ...plain, temperature: 0, topK: 2 }, prompt: [0], slot }));
      const { top } = await draw(logits, rows, 1, 5);
      const direct = await topLogProbs(
        scope(() => tensor(Float32Array.from(logits.flatMap((l) => Array.from(l))), [3, vocab])),
        5,
      );
      logits.forEach((row, r) => {
        const want = reference(row, plain, [], []);
        const order = Array.from(row, (_, id) => id).sort((a, b) => row[b] - row[a] || a - b);
        const ids = order.slice(0, 5);
        for (const found of [top(0, r), direct[r]]) {
          expect([...found.ids]).toEqual(ids);
          expectClose(found.logProbs, ids.map(want.rawLogProb), 2e-6, 2e-6);
        }
      });
    }
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
