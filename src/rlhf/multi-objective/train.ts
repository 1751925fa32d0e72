/** Training of a gate between attributes on preference pairs, whose hidden states were computed before. */

import { AdamW } from "../../nn/optimizer.ts";
import { UserError } from "../../runtime/errors.ts";
import { permutation, randomInt, streamId } from "../../runtime/rng.ts";
import { effective, group, live, needs, type SettingsInput, settings } from "../../settings/index.ts";
import { backward, noGrad, scope, type Tensor, tensor } from "../../tensor/core.ts";
import { logSigmoid, mul, neg } from "../../tensor/ops/elementwise.ts";
import { mean, sum } from "../../tensor/ops/reduce.ts";
import { reshape } from "../../tensor/ops/shape.ts";
import { dataEvents } from "../data-events.ts";
import type { TrainEvent } from "../events.ts";
import { inHalf } from "../half.ts";
import { inTurn } from "../in-turn.ts";
import { loop, type RunOptions } from "../loop.ts";
import { common, evaluation, half, optim, optimiser } from "../settings.ts";
import { average } from "../stats.ts";
import { adamOf, rateAt } from "../training.ts";
import { controlMetrics, readWatched, together, type Watched, watch, watchControl } from "../watch.ts";
import type { GatingNetwork } from "./gate.ts";
import type { MultiObjectiveHead, SequenceFeatures } from "./head.ts";
import type { Features } from "./regression.ts";

const gating = group("Gate");
const {
  gradientAccumulationSteps: _,
  gradientCheckpointing: __,
  perDeviceTrainBatchSize: ___,
  ...gateOptimiser
} = optimiser(1e-3, "cosine", 1024);

/** Pairs as features of their chosen and their rejected sequences, in the same order. */
export interface PairFeatures {
  chosen: SequenceFeatures;
  rejected: SequenceFeatures;
  /** What kind of prompt each pair has, where known: evaluations then tell the gate's weights for each kind. */
  groups?: readonly string[];
}

/** Settings of a multi-objective reward model's gate; pairs are drawn with replacement in every step. */
export const gate = settings("multi-objective", {
  ...effective(needs("preferenceDatasetName"), {
    gatingDropout: gating.float(0.2, "Part of the hidden units that drops out in training", { min: 0, max: 0.99 }),
    debiasTraining: gating.bool(
      true,
      "Train the gate on rewards without verbosity, as they are used; false trains on plain ones, as the released script",
    ),
    validationShare: gating.float(0.2, "Part of the pairs that is held out", { min: 0, max: 0.99 }),
    maxSteps: optim.int(2000, "Optimizer steps of the gate", { min: 1, aka: ["n_steps"] }),
    perDeviceTrainBatchSize: optim.int(1024, "Pairs in a step, drawn with replacement", {
      min: 1,
      aka: ["batch_size"],
    }),
    ...gateOptimiser,
    maxGradNorm: optim.float(0, "Clip the global gradient norm to this; 0 does not clip", { min: 0 }),
    ...evaluation,
  }),
  ...half,
  ...common,
});

/** Settings of a gate, resolved. */
export type GateSettings = ReturnType<typeof gate>;

/**
 * Trains the head's gate in place.
 * @throws UserError when there are too few pairs, or when the loss is not finite
 */
export async function* trainGate(
  { head }: { head: MultiObjectiveHead },
  pairs: PairFeatures,
  chosen: SettingsInput<typeof gate.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const o = live(gate(chosen));
  const network = head.gate;
  if (!network) throw new Error("a head without a gate has nothing to train");
  const { seed, maxSteps, perDeviceTrainBatchSize: batch } = o;
  const data = new GateData(head, pairs, o.debiasTraining);
  const held = Math.round(data.count * o.validationShare);
  const order = permutation(data.count, seed, streamId("multi-objective/pairs"));
  const [validation, train] = [[...order.slice(0, held)], order.slice(held)];
  if (train.length === 0) throw new UserError("there is nothing to train the gate on: no preference pair is left");
  const halved = inHalf(o.fp16, [network]);
  const optimizer = new AdamW(head.store, adamOf(o));
  yield* loop(
    {
      stage: "multi-objective",
      maxSteps,
      parameters: head.store.count,
      kept: { "": { model: head, optimizer } },
      data: dataEvents([...train], validation),
      epoch: (done) => (done * batch) / train.length,
      async step(step) {
        const drawn = Array.from({ length: batch }, (_, i) => train[randomInt(train.length, seed, step, i, BATCH)]);
        const rate = rateAt(o, maxSteps, step);
        const drop = { seed, step, pass: 0, rate: o.gatingDropout };
        const watched = scope(() => gateStep(network, optimizer, data.batch(drawn), rate, drop));
        return { metrics: { ...(await gateMetrics(watched)), learning_rate: rate }, tokens: 0 };
      },
      finite: ["loss"],
      ...(validation.length > 0 && {
        evaluate: async () => ({
          metrics: await evaluateGate(network, data, validation, head.config.attributes, pairs.groups),
        }),
      }),
      finished: () => ({ "": head }),
      close() {
        optimizer.destroy();
        halved.destroy();
      },
    },
    o,
    run,
  );
}

const BATCH = streamId("multi-objective/batch");

