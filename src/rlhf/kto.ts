/**
 * Kahneman-Tversky optimisation: a policy learns from single answers that were found good or bad. How far the policy has
 * moved in all is estimated on the same answers behind other prompts: answer i follows prompt i + 1 of its batch.
 */
import { type DropoutStep, withDropout } from "../nn/ambient.ts";
import type { CausalLM } from "../nn/models.ts";
import type { AdamW } from "../nn/optimizer.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import { live, type SettingsInput, settings } from "../settings/index.ts";
import { backward, noGrad, scope, type Tensor, tensor } from "../tensor/core.ts";
import { addScalar, clamp, mul, neg, scale, sigmoid, sub } from "../tensor/ops/elementwise.ts";
import { mean } from "../tensor/ops/reduce.ts";
import { segmentSums } from "../tensor/ops/segments.ts";
import { detach } from "../tensor/ops/shape.ts";
import { pack, predictedTokens, predictions, type Sequence } from "./batch.ts";
import { preferenceBasics } from "./dpo.ts";
import type { TrainEvent } from "./events.ts";
import {
  contextOf,
  type DatasetOf,
  type ExampleData,
  type ExampleMethod,
  examplesOf,
  trainOnExamples,
} from "./examples.ts";
import { inHalf } from "./half.ts";
import { inTurn } from "./in-turn.ts";
import type { RunOptions } from "./loop.ts";
import { preference, referenceOf, referenceSync, syncSettings } from "./reference.ts";
import { data, positive } from "./settings.ts";
import { meanByName } from "./stats.ts";
import {
  controlMetrics,
  readWatched,
  together,
  type Watched,
  type WatchedNumbers,
  watch,
  watchControl,
} from "./watch.ts";

/** An answer behind its prompt, and whether it is good. */
export interface LabelledSequence extends Sequence {
  label: boolean;
}

/** Names of KTO's losses, for `lossType`; apo_zero_unpaired (D'Oosterlinck et al. 2024) compares with 0 instead of the KL divergence. */
export const ktoLossNames = ["kto", "apo_zero_unpaired"] as const;

/** KTO's settings, by TRL's names; batches are of answers. */
export const kto = settings(
  "kto",
  {
    maxLength: data.int(null, "Cut prompt plus answer to this many tokens; default: the model's context", { min: 2 }),
    ...syncSettings,
    lossType: preference.choice(ktoLossNames, "kto", "Against the KL divergence, or against 0"),
    beta: preference.float(0.1, "How closely the policy is held to the reference", { ...positive, live: true }),
    desirableWeight: preference.float(1, "Weight of good answers", { min: 0 }),
    undesirableWeight: preference.float(1, "Weight of bad answers", { min: 0 }),
    ...preferenceBasics,
  },
  (o, name) => {
    if (o.lossType !== "kto" || o.perDeviceTrainBatchSize >= 2) return;
    throw new UserError(`KTO compares answers within a batch: ${name("perDeviceTrainBatchSize")} must be at least 2`);
  },
);

/** KTO's settings, resolved. */
export type KtoSettings = ReturnType<typeof kto>;

/** Settings of KTO's loss. */
export type KtoLossOptions = Pick<KtoSettings, "lossType" | "beta" | "desirableWeight" | "undesirableWeight">;

/** KTO's z0: the mean log-ratio of answers to other prompts, at least 0; a constant. [1] */
export const ktoBaseline = (mismatched: Tensor): Tensor => detach(clamp(mean(mismatched), 0, 3e38));

/**
 * KTO's loss (Ethayarajh et al. 2024): w (1 - sigmoid(beta s (u - z0))) for each answer, s = 1 for good ones and -1 for bad
 * ones; [answers].
 * @param ratios u = log p - log p_ref of the answers
 * @param baseline z0 [1], unused by apo_zero_unpaired
 */
export function ktoLoss(ratios: Tensor, labels: readonly boolean[], baseline: Tensor, o: KtoLossOptions): Tensor {
  const over = o.lossType === "kto" ? sub(ratios, baseline) : ratios;
  const signs = tensor(labels.map((good) => (good ? 1 : -1)));
  const weights = tensor(labels.map((good) => (good ? o.desirableWeight : o.undesirableWeight)));
  return mul(weights, addScalar(neg(sigmoid(mul(signs, scale(over, o.beta)))), 1));
}

