/** What trainers of preferences show of single pairs and answers, recomputed: see reference.ts. */
import { beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import type { CausalLM } from "webrlhf/nn";
import { type TrainEvent, trainCpo, trainDpo, trainKto, trainOrpo } from "webrlhf/rlhf";
import { keeper } from "../../keep.ts";
import { withoutClock } from "../../without-clock.ts";
import { examplePairs, logProbs, type Measured, measured } from "./pairs.ts";
import { languageModel, mean, microBatches, type Predicted, predictedBy, sum } from "./reference.ts";

beforeAll(() => openDevice());
const keep = keeper();

const order = { seed: 5, batch: 2, accumulation: 2 };
const common = {
  seed: order.seed,
  perDeviceTrainBatchSize: order.batch,
  gradientAccumulationSteps: order.accumulation,
  learningRate: 1e-2,
  maxSteps: 4,
};
const train = examplePairs(1);
const STEPS_OF_EPOCH = 2; // of four pairs, then of the one that is left

type Run = (show: boolean) => AsyncGenerator<TrainEvent>;

async function events(run: AsyncGenerator<TrainEvent>) {
  const all: TrainEvent[] = [];
  for await (const event of run) all.push(event);
  return all;
}
const tables = (all: readonly TrainEvent[]) => all.filter((event) => event.type === "rows");
const places = (step: number) =>
  microBatches(
    train.map((_, i) => i),
    step,
    order,
  ).flat();

/** Runs with and without, and finds that nothing else changes. */
async function shown(run: Run, weights: () => Promise<unknown>) {
  const plain = await events(run(false));
  const after = await weights();
  const all = await events(run(true));
  expect(await weights()).toEqual(after);
  expect(tables(plain)).toEqual([]);
  const rest = (list: readonly TrainEvent[]) => list.filter(({ type }) => type !== "rows").map(withoutClock);
  expect(rest(all)).toEqual(rest(plain));
  const found = tables(all);
  expect(found.map(({ step, table }) => ({ step, table }))).toEqual(
    [1, 2, 3, 4].map((step) => ({ step, table: "margins" })),
  );
  return found.map(({ rows }) => rows);
}

const near = (value: number) => expect.closeTo(value, 4);

describe("the margins of pairs", () => {
  const added = (tokens: readonly Predicted[]) => sum(logProbs(tokens));
  const averaged = (tokens: readonly Predicted[]) => mean(logProbs(tokens));
  const beyond = (tokens: readonly Predicted[], other: readonly Predicted[]) =>
    sum(tokens.map(({ logProb }, i) => (i < other.length ? 1 : 0.3) * logProb));
  const sides = (of: (own: readonly Predicted[], other: readonly Predicted[]) => number, m: Measured) => ({
    chosen: of(m.chosen, m.rejected),
    rejected: of(m.rejected, m.chosen),
  });

  it.each([
    ["dpo", { beta: 0.3 }, added, true],
    ["dpo, LD-DPO with hinge", { beta: 0.4, ldAlpha: 0.3, lossType: ["hinge"] }, beyond, true],
    ["orpo", { beta: 0.2 }, averaged, false],
    ["simpo", { beta: 2, lossType: "simpo" }, averaged, false],
  ] as const)("are what the answers say: %s", async (name, options, counted, compared) => {
    const start = keep(languageModel(1));
    const reference = keep(languageModel(2));
    const own = await measured(start, train);
    const other = await measured(reference, train);
    let policy: CausalLM;
    const run: Run = (showMargins) => {
      policy = keep(languageModel(1));
      const o = { ...common, ...options, showMargins };
      if (name === "orpo") return trainOrpo({ policy }, train, o as object);
      if (name === "simpo") return trainCpo({ policy }, train, o as object);
      return trainDpo({ policy, reference }, train, o as object);
    };
    const found = await shown(run, () => policy.store.read());
    found.forEach((rows, step) => {
      expect(rows.map(({ pair }) => pair)).toEqual(places(step));
      for (const row of rows) {
        const [won, lost] = [row["rewards/chosen"], row["rewards/rejected"]] as number[];
        expect(row["rewards/margins"]).toBeCloseTo(won - lost, 6);
      }
    });
    // Before anything is learned the weights are known.
    expect(found[0]).toEqual(
      places(0).map((pair) => {
        const logps = sides(counted, own[pair]);
        const under = compared ? sides(counted, other[pair]) : { chosen: 0, rejected: 0 };
        const rewards = {
          chosen: options.beta * (logps.chosen - under.chosen),
          rejected: options.beta * (logps.rejected - under.rejected),
        };
        return {
          pair,
          "logps/chosen": near(logps.chosen),
          "logps/rejected": near(logps.rejected),
          ...(compared && { "ref_logps/chosen": near(under.chosen), "ref_logps/rejected": near(under.rejected) }),
          "rewards/chosen": near(rewards.chosen),
          "rewards/rejected": near(rewards.rejected),
          "rewards/margins": near(rewards.chosen - rewards.rejected),
        };
      }),
    );
    // The reference stays as it is, whatever is learned.
    if (compared) {
      const again = found[STEPS_OF_EPOCH].concat(found[STEPS_OF_EPOCH + 1]);
      expect(again).toHaveLength(train.length);
      for (const row of again) {
        expect(row["ref_logps/chosen"]).toEqual(near(sides(counted, other[row.pair as number]).chosen));
      }
    }
  });

  it("are of single answers in kto", async () => {
    const answers = train.map(({ chosen, promptLength }, i) => ({
      ids: chosen,
      promptLength: Math.max(1, promptLength),
      label: i % 2 === 0,
    }));
    const start = keep(languageModel(1));
    const reference = keep(languageModel(2));
    const asked = answers.map(({ ids, promptLength }) => ({ ids, first: promptLength }));
    const [own, other] = [await predictedBy(start, asked), await predictedBy(reference, asked)];
    let policy: CausalLM;
    const run: Run = (showMargins) => {
      policy = keep(languageModel(1));
      return trainKto({ policy, reference }, answers, { ...common, beta: 0.3, showMargins });
    };
    const found = await shown(run, () => policy.store.read());
    found.forEach((rows, step) => void expect(rows.map(({ answer }) => answer)).toEqual(places(step)));
    expect(found[0]).toEqual(
      places(0).map((answer) => {
        const [logps, under] = [added(own[answer]), added(other[answer])];
        const { label } = answers[answer];
        return { answer, label, logps: near(logps), ref_logps: near(under), rewards: near(0.3 * (logps - under)) };
      }),
    );
  });
});
