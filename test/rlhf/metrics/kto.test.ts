/** The metrics of KTO, recomputed: see reference.ts. */
import { beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { type KtoSettings, trainKto } from "webrlhf/rlhf";
import { keeper } from "../../keep.ts";
import {
  evaluated,
  follow,
  joined,
  languageModel,
  type Metrics,
  mean,
  microBatches,
  predictedBy,
  sigmoid,
  slices,
  sum,
  words,
} from "./reference.ts";

beforeAll(() => openDevice());
const keep = keeper();

interface Answer {
  ids: Uint32Array;
  promptLength: number;
  label: boolean;
}

const MAX_LENGTH = 14;

/** Answers of 2 to 11 tokens, some of which are too long behind other prompts. */
const examples = (key: number, labels: readonly boolean[]): Answer[] =>
  [
    [3, 11],
    [6, 2],
    [2, 5],
    [5, 9],
    [4, 3],
  ]
    .slice(0, labels.length)
    .map(([prompt, answer], i) => ({
      ids: joined(words(prompt, key, i, 0), words(answer, key, i, 1)),
      promptLength: prompt,
      label: labels[i],
    }));

const train = examples(31, [true, false, false, true, false]);
const held = examples(32, [false, true, true, false]);
const order = { seed: 5, batch: 3, accumulation: 2 };
const rate = 4e-3;

const cases: { name: string; options: Partial<KtoSettings> & Pick<KtoSettings, "beta"> }[] = [
  { name: "kto", options: { lossType: "kto", beta: 0.4, desirableWeight: 1.3, undesirableWeight: 0.6 } },
  { name: "apo_zero_unpaired", options: { lossType: "apo_zero_unpaired", beta: 0.3, undesirableWeight: 0.7 } },
];

describe("kto", () => {
  for (const { name, options } of cases) {
    it(`publishes what the answers say: ${name}`, async () => {
      const [policy, reference] = [keep(languageModel(4)), keep(languageModel(5))];
      const { beta, desirableWeight = 1, undesirableWeight = 1 } = options;

      /** Tokens of the answers, and how much likelier the policy makes each answer than the reference does. */
      const answered = async (batch: readonly Pick<Answer, "ids" | "promptLength">[]) => {
        const asked = batch.map(({ ids, promptLength }) => ({ ids, first: promptLength }));
        const [own, other] = [await predictedBy(policy, asked), await predictedBy(reference, asked)];
        const logps = own.map((tokens) => sum(tokens.map((t) => t.logProb)));
        const ratios = logps.map((l, i) => l - sum(other[i].map((t) => t.logProb)));
        return { tokens: own, logps, ratios };
      };
      /** z0: every prompt with the answer of the one before it. */
      const baselineOf = async (batch: readonly Answer[]) => {
        if (name !== "kto") return 0;
        const others = batch.map(({ ids, promptLength }, i) => {
          const other = batch.at(i - 1) as Answer;
          const whole = joined(ids.slice(0, promptLength), other.ids.slice(other.promptLength));
          return { ids: whole.slice(0, MAX_LENGTH), promptLength };
        });
        return Math.max(0, mean((await answered(others)).ratios));
      };
      const lossOf = (batch: readonly Answer[], ratios: readonly number[], z0: number): number =>
        mean(
          batch.map(({ label }, i) =>
            label
              ? desirableWeight * (1 - sigmoid(beta * (ratios[i] - z0)))
              : undesirableWeight * (1 - sigmoid(beta * (z0 - ratios[i]))),
          ),
        );
      const measure = async (batches: readonly (readonly Answer[])[]) => {
        const baselines: number[] = [];
        const found: Awaited<ReturnType<typeof answered>>[] = [];
        for (const batch of batches) {
          baselines.push(await baselineOf(batch));
          found.push(await answered(batch));
        }
        return { baselines, found };
      };
      const lossesOf = async (batches: readonly (readonly Answer[])[], baselines: readonly number[]) => {
        const { found } = await measure(batches);
        return batches.map((batch, i) => lossOf(batch, found[i].ratios, baselines[i]));
      };
      const weighted = (batches: readonly (readonly Answer[])[], values: readonly number[]) =>
        sum(batches.map((batch, i) => batch.length * values[i])) / batches.flat().length;
      /** Over all answers, as an evaluation has them. */
      const metricsOf = async (batches: readonly (readonly Answer[])[]): Promise<Metrics> => {
        const { baselines, found } = await measure(batches);
        const labels = batches.flat().map(({ label }) => label);
        const ratios = found.flatMap((part) => part.ratios);
        const logps = found.flatMap((part) => part.logps);
        const tokens = found.flatMap((part) => part.tokens);
        const side = (good: boolean, name: string): Metrics => {
          const of = <T>(values: readonly T[]) => values.filter((_, i) => labels[i] === good);
          if (of(labels).length === 0) return {};
          return {
            [`logits/${name}`]: mean(
              of(tokens)
                .flat()
                .map((t) => t.logit),
            ),
            [`rewards/${name}`]: beta * mean(of(ratios)),
            [`logps/${name}`]: mean(of(logps)),
          };
        };
        const sides: Metrics = { ...side(true, "chosen"), ...side(false, "rejected") };
        return {
          loss: weighted(batches, await lossesOf(batches, baselines)),
          kl: weighted(batches, baselines),
          entropy: mean(tokens.flat().map((t) => t.entropy)),
          ...sides,
          ...(new Set(labels).size === 2 && {
            "rewards/margins": sides["rewards/chosen"] - sides["rewards/rejected"],
          }),
        };
      };
      /** The means of the micro-batches' metrics, over those that have them. */
      const stepMetrics = async (batches: readonly (readonly Answer[])[]): Promise<Metrics> => {
        const each: Metrics[] = [];
        for (const batch of batches) each.push(await metricsOf([batch]));
        const names = [...new Set(each.flatMap((m) => Object.keys(m)))];
        return Object.fromEntries(names.map((name) => [name, mean(each.flatMap((m) => m[name] ?? []))]));
      };

      await follow({
        start: (run, every) =>
          trainKto(
            { policy, reference },
            { train, eval: held },
            {
              ...every,
              ...options,
              maxLength: MAX_LENGTH,
              maxSteps: 3,
              seed: order.seed,
              perDeviceTrainBatchSize: order.batch,
              gradientAccumulationSteps: order.accumulation,
              learningRate: rate,
              lrSchedulerType: "constant",
            },
            run,
          ),
        store: policy.store,
        steps: 3,
        rate: () => rate,
        async step(step) {
          const batches = microBatches(train, step, order);
          expect(batches.map((batch) => batch.length)).toEqual([3, 2]);
          const { baselines } = await measure(batches);
          if (name === "kto" && step === 0) expect(Math.max(...baselines)).toBeGreaterThan(0.1);
          return {
            metrics: await stepMetrics(batches),
            tokens: sum(train.map(({ ids }) => ids.length)),
            loss: async () => mean(await lossesOf(batches, baselines)),
          };
        },
        async evaluate() {
          const metrics = await metricsOf(slices(held, order.batch));
          expect(metrics.kl).toBe(0); // the mean ratios are below
          return evaluated(metrics);
        },
        undecided: [],
      });
    });
  }

  it("says nothing of a label that no answer of a step has", async () => {
    const [policy, reference] = [keep(languageModel(1)), keep(languageModel(2))];
    const good = train.filter(({ label }) => label);
    const names: string[][] = [];
    for await (const event of trainKto({ policy, reference }, good, { maxSteps: 1 })) {
      if (event.type === "step") names.push(Object.keys(event.metrics).sort());
    }
    expect(names).toEqual([
      [
        "entropy",
        "grad_norm",
        "kl",
        "learning_rate",
        "logits/chosen",
        "logps/chosen",
        "loss",
        "rewards/chosen",
        "skipped_steps",
      ],
    ]);
  });
});
