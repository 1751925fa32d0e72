/**
 * Supervised fine-tuning: a language model learns to continue prompts as the data do, or to write texts like the data's.
 * The loss is the mean negative log-likelihood of all learned tokens of an optimizer step, whatever its passes.
 */

import { counted } from "../data/counts.ts";
import { type DropoutStep, withDropout } from "../nn/ambient.ts";
import type { CausalLM } from "../nn/models.ts";
import type { AdamW } from "../nn/optimizer.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import { type SettingsInput, settings } from "../settings/index.ts";
import { backward, noGrad, scope, type Tensor } from "../tensor/core.ts";
import { scale } from "../tensor/ops/elementwise.ts";
import { sum } from "../tensor/ops/reduce.ts";
import { pack, predictedTokens, predictions, type Sequence, scoringParts } from "./batch.ts";
import { learnerSettings } from "./diloco.ts";
import type { TrainEvent } from "./events.ts";
import { contextOf, type DatasetOf, type ExampleData, examplesOf, trainOnExamples } from "./examples.ts";
import { inTurn } from "./in-turn.ts";
import type { RunOptions } from "./loop.ts";
import * as shared from "./settings.ts";
import { controlMetrics, readWatched, together, type Watched, watch, watchControl } from "./watch.ts";

/** Settings of supervised fine-tuning. */
export const sft = settings(
  "sft",
  {
    maxLength: shared.data.int(null, "Cut sequences to this many tokens; default: the model's context", { min: 2 }),
    maxPromptLength: shared.data.int(
      null,
      "Cut the beginnings of prompts of more tokens, as PaddleNLP does; default: such prompts are refused where no answer fits",
      { min: 2, aka: ["src_length"] },
    ),
    appendEos: shared.data.bool(
      true,
      "End answers and texts with the end token; false leaves that to the data, as LMFlow does",
    ),
    completionOnlyLoss: shared.data.bool(
      true,
      "Of prompts with completions learn the completions only; false learns both",
    ),
    assistantOnlyLoss: shared.data.bool(
      false,
      "Of conversations (messages) learn only what the assistant says; default: all of them, as in TRL",
    ),
    ...shared.duration(3),
    ...shared.optimiser(2e-5, "linear", 8),
    ...shared.half,
    ...shared.evaluation,
    ...learnerSettings,
    ...shared.common,
  },
  (o, name) => {
    if (o.maxPromptLength === null || !o.assistantOnlyLoss) return;
    throw new UserError(
      `${name("maxPromptLength")} does not go with ${name("assistantOnlyLoss")}: there is no one prompt then`,
    );
  },
);

/** Settings of supervised fine-tuning, resolved. */
export type SftSettings = ReturnType<typeof sft>;

/**
 * Trains a language model in place on everything after each sequence's `promptLength` (0: on everything).
 * @throws UserError when there is nothing to learn from, or when the loss is not finite
 */
export async function* trainSft(
  models: { policy: CausalLM; tokenizer?: TextTokenizer },
  data: ExampleData<Sequence> | DatasetOf<"sequences", Sequence>,
  chosen: SettingsInput<typeof sft.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const o = sft(chosen);
  const { policy } = models;
  const { appendEos, completionOnlyLoss, assistantOnlyLoss, maxPromptLength } = o;
  const prepare = {
    maxLength: contextOf(policy, o),
    maxPromptLength,
    appendEos,
    completionOnlyLoss,
    assistantOnlyLoss,
  };
  const { train, eval: held } = await examplesOf(data, "sequences", models, prepare);
  const some = train.filter((sequence) => predictedTokens(sequence) > 0);
  const bare = train.length - some.length;
  const learned = counted(some, train, { dropped: { "there is no token to learn in it": bare } });
  if (bare > 0) {
    const text = `${bare} of ${train.length} sequences left out: they have no token to learn`;
    if (learned.length === 0) throw new UserError(`nothing is left: ${text}`);
    yield { type: "note", step: 0, text };
  }
  yield* trainOnExamples(policy, { train: learned, eval: held }, o, sftRecipe(policy), run);
}

/** Weighted negative log-likelihood: -sum_t w log p_t. */
export const nllLoss = (logProbs: Tensor, weight: number): Tensor => scale(sum(logProbs), -weight);