/** Prompt embeddings and rewards of pairs, ready to be drawn from. */
class GateData {
  readonly count: number;
  private readonly attributes: number;
  private readonly pairs: PairFeatures;
  private readonly rewards: readonly [Float64Array, Float64Array];

  constructor(head: MultiObjectiveHead, pairs: PairFeatures, debiased: boolean) {
    this.pairs = pairs;
    this.attributes = head.config.attributes.length;
    this.count = pairs.chosen.prompt.data.length / pairs.chosen.prompt.width;
    this.rewards = [head.rewards(pairs.chosen.last, { debiased }), head.rewards(pairs.rejected.last, { debiased })];
  }

  /** Prompts and rewards of chosen answers, then of rejected ones, whose rewards are negated. */
  batch(drawn: readonly number[]): GateBatch {
    const { chosen, rejected } = this.pairs;
    const n = this.attributes;
    const { width } = chosen.prompt;
    const prompts = new Float32Array(2 * drawn.length * width);
    const rewards = new Float32Array(2 * drawn.length * n);
    for (const [side, { data }] of [chosen.prompt, rejected.prompt].entries()) {
      for (const [i, pair] of drawn.entries()) {
        const row = side * drawn.length + i;
        for (let j = 0; j < width; j++) prompts[row * width + j] = data[pair * width + j];
        const sign = side === 0 ? 1 : -1;
        for (let k = 0; k < n; k++) rewards[row * n + k] = sign * this.rewards[side][pair * n + k];
      }
    }
    return { prompts: { data: prompts, width }, rewards: { data: rewards, width: n } };
  }
}

interface GateBatch {
  prompts: Features;
  rewards: Features;
}

const upload = ({ data, width }: Features): Tensor =>
  tensor(data instanceof Float32Array ? data : Float32Array.from(data), [data.length / width, width]);

/**
 * Bradley-Terry on gated sums: score = sum_k g_k r_k, mean of -log sigmoid(score_chosen - score_rejected).
 * @param gates of the chosen answers' prompts, then of the rejected ones': [2 pairs, attributes]
 * @param rewards in the same order, a constant, those of the rejected answers negated
 * @returns the loss, and the differences of the scores, [pairs]
 */
export function gateLoss(gates: Tensor, rewards: Tensor): { loss: Tensor; margins: Tensor } {
  const pairs = gates.shape[0] / 2;
  const margins = sum(reshape(sum(mul(gates, rewards), 1), [2, pairs]), 0);
  return { loss: neg(mean(logSigmoid(margins))), margins };
}

/** One optimizer step. */
function gateStep(
  gate: GatingNetwork,
  optimizer: AdamW,
  { prompts, rewards }: GateBatch,
  rate: number,
  drop: { seed: number; step: number; pass: number; rate: number },
): Watched {
  const { loss, margins } = gateLoss(gate.forward(upload(prompts), drop), upload(rewards));
  const watched = watch({ loss, logitScale: gate.logit_scale.value, margins });
  backward(loss, optimizer.lossSeed());
  optimizer.step(rate);
  return together<string>([watchControl(optimizer), watched]);
}

async function gateMetrics(watched: Watched): Promise<Record<string, number>> {
  const [{ control }, { loss, logitScale, margins }] = await readWatched(watched);
  const accuracy = average([...margins].map((m) => Number(m > 0)));
  return { loss: loss[0], accuracy, logit_scale: logitScale[0], ...controlMetrics(control) };
}

const EVAL_PAIRS = 4096;

/**
 * Loss and accuracy on held-out pairs, and the mean weight of every attribute for the chosen answers' prompts, over all of
 * them and over each group.
 */
async function evaluateGate(
  gate: GatingNetwork,
  data: GateData,
  pairs: readonly number[],
  attributes: readonly string[],
  groups: readonly string[] = [],
): Promise<Record<string, number>> {
  let loss = 0;
  let right = 0;
  const weights = new Map<string, number[]>();
  const note = (name: string, weight: number) => {
    const list = weights.get(name);
    if (list) list.push(weight);
    else weights.set(name, [weight]);
  };
  const parts: number[][] = [];
  for (let first = 0; first < pairs.length; first += EVAL_PAIRS) parts.push(pairs.slice(first, first + EVAL_PAIRS));
  const found = await inTurn(parts, (part) => {
    const watched = scope(() =>
      noGrad(() => {
        const { prompts, rewards } = data.batch(part);
        const gates = gate.forward(upload(prompts));
        const { loss, margins } = gateLoss(gates, upload(rewards));
        return watch({ loss, margins, gates });
      }),
    );
    return readWatched(watched);
  });
  for (const [at, numbers] of found.flat().entries()) {
    const part = parts[at];
    loss += numbers.loss[0] * part.length;
    for (const [i, pair] of part.entries()) {
      right += Number(numbers.margins[i] > 0);
      for (const [k, name] of attributes.entries()) {
        const weight = numbers.gates[i * attributes.length + k];
        note(name, weight);
        if (groups[pair] !== undefined) note(`${groups[pair]}/${name}`, weight);
      }
    }
  }
  return {
    eval_loss: loss / pairs.length,
    eval_accuracy: right / pairs.length,
    ...Object.fromEntries([...weights].map(([name, list]) => [`eval_gate/${name}`, average(list)])),
  };
}
