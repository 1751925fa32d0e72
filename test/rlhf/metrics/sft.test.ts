/** The metrics of supervised fine-tuning, recomputed: see reference.ts. */
import { beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { textPerplexity, trainSft } from "webrlhf/rlhf";
import { keeper } from "../../keep.ts";
import { follow, languageModel, type Metrics, mean, microBatches, predictedBy, sum, words } from "./reference.ts";

beforeAll(() => openDevice());
const keep = keeper();

/** Sequences of 5 to 15 tokens; some without a prompt, one with gaps in what is learned. */
const examples = (from: number) =>
  [
    { length: 9, promptLength: 4 },
    { length: 15, promptLength: 2 },
    { length: 5, promptLength: 4 },
    { length: 12, promptLength: 0 },
    { length: 13, promptLength: 3, learned: [0, 0, 0, 1, 0, 1, 1, 0, 0, 0, 1, 0, 1] },
  ].map(({ length, promptLength, learned }, i) => ({
    ids: words(length, from + i),
    promptLength,
    ...(learned && { learned: Uint8Array.from(learned) }),
  }));

describe("sft", () => {
  it("publishes what its learned tokens say", async () => {
    const policy = keep(languageModel(1));
    const [train, held] = [examples(0), examples(100).slice(1)];
    const order = { seed: 5, batch: 3, accumulation: 2 };
    const learnedOf = async (sequences: typeof train) => {
      const all = await predictedBy(
        policy,
        sequences.map(({ ids, promptLength }) => ({ ids, first: Math.max(1, promptLength) })),
      );
      return all.flatMap((tokens, i) => {
        const { learned, promptLength } = sequences[i];
        return tokens.filter((_, t) => !learned || learned[Math.max(1, promptLength) + t] === 1);
      });
    };
    const numbers = async (sequences: typeof train): Promise<Metrics & { loss: number }> => {
      const tokens = await learnedOf(sequences);
      return { loss: -mean(tokens.map((t) => t.logProb)), entropy: mean(tokens.map((t) => t.entropy)) };
    };
    await follow({
      start: (run, every) =>
        trainSft(
          { policy },
          { train, eval: held },
          {
            ...every,
            maxSteps: 3,
            seed: order.seed,
            perDeviceTrainBatchSize: order.batch,
            gradientAccumulationSteps: order.accumulation,
            learningRate: 2e-2,
            lrSchedulerType: "cosine",
          },
          run,
        ),
      store: policy.store,
      steps: 3,
      rate: (step) => 2e-2 * 0.5 * (1 + Math.cos((Math.PI * step) / 3)),
      async step(step) {
        const batches = microBatches(train, step, order);
        expect(batches.map((batch) => batch.length)).toEqual([3, 2]);
        const all = batches.flat();
        return {
          metrics: await numbers(all),
          tokens: sum(all.map(({ ids }) => ids.length)),
          loss: async () => (await numbers(all)).loss,
        };
      },
      async evaluate() {
        const { loss, entropy } = await numbers(held);
        const right = mean((await learnedOf(held)).map(({ first }) => Number(first)));
        return {
          eval_loss: loss,
          eval_perplexity: Math.exp(loss),
          eval_entropy: entropy,
          eval_mean_token_accuracy: right,
        };
      },
      undecided: [],
    });
  });

  it("measures the perplexity of a text window by window", async () => {
    const model = keep(languageModel(2));
    const text = words(23, 7);
    // Windows of 8 tokens every 5: each predicts what the one before has not seen.
    const windows = [
      { first: 0, end: 8, from: 1 },
      { first: 5, end: 13, from: 8 },
      { first: 10, end: 18, from: 13 },
      { first: 15, end: 23, from: 18 },
    ];
    const predicted = await predictedBy(
      model,
      windows.map(({ first, end, from }) => ({ ids: text.subarray(first, end), first: from - first })),
    );
    expect(predicted.map((tokens) => tokens.length)).toEqual([7, 5, 5, 5]);
    const perToken = -mean(predicted.flat().map((t) => t.logProb));
    const perWindow = -mean(predicted.map((tokens) => mean(tokens.map((t) => t.logProb))));
    const found = await textPerplexity(model, text, { window: 8, stride: 5 });
    expect(Object.keys(found).sort()).toEqual(["text_perplexity", "text_perplexity_by_window"]);
    expect(found.text_perplexity / Math.exp(perToken)).toBeCloseTo(1, 4);
    expect(found.text_perplexity_by_window / Math.exp(perWindow)).toBeCloseTo(1, 4);
    expect(found.text_perplexity / found.text_perplexity_by_window).not.toBeCloseTo(1, 2);
  });
});
