/**
 * Every loss on pairs, and KTO, against float64 values and gradients: ragged answers, one of them empty, packed and padded
 * in every arrangement.
 */
import { beforeAll, describe, expect, it } from "vitest";
import { backward, checkGradient, mean, scope, type Tensor, tensor } from "webrlhf";
import {
  type Answers,
  cpo,
  cpoObjective,
  dpo,
  dpoObjective,
  kto,
  ktoBaseline,
  ktoLoss,
  orpoObjective,
  type PairExample,
  type PairObjective,
  type PairScores,
  preferenceLoss,
  RunningMean,
} from "webrlhf/rlhf";
import { tailWeights } from "../../src/rlhf/pairs.ts";
import fixture from "../fixtures/preference.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

type Options = Record<string, number | boolean | string | number[] | undefined>;
interface Case {
  trainer: string;
  losses: { type: string; weight: number }[];
  options: Options;
  loss: number;
  grads: { chosen: number[][]; rejected: number[][] };
}
const cases = fixture.cases as Case[];
const pairs = fixture.prompts.length;

type Arrangement = "packed" | "left" | "right" | "ragged";

/** Where each sequence begins in a vector of tokens, and how long that vector is. */
function starts(arrangement: Arrangement): { at: number[]; size: number } {
  const rows = [...fixture.chosen, ...fixture.rejected];
  const width = Math.max(...rows.map((r) => r.length));
  if (arrangement === "left") return { at: rows.map((r, i) => (i + 1) * width - r.length), size: rows.length * width };
  if (arrangement === "right") return { at: rows.map((_, i) => i * width), size: rows.length * width };
  let size = 0;
  const at = rows.map((r, i) => {
    const first = size + (arrangement === "ragged" ? i % 3 : 0); // gaps of 0, 1 and 2
    size = first + r.length;
    return first;
  });
  return { at, size };
}

/** Sequences laid into one vector; what is between them is garbage. */
function lay(rows: readonly number[][], { at, size }: ReturnType<typeof starts>): Float32Array {
  const flat = new Float32Array(size).fill(777);
  rows.forEach((row, i) => {
    flat.set(row, at[i]);
  });
  return flat;
}

function answersOf(logProbs: Tensor, reference: Tensor, at: number[], options: Options): Answers {
  const answer = (row: readonly number[], i: number) => {
    const prompt = fixture.prompts[i % pairs];
    return { first: at[i] + prompt, length: row.length - prompt };
  };
  const chosen = fixture.chosen.map(answer);
  const rejected = fixture.rejected.map((row, i) => answer(row, i + pairs));
  return {
    logProbs,
    entropy: tensor([0]),
    meanLogits: null,
    tokenWeights:
      options.ld_alpha === undefined ? null : tailWeights(chosen, rejected, logProbs.size, options.ld_alpha as number),
    chosen,
    rejected,
    chosenWithPrompt: fixture.chosen.map((row, i) => ({ first: at[i], length: row.length })),
    pairWeights: options.weights ? tensor(options.weights as number[]) : null,
    under: () => reference,
    tokens: logProbs.size,
  };
}

const given = (values: Record<string, unknown>) =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));

function objectiveOf({ trainer, losses, options: o }: Case, running: RunningMean): PairObjective {
  if (trainer === "orpo") return orpoObjective(o.beta as number);
  if (trainer === "cpo") {
    const own = given({
      lossType: losses[0].type,
      beta: o.beta,
      labelSmoothing: o.label_smoothing,
      simpoGamma: o.simpo_gamma,
      cpoAlpha: o.cpo_alpha,
    });
    return cpoObjective(cpo(own));
  }
  if (o.running !== undefined) running.load({ mean: o.running as number, count: o.count as number });
  const own = given({
    lossType: losses.map(({ type }) => type),
    lossWeights: losses.map(({ weight }) => weight),
    beta: o.beta,
    labelSmoothing: o.label_smoothing,
    fDivergenceType: o.divergence,
    fAlphaDivergenceCoef: o.alpha,
    lenPenalty: o.len_penalty,
    discopopTau: o.discopop_tau,
    ipoAverage: o.ipo_average,
    rpoAlpha: o.rpo_alpha,
    rpoOver: o.rpo_over,
    ldAlpha: o.ld_alpha,
    bcoRunningMean: o.running !== undefined,
  });
  // A model is asked for nothing here: the stand-in's answer comes from `under`.
  return dpoObjective({} as never, dpo(own), running);
}

