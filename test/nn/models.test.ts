/** Both decoder families against Hugging Face transformers in float64: logits, log-probabilities, gradients, scores. */
import { beforeAll, describe, expect, it } from "vitest";
import { backward, mul, noGrad, packing, scope, sum, tensor } from "webrlhf";
import { type CausalLM, generate, type ScoreModel } from "webrlhf/nn";
import { values } from "../fixture.ts";
import gpt2 from "../fixtures/models-gpt2.json" with { type: "json" };
import gpt2Score from "../fixtures/models-gpt2-score.json" with { type: "json" };
import llama from "../fixtures/models-llama.json" with { type: "json" };
import llamaScore from "../fixtures/models-llama-score.json" with { type: "json" };
import llamaTied from "../fixtures/models-llama-tied.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";
import { fileGradients, openLM, openScorer, type ReferenceLM, type ReferenceScorer } from "./reference-model.ts";

beforeAll(gpuReady);

const languageModels: [string, ReferenceLM][] = [
  ["GPT-2", gpt2 as unknown as ReferenceLM],
  ["Llama with grouped queries", llama as unknown as ReferenceLM],
  ["Llama with tied embeddings", llamaTied as unknown as ReferenceLM],
];
const scorers: [string, ReferenceScorer][] = [
  ["GPT-2", gpt2Score as unknown as ReferenceScorer],
  ["Llama", llamaScore as unknown as ReferenceScorer],
];

/** All sequences packed; `gap` rows of filler before each one must not change anything. */
function pack(sequences: number[][], gap: number) {
  const lengths = sequences.map((s) => s.length);
  const starts: number[] = [];
  const rows: number[] = [];
  for (const s of sequences) {
    for (let i = 0; i < gap; i++) rows.push(1);
    starts.push(rows.length);
    rows.push(...s);
  }
  const host = Uint32Array.from(rows);
  return { ids: { gpu: tensor(host), host }, packing: packing(lengths, starts, rows.length), starts };
}

/** The rows that predict a token, and the tokens they predict. */
function nextTokens(sequences: number[][], starts: number[]) {
  const rows = sequences.flatMap((s, i) => s.slice(1).map((_, t) => starts[i] + t));
  return { rows: Uint32Array.from(rows), targets: Uint32Array.from(sequences.flatMap((s) => s.slice(1))) };
}

const joined = (arrays: ArrayLike<number>[]) => Float32Array.from(arrays.flatMap((a) => Array.from(a)));

async function expectGradients(model: CausalLM | ScoreModel, head: "lm" | "score", expected: ReferenceLM["gradients"]) {
  const found = await fileGradients(model, head);
  expect([...found.keys()].sort()).toEqual(Object.keys(expected).sort());
  for (const [name, gradient] of found) expectClose(gradient, values(expected[name]), 2e-5, 1e-6, name);
}

describe.each(languageModels)("%s as transformers computes it", (_, reference) => {
  it.each([0, 2])("logits, packed with %i filler rows between sequences", async (gap) => {
    const model = await openLM(reference);
    const logits = scope(() =>
      noGrad(() => {
        const batch = pack(reference.ids, gap);
        const all = model.logits(model.decoder.forward(batch.ids, { packing: batch.packing }));
        return { all, starts: batch.starts };
      }),
    );
    const found = await logits.all.read();
    for (const [i, want] of reference.logits.entries()) {
      const from = logits.starts[i] * model.config.vocabSize;
      expectClose(
        found.subarray(from, from + want.shape[0] * want.shape[1]),
        values(want),
        1e-5,
        1e-6,
        `sequence ${i}`,
      );
    }
    logits.all.free("the test");
    model.destroy();
  });

  it.each([0, 2])("log-probabilities and every gradient, with %i filler rows", async (gap) => {
    const model = await openLM(reference);
    model.store.trainable();
    const { loss, logProbs } = scope(() => {
      const batch = pack(reference.ids, gap);
      const { rows, targets } = nextTokens(reference.ids, batch.starts);
      const logProbs = model.logProbs(batch.ids, batch.packing, rows, targets).logProbs;
      const copy = noGrad(() => mul(logProbs, tensor([1])));
      const loss = sum(logProbs);
      backward(loss);
      return { loss, logProbs: copy };
    });
    expectClose(await logProbs.read(), joined(reference.logProbs.map(values)), 1e-5, 1e-6, "log-probabilities");
    expectClose(await loss.read(), [reference.loss], 1e-5);
    await expectGradients(model, "lm", reference.gradients);
    for (const t of [loss, logProbs]) t.free("the test");
    model.destroy();
  });
});