/** The models of a run. */
export interface KtoModels {
  /** Trained in place. */
  policy: CausalLM;
  /** The policy as it should stay. Default: the base of the policy's adapter, or a copy, which is freed in the end. */
  reference?: CausalLM;
  /** Default: the policy's own. */
  tokenizer?: TextTokenizer;
}

interface Both {
  policy: CausalLM;
  reference: CausalLM;
}

/** What a batch's loss depends on; answers behind other prompts are cut to `maxLength` tokens in all. */
type LossOptions = KtoLossOptions & { maxLength: number };

/**
 * Trains the policy in place.
 * @throws UserError when there is nothing to learn from, or when the loss is not finite
 */
export async function* trainKto(
  models: KtoModels,
  data: ExampleData<LabelledSequence> | DatasetOf<"labelled", LabelledSequence>,
  chosen: SettingsInput<typeof kto.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const o = live(kto(chosen));
  const { policy } = models;
  const maxLength = contextOf(policy, o);
  const answers = await examplesOf(data, "labelled", models, { maxLength });
  const { reference, free } = referenceOf(policy, models.reference);
  const both = { policy, reference };
  const own = () => ({ ...o, maxLength });
  const half = inHalf(o.fp16, [reference]);
  try {
    const method: ExampleMethod<LabelledSequence> = {
      stage: "kto",
      step(optimizer, batches, rate, dropout) {
        const drops = o.disableDropout ? null : dropout;
        const { watched, tokens } = scope(() => ktoStep(both, optimizer, batches, rate, own(), drops));
        const read = readWatched(watched);
        const metrics = async () => {
          const [{ control }, ...passes] = await read;
          const each = passes.map((numbers, i) => ktoMetrics([numbers], [batches[i]]));
          return { ...meanByName(each), ...controlMetrics(control) };
        };
        const found = { metrics: metrics(), tokens };
        const { beta } = o;
        if (!o.showMargins) return found;
        const margins = () =>
          read.then(([, ...passes]) => passes.flatMap((numbers, i) => marginRows(numbers, batches[i], beta)));
        return { ...found, rows: { table: "margins", index: "answer", rows: margins } };
      },
      ...referenceSync(policy, reference, o),
      evaluate: (examples) => evaluateKto(both, examples, own(), o.perDeviceTrainBatchSize),
    };
    yield* trainOnExamples(policy, answers, o, method, run);
  } finally {
    half.destroy();
    free();
  }
}

/** One optimizer step; the loss is the mean of the micro-batches' means, as in TRL. */
function ktoStep(
  both: Both,
  optimizer: AdamW,
  batches: readonly (readonly LabelledSequence[])[],
  rate: number,
  o: LossOptions,
  dropout: DropoutStep | null = null,
): { watched: Watched; tokens: number } {
  const all = batches.flat();
  const passes = batches.map((batch, pass) => {
    const { loss, watched } = ktoBatch(both, batch, o, dropout && { ...dropout, pass });
    backward(loss, optimizer.lossSeed(1 / batches.length));
    return watched;
  });
  optimizer.step(rate);
  const watched = together<string>([watchControl(optimizer), ...passes]);
  return { watched, tokens: all.reduce((n, { ids }) => n + ids.length, 0) };
}

/** Loss [1] of a batch, and its numbers: `rewards` and what follows by answer. */
function ktoBatch(
  both: Both,
  batch: readonly LabelledSequence[],
  o: LossOptions,
  dropout: (DropoutStep & { pass: number }) | null,
): { loss: Tensor; watched: Watched } {
  const kl =
    o.lossType === "kto"
      ? noGrad(() => scope(() => ktoBaseline(underBoth(both, mismatched(batch, o.maxLength)).ratios)))
      : tensor([0]);
  const { hidden, logProbs, entropy, segments, ratios } = withDropout(dropout, () => underBoth(both, batch));
  const labels = batch.map(({ label }) => label);
  const loss = mean(ktoLoss(ratios, labels, kl, o));
  const watched = noGrad(() => {
    const logits = both.policy.meanLogits(hidden);
    return watch<string>({
      loss,
      kl,
      rewards: scale(ratios, o.beta),
      logps: segmentSums(logProbs, segments),
      entropies: segmentSums(entropy, segments),
      ...(logits && { logits: segmentSums(logits, segments) }),
    });
  });
  return { loss, watched };
}