const examples = fixture.margin.map(
  (margin): PairExample => ({
    chosen: new Uint32Array(),
    rejected: new Uint32Array(),
    promptLength: 0,
    margin,
  }),
);

describe("losses on pairs", () => {
  for (const found of cases) {
    const label = `${found.trainer} ${found.losses.map((l) => l.type)} ${JSON.stringify(found.options)}`;
    it(`${label}: value and gradients`, async () => {
      for (const arrangement of ["packed", "left", "right", "ragged"] as const) {
        const layout = starts(arrangement);
        const leaf = tensor(lay([...fixture.chosen, ...fixture.rejected], layout));
        leaf.requiresGrad = true;
        leaf.grad = tensor(new Float32Array(layout.size));
        const reference = tensor(lay([...fixture.ref_chosen, ...fixture.ref_rejected], layout));
        const running = new RunningMean();
        const loss = scope(() => {
          const answers = answersOf(leaf, reference, layout.at, found.options);
          const { loss } = objectiveOf(found, running).loss(answers, examples, true);
          backward(loss);
          return loss;
        });
        expectClose(await loss.read(), [found.loss], 2e-6, 1e-6, arrangement);
        const gradients = await leaf.grad.read();
        const expected = lay([...found.grads.chosen, ...found.grads.rejected], layout);
        expected.forEach((value, i) => {
          if (value === 777) expected[i] = 0; // what is between the sequences gets no gradient
        });
        expectClose(gradients, expected, 1e-5, 1e-7, `${arrangement} gradient`);
      }
    });
  }
});

/** The pairs' numbers in the fixture have means below 0, which kto_pair takes for 0; these have not. */
describe("kto_pair", () => {
  const chosenRatios = [2, -0.5, 1.5];
  const rejectedRatios = [0.25, 1, -0.5];
  const lossOf = (chosenRatio: Tensor, rejectedRatio: Tensor) =>
    preferenceLoss("kto_pair", { chosenRatio, rejectedRatio } as PairScores, { beta: 0.5 });

  it("compares each answer with the mean of the other side", async () => {
    const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
    const [klChosen, klRejected] = [1, 0.25];
    const expected = chosenRatios.map(
      (w, i) => 1 - 0.5 * (sigmoid(0.5 * (w - klRejected)) + sigmoid(0.5 * (klChosen - rejectedRatios[i]))),
    );
    const found = scope(() => lossOf(tensor(chosenRatios), tensor(rejectedRatios)));
    expectClose(await found.read(), expected, 1e-6, 1e-7);
    await checkGradient(lossOf, [tensor(chosenRatios), tensor(rejectedRatios)]);
  });
});

describe("KTO", () => {
  for (const [i, { labels, options, ratios, others, loss, grad }] of fixture.kto.entries()) {
    it(`case ${i}: value and gradients`, async () => {
      const o = options as Options;
      const own = given({
        beta: o.beta,
        desirableWeight: o.desirable_weight,
        undesirableWeight: o.undesirable_weight,
        lossType: o.loss_type,
      });
      const leaf = tensor(ratios);
      leaf.requiresGrad = true;
      leaf.grad = tensor(new Float32Array(ratios.length));
      const found = scope(() => {
        const value = mean(ktoLoss(leaf, labels, ktoBaseline(tensor(others)), kto(own)));
        backward(value);
        return value;
      });
      expectClose(await found.read(), [loss], 1e-6, 1e-7);
      expectClose(await leaf.grad.read(), grad, 1e-5, 1e-8);
    });
  }
});

describe("the running mean", () => {
  it("counts every batch once and goes on from where it was saved", async () => {
    const batches = [0.5, -1, 2.25, 3];
    const whole = new RunningMean();
    const means: number[] = [];
    for (const mean of batches) means.push((await whole.update(tensor([mean])).read())[0]);
    batches.forEach((_, i) => {
      expect(means[i]).toBeCloseTo(batches.slice(0, i + 1).reduce((a, b) => a + b, 0) / (i + 1), 6);
    });
    const first = new RunningMean();
    for (const mean of batches.slice(0, 2)) first.update(tensor([mean]));
    const second = new RunningMean();
    second.load(JSON.parse(JSON.stringify(await first.save())));
    for (const mean of batches.slice(2)) second.update(tensor([mean]));
    expect(await second.save()).toEqual(await whole.save());
  });
});
