/** The metrics of pair-preference models, recomputed: see reference.ts. */
import { beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import type { CausalLM } from "webrlhf/nn";
import { type QuestionExample, trainPairwise } from "webrlhf/rlhf";
import { keeper } from "../../keep.ts";
import {
  follow,
  languageModel,
  logitsOf,
  logSoftmax,
  type Metrics,
  mean,
  microBatches,
  sum,
  words,
} from "./reference.ts";

beforeAll(() => openDevice());
const keep = keeper();

const order = { seed: 5, batch: 3, accumulation: 2 };
const rate = 4e-3;
const SAME = 15;

/** Questions of 4 to 12 tokens; which order is learned changes, and the third pair has no better answer. */
const examples = (key: number): QuestionExample[] =>
  [6, 12, 4, 9, 7].map((length, i) => ({
    orders: [words(length, key, i, 0), words(length, key, i, 1)],
    side: i % 2 === 0 ? 0 : 1,
    ...(i === 2 && { same: true }),
  }));

const train = examples(51);
const held = examples(53);

/** Log-probabilities of all next tokens after each question. */
const nextOf = async (model: CausalLM, questions: readonly Uint32Array[]): Promise<number[][]> =>
  (await logitsOf(model, questions)).map((places) => logSoftmax(places.at(-1) as number[]));

/** 1, or 1/2 where nothing decides. */
const rightness = (better: number, worse: number): number => (better > worse ? 1 : better === worse ? 0.5 : 0);

async function followPairwise(letters: [number, number], undecided: string[]): Promise<void> {
  const policy = keep(languageModel(3));
  const [A, B] = letters;
  const stepNumbers = async (batch: readonly QuestionExample[]): Promise<Metrics & { loss: number }> => {
    const next = await nextOf(
      policy,
      batch.map(({ orders, side }) => orders[side]),
    );
    const asked = batch.map(({ side, same }, i) => ({ side, same, next: next[i] }));
    const decided = asked.filter(({ same }) => !same);
    return {
      loss: -mean(asked.map(({ side, same, next }) => next[same ? SAME : letters[side]])),
      accuracy: mean(decided.map(({ side, next }) => rightness(next[letters[side]], next[letters[1 - side]]))),
    };
  };
  await follow({
    start: (run, every) =>
      trainPairwise(
        { policy, writer: { letters, idOf: () => SAME } },
        { train, eval: held },
        {
          ...every,
          maxSteps: 3,
          seed: order.seed,
          perDeviceTrainBatchSize: order.batch,
          gradientAccumulationSteps: order.accumulation,
          learningRate: rate,
          lrSchedulerType: "cosine_with_min_lr",
        },
        run,
      ),
    store: policy.store,
    steps: 3,
    // Down to a tenth.
    rate: (step) => rate * (0.1 + 0.9 * 0.5 * (1 + Math.cos((Math.PI * step) / 3))),
    async step(step) {
      const batches = microBatches(train, step, order);
      expect(batches.map((batch) => batch.length)).toEqual([3, 2]);
      return {
        metrics: await stepNumbers(batches.flat()),
        tokens: sum(train.map(({ orders, side }) => orders[side].length)),
        loss: async () => (await stepNumbers(batches.flat())).loss,
      };
    },
    async evaluate() {
      const decided = held.filter(({ same }) => !same);
      const asA = await nextOf(
        policy,
        decided.map(({ orders }) => orders[0]),
      );
      const asB = await nextOf(
        policy,
        decided.map(({ orders }) => orders[1]),
      );
      const chanceOfA = (next: number[]) => Math.exp(next[A]) / (Math.exp(next[A]) + Math.exp(next[B]));
      const chances = decided.map((_, i) => (chanceOfA(asA[i]) + 1 - chanceOfA(asB[i])) / 2);
      return {
        eval_loss: -mean([...asA.map((next) => next[A]), ...asB.map((next) => next[B])]),
        eval_accuracy: mean(chances.map((chance) => rightness(chance, 0.5))),
        eval_chosen_probability: mean(chances),
        eval_consistency: mean(decided.map((_, i) => Number(chanceOfA(asA[i]) > 0.5 !== chanceOfA(asB[i]) > 0.5))),
        eval_position_bias: mean([...asA, ...asB].map((next) => chanceOfA(next) - 0.5)),
      };
    },
    undecided,
  });
}

describe("pairwise", () => {
  it("publishes what the letters' chances say", () => followPairwise([8, 20], ["accuracy"]));

  it("counts what nothing decides as half right", () => followPairwise([8, 8], ["accuracy"]));

  it("has no accuracy where no pair has a better answer", async () => {
    const policy = keep(languageModel(1));
    const same = train.map((one) => ({ ...one, same: true }));
    const writer = { letters: [8, 20] as [number, number], idOf: () => SAME };
    for await (const event of trainPairwise({ policy, writer }, same, { maxSteps: 1 })) {
      if (event.type === "step") expect(Object.keys(event.metrics)).not.toContain("accuracy");
    }
  });
});