/** Each answer of a pass with what the policy and the reference make of it. */
const marginRows = (numbers: WatchedNumbers, batch: readonly LabelledSequence[], beta: number) =>
  batch.map(({ label }, i) => {
    const [logps, rewards] = [numbers.logps[i], numbers.rewards[i]];
    return { label, logps, ref_logps: logps - rewards / beta, rewards };
  });

/** The tokens of whole answers under the policy, where each answer's are, and the answers' log-ratios, [answers]. */
function underBoth({ policy, reference }: Both, sequences: readonly Sequence[]) {
  const { ids, packing, starts } = pack(sequences);
  const { rows, targets, lengths } = predictions(sequences, starts);
  const gpuTargets = tensor(targets);
  const hidden = policy.hidden(ids, packing, rows);
  const { logProbs, entropy } = policy.headLogProbs(hidden, gpuTargets);
  const under = noGrad(() => reference.logProbs(ids, packing, rows, targets).logProbs);
  let at = 0;
  const segments = lengths.map((length) => {
    at += length;
    return { first: at - length, length };
  });
  return { hidden, logProbs, entropy, segments, ratios: segmentSums(sub(logProbs, under), segments) };
}

/** Each prompt of a batch with the answer before its own, the first with the last one's. */
export function mismatched(batch: readonly Sequence[], maxLength: number): Sequence[] {
  return batch.map(({ ids, promptLength }, i) => {
    const other = batch[(i + batch.length - 1) % batch.length];
    const answer = other.ids.subarray(other.promptLength, other.promptLength + Math.max(0, maxLength - promptLength));
    const joined = new Uint32Array(promptLength + answer.length);
    joined.set(ids.subarray(0, promptLength));
    joined.set(answer, promptLength);
    return { ids: joined, promptLength };
  });
}

/**
 * Means over answers (of entropy and logits: over all their tokens) by TRL's names; those of a label that does not occur are
 * left out.
 */
function ktoMetrics(
  passes: readonly WatchedNumbers[],
  batches: readonly (readonly LabelledSequence[])[],
): Record<string, number> {
  const total = batches.reduce((n, b) => n + b.length, 0);
  const metrics: Record<string, number> = { loss: 0, kl: 0 };
  const side = () => ({ answers: 0, tokens: 0, rewards: 0, logps: 0, entropies: 0, logits: 0 });
  const sides = { chosen: side(), rejected: side() };
  passes.forEach((numbers, pass) => {
    const batch = batches[pass];
    for (const name of ["loss", "kl"]) metrics[name] += (batch.length / total) * numbers[name][0];
    batch.forEach((sequence, i) => {
      const sums = sides[sequence.label ? "chosen" : "rejected"];
      sums.answers += 1;
      sums.tokens += predictedTokens(sequence);
      for (const name of ["rewards", "logps", "entropies", "logits"] as const) sums[name] += numbers[name]?.[i] ?? 0;
    });
  });
  const { chosen, rejected } = sides;
  metrics.entropy = (chosen.entropies + rejected.entropies) / Math.max(1, chosen.tokens + rejected.tokens);
  for (const [name, { answers, tokens, rewards, logps, logits }] of Object.entries(sides)) {
    if (answers === 0) continue;
    metrics[`rewards/${name}`] = rewards / answers;
    metrics[`logps/${name}`] = logps / answers;
    if (passes[0].logits) metrics[`logits/${name}`] = logits / Math.max(1, tokens);
  }
  if (chosen.answers > 0 && rejected.answers > 0) {
    metrics["rewards/margins"] = metrics["rewards/chosen"] - metrics["rewards/rejected"];
  }
  return metrics;
}

/** The training metrics on held-out answers, with eval_ before their names. */
async function evaluateKto(
  both: Both,
  examples: readonly LabelledSequence[],
  o: LossOptions,
  batchSize: number,
): Promise<Record<string, number>> {
  const batches: LabelledSequence[][] = [];
  for (let at = 0; at < examples.length; at += batchSize) batches.push(examples.slice(at, at + batchSize));
  const passes = await inTurn(batches, (batch) =>
    readWatched(scope(() => noGrad(() => ktoBatch(both, batch, o, null).watched))),
  );
  const metrics = ktoMetrics(passes.flat(), batches);
  return Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`eval_${name}`, value]));
}
