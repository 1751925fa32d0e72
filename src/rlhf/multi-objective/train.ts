/** Training of a gate between attributes on preference pairs, whose hidden states were computed before. */
import { AdamW } from "../../nn/optimizer.ts";
import { UserError } from "../../runtime/errors.ts";
import { permutation, randomInt, streamId } from "../../runtime/rng.ts";
import { backward, noGrad, scope, type Tensor, tensor } from "../../tensor/core.ts";
import { concat } from "../../tensor/ops/shape.ts";
import { begin, type RunFolder, saveModels } from "../checkpoint.ts";
import type { TrainEvent } from "../events.ts";
import { gateLoss } from "../losses/gate.ts";
import { average } from "../stats.ts";
import { controlMetrics } from "../supervised.ts";
import { checkFinite, checkpoint, evalDue, now, rateAt, saveDue, stopping, type TrainingOptions } from "../training.ts";
import type { GatingNetwork } from "./gate.ts";
import type { MultiObjectiveHead, SequenceFeatures } from "./head.ts";
import type { Features } from "./ridge.ts";

/** Pairs as features of their chosen and their rejected sequences, in the same order. */
export interface PairFeatures {
  chosen: SequenceFeatures;
  rejected: SequenceFeatures;
  /** What kind of prompt each pair has, where known: evaluations then tell the gate's weights for each kind. */
  groups?: readonly string[];
}

/** `batchSize` pairs are drawn with replacement in every one of `maxSteps` steps. */
export interface GateOptions extends Omit<TrainingOptions, "epochs" | "accumulation"> {
  /** Part of the hidden units that drops out. */
  dropout: number;
  /** Part of the pairs that is held out. */
  validationShare: number;
  /** Learn on rewards without verbosity, as they are used; false learns on plain ones, as the released script does. */
  debiased: boolean;
  run?: RunFolder;
  resume?: boolean;
}

export const gateDefaults: GateOptions = {
  learningRate: 1e-3,
  schedule: "cosine",
  warmup: 0,
  maxSteps: 2000,
  batchSize: 1024,
  weightDecay: 0,
  betas: [0.9, 0.999],
  maxGradNorm: 0,
  seed: 0,
  evalSteps: 0,
  saveSteps: 0,
  dropout: 0.2,
  validationShare: 0.2,
  debiased: true,
};

/** Trains the head's gate in place. Throws `UserError` when there are too few pairs or the loss is not finite. */
export async function* trainGate(
  head: MultiObjectiveHead,
  pairs: PairFeatures,
  options: GateOptions,
): AsyncGenerator<TrainEvent> {
  const { gate } = head;
  if (!gate) throw new Error("a head without a gate has nothing to train");
  const { seed, maxSteps, batchSize, run } = options;
  const data = new GateData(head, pairs, options.debiased);
  const held = Math.round(data.count * options.validationShare);
  const order = permutation(data.count, seed, streamId("multi-objective/pairs"));
  const [validation, train] = [order.slice(0, held), order.slice(held)];
  if (train.length === 0) throw new UserError("there is nothing to train the gate on: no preference pair is left");
  const optimizer = new AdamW(head.store, options);
  const trainees = { "": { model: head, optimizer } };
  const restored = await begin(run, options.resume, trainees);
  const first = restored?.step ?? 0;
  yield { type: "start", stage: "multi-objective", step: first, maxSteps, parameters: head.store.count };

  let last: Record<string, number> = {};
  for (let step = first; step < maxSteps; step++) {
    const started = now();
    const drawn = Array.from({ length: batchSize }, (_, i) => train[randomInt(train.length, seed, step, i, BATCH)]);
    const lr = rateAt({ ...options, epochs: 0, accumulation: 1 }, maxSteps, step);
    const drop = { seed, step, pass: 0, rate: options.dropout };
    const watch = scope(() => gateStep(gate, optimizer, data.batch(drawn), lr, drop));
    const metrics = { ...(await readMetrics(watch, optimizer.control.size)), learning_rate: lr };
    const done = step + 1;
    checkFinite(done, metrics, ["loss"]);
    last = metrics;
    const seconds = now() - started;
    yield { type: "step", step: done, maxSteps, epoch: (done * batchSize) / train.length, metrics, tokens: 0, seconds };
    if (validation.length > 0 && (evalDue(options, done, maxSteps) || done === maxSteps)) {
      const found = await evaluateGate(gate, data, [...validation], head.config.attributes, pairs.groups);
      last = { ...last, ...found };
      yield { type: "eval", step: done, metrics: found };
    }
    const stop = stopping(options);
    if (run && (stop || saveDue(options, done))) yield await checkpoint(run, done, trainees, {});
    if (stop) return optimizer.destroy();
  }
  if (run) await saveModels(run, { "": head });
  optimizer.destroy();
  yield { type: "end", step: maxSteps, metrics: last };
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

/** One optimizer step. */
function gateStep(
  gate: GatingNetwork,
  optimizer: AdamW,
  { prompts, rewards }: GateBatch,
  lr: number,
  drop: { seed: number; step: number; pass: number; rate: number },
): Tensor {
  const { loss, margins } = gateLoss(gate.forward(upload(prompts), drop), upload(rewards));
  const watch = noGrad(() => concat([loss, gate.logit_scale.value, margins]));
  backward(loss, optimizer.lossSeed());
  optimizer.step(lr);
  return concat([optimizer.control, watch]);
}

async function readMetrics(watch: Tensor, controlSize: number): Promise<Record<string, number>> {
  const values = await watch.read();
  watch.free("the metrics reader");
  const [loss, logitScale, ...margins] = values.subarray(controlSize);
  const accuracy = average(margins.map((m) => Number(m > 0)));
  return { loss, accuracy, logit_scale: logitScale, ...controlMetrics(values, controlSize) };
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
  for (let first = 0; first < pairs.length; first += EVAL_PAIRS) {
    const part = pairs.slice(first, first + EVAL_PAIRS);
    const found = scope(() =>
      noGrad(() => {
        const { prompts, rewards } = data.batch(part);
        const gates = gate.forward(upload(prompts));
        const { loss, margins } = gateLoss(gates, upload(rewards));
        return concat([loss, margins, gates]);
      }),
    );
    const values = await found.read();
    found.free("evaluation");
    loss += values[0] * part.length;
    for (const [i, pair] of part.entries()) {
      right += Number(values[1 + i] > 0);
      for (const [k, name] of attributes.entries()) {
        const weight = values[1 + part.length + i * attributes.length + k];
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