describe.each(languageModels)("%s generates as transformers does", (_, reference) => {
  const prompts = reference.prompts.map((p) => Uint32Array.from(p));
  const greedy = { maxNewTokens: reference.greedy[0].length, temperature: 0, seed: 1, eosIds: [] };
  it.each([
    ["ragged prompts together", {}],
    ["two prompts at a time", { batchSize: 2 }],
    ["two responses per prompt", { samples: 2 }],
    ["top-k 1 instead of temperature 0", { temperature: 1, topK: 1 }],
  ])("greedily, %s", async (_, more) => {
    const model = await openLM(reference);
    const responses = await generate(model, prompts, { ...greedy, ...more });
    expect(responses.length).toBe(prompts.length * ("samples" in more ? more.samples : 1));
    for (const { prompt, ids, ended, logProbs } of responses) {
      expect(Array.from(ids)).toEqual(reference.greedy[prompt]);
      expect(ended).toBe(false);
      expectClose(logProbs, values(reference.greedyLogProbs[prompt]), 2e-5, 1e-6, "log-probabilities");
    }
    model.destroy();
  });

  it("greedily, as many prompts in a pass as the device can bind", async () => {
    const model = await openLM(reference);
    const most = Math.max(...prompts.map((p) => p.length));
    Object.defineProperty(model, "tokensPerPass", { value: most });
    const tokens: number[] = [];
    const { forward } = model.decoder;
    model.decoder.forward = function (ids, where) {
      if ("packing" in where) tokens.push(where.packing.rows);
      return forward.call(this, ids, where);
    };
    const responses = await generate(model, prompts, greedy);
    expect(responses.map(({ prompt, ids }) => [prompt, ...ids])).toEqual(
      prompts.map((_, i) => [i, ...reference.greedy[i]]),
    );
    expect(Math.max(...tokens)).toBe(most);
    model.destroy();
  });

  it("ends at an end token", async () => {
    const model = await openLM(reference);
    const end = reference.greedy[0][5];
    const [first] = await generate(model, prompts.slice(0, 1), { ...greedy, eosIds: [end] });
    const expected = reference.greedy[0].slice(0, reference.greedy[0].indexOf(end) + 1);
    expect([Array.from(first.ids), first.ended]).toEqual([expected, true]);
    model.destroy();
  });
});

describe.each(scorers)("%s with a score head as transformers computes it", (_, reference) => {
  it("scores, per-token values and every gradient", async () => {
    const model = await openScorer(reference);
    model.store.trainable();
    const { scores, perToken } = scope(() => {
      const batch = pack(reference.ids, 1);
      const last = Uint32Array.from(reference.ids, (s, i) => batch.starts[i] + s.length - 1);
      const every = Uint32Array.from(reference.ids.flatMap((s, i) => s.map((_, t) => batch.starts[i] + t)));
      const perToken = noGrad(() => model.scores(batch.ids, batch.packing, every));
      const scores = model.scores(batch.ids, batch.packing, last);
      const copy = noGrad(() => mul(scores, tensor([1])));
      backward(sum(mul(scores, tensor(reference.coefficients))));
      return { scores: copy, perToken };
    });
    expectClose(await scores.read(), values(reference.scores), 1e-5, 1e-6, "scores");
    expectClose(await perToken.read(), joined(reference.values.map(values)), 1e-5, 1e-6, "values");
    await expectGradients(model, "score", reference.gradients);
    for (const t of [scores, perToken]) t.free("the test");
    model.destroy();
  });

  it("is linear in the hidden states, by default those of the last tokens", async () => {
    const model = await openScorer(reference);
    const [last, named] = scope(() =>
      noGrad(() => {
        const { ids, packing, starts } = pack([...reference.ids, []], 1); // no row is the last one of no token
        const rows = Uint32Array.from(reference.ids, (s, i) => starts[i] + s.length - 1);
        return [model.hidden(ids, packing), model.hidden(ids, packing, rows)];
      }),
    );
    const { hiddenSize } = model.config;
    expect(last.shape).toEqual([reference.ids.length, hiddenSize]);
    const states = await last.read();
    expect(await named.read()).toEqual(states);
    const head = await model.score.value.read();
    const scores = reference.ids.map((_, i) => head.reduce((sum, w, k) => sum + w * states[i * hiddenSize + k], 0));
    expectClose(scores, values(reference.scores), 1e-5, 1e-6, "head times hidden states");
    for (const t of [last, named]) t.free("the test");
    model.destroy();
  });
});