const sftRecipe = (policy: CausalLM) => ({
  stage: "sft",
  step(optimizer: AdamW, batches: readonly (readonly Sequence[])[], rate: number, dropout: DropoutStep) {
    const { watched, tokens } = scope(() => sftStep(policy, optimizer, batches, rate, dropout));
    return { metrics: sftMetrics(watched), tokens };
  },
  evaluate: (examples: readonly Sequence[]) => evaluateSft(policy, examples),
});

/**
 * Enqueues one optimizer step over micro-batches; the loss is the mean over all their response tokens.
 * @param dropout the key of the step's masks, for adapters that drop out; without it they do not
 */
export function sftStep(
  policy: CausalLM,
  optimizer: AdamW,
  batches: readonly (readonly Sequence[])[],
  rate: number,
  dropout: DropoutStep | null = null,
): { watched: Watched; tokens: number } {
  const all = batches.flat();
  const predicted = all.reduce((n, sequence) => n + predictedTokens(sequence), 0);
  const losses = batches.map((sequences, pass) => {
    const { ids, packing, starts } = pack(sequences);
    const { rows, targets } = predictions(sequences, starts);
    const { logProbs, entropy } = withDropout(dropout && { ...dropout, pass }, () =>
      policy.logProbs(ids, packing, rows, targets),
    );
    const loss = nllLoss(logProbs, 1 / predicted);
    const watched = watch({ loss, entropy: noGrad(() => nllLoss(entropy, -1 / predicted)) });
    backward(loss, optimizer.lossSeed());
    return watched;
  });
  optimizer.step(rate);
  const watched = together<string>([watchControl(optimizer), ...losses]);
  return { watched, tokens: all.reduce((n, { ids }) => n + ids.length, 0) };
}

/** The metrics of an `sftStep`: each pass has its part of the mean loss and of the mean entropy. */
export async function sftMetrics(watched: Watched): Promise<Record<string, number>> {
  const [{ control }, ...passes] = await readWatched(watched);
  const sum = (name: string) => passes.reduce((total, numbers) => total + numbers[name][0], 0);
  return { loss: sum("loss"), entropy: sum("entropy"), ...controlMetrics(control) };
}

/**
 * Enqueues the supervised loss on a few sequences, the mean over their response tokens, with its gradient times `seed`.
 * Used beside other losses.
 */
export function nllPass(policy: CausalLM, sequences: readonly Sequence[], seed: number | Tensor): Watched<"loss"> {
  const { ids, packing, starts } = pack(sequences);
  const { rows, targets } = predictions(sequences, starts);
  const loss = nllLoss(policy.logProbs(ids, packing, rows, targets).logProbs, 1 / rows.length);
  const watched = watch({ loss });
  backward(loss, seed);
  return watched;
}

/** Mean loss per response token, perplexity, mean entropy and the part of the tokens that are the most probable ones, on held-out sequences. */
export async function evaluateSft(policy: CausalLM, sequences: readonly Sequence[]): Promise<Record<string, number>> {
  let nll = 0;
  let entropies = 0;
  let right = 0;
  let count = 0;
  const found = await inTurn(scoringParts(sequences, policy), ([first, last]) => {
    const part = sequences.slice(first, last);
    const watched = scope(() =>
      noGrad(() => {
        const { ids, packing, starts } = pack(part);
        const { rows, targets } = predictions(part, starts);
        const { logProbs, entropy, top } = policy.logProbs(ids, packing, rows, targets);
        return watch({ nll: nllLoss(logProbs, 1), entropy: nllLoss(entropy, -1), logProbs, top });
      }),
    );
    return readWatched(watched);
  });
  for (const numbers of found.flat()) {
    nll += numbers.nll[0];
    entropies += numbers.entropy[0];
    right += numbers.logProbs.filter((logProb, i) => logProb >= numbers.top[i]).length;
    count += numbers.logProbs.length;
  }
  if (count === 0) throw new UserError("the evaluation set has no response tokens");
  return {
    eval_loss: nll / count,
    eval_perplexity: Math.exp(nll / count),
    eval_entropy: entropies / count,
    eval_mean_token_accuracy: right / count,
  };
}
