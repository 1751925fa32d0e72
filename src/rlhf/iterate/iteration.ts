/** One iteration of online DPO: sampling, scoring, pairing, training. */

import type { SampledRow, ScoredRow } from "../../data/scored-rows.ts";
import type { CausalLM } from "../../nn/models.ts";
import { streamId, uint32 } from "../../runtime/rng.ts";
import type { RunFolder } from "../checkpoint.ts";
import { dpoObjective, trainDpo } from "../dpo.ts";
import type { TrainEvent } from "../events.ts";
import { RunningMean } from "../losses/running.ts";
import { sampledKl } from "../measure.ts";
import { evaluatePairs } from "../pair-trainer.ts";
import type { PairExample } from "../pairs.ts";
import { dpoDefaults } from "../preference/dpo.ts";
import { precomputeReference } from "../reference.ts";
import { targetOf } from "../rollout.ts";
import { type Prompt, type Response, type Sampler, sampleResponses } from "../sampler.ts";
import { average } from "../stats.ts";
import { rewardStatistics } from "./annotate.ts";
import type { IterateInputs, IterateOptions } from "./options.ts";
import { makePairs, type RowPair } from "./pairs.ts";
import type { NumberedPrompt } from "./sample.ts";
import { pairLines, sampleStage, scoreStage } from "./stages.ts";

const KL_RESPONSES = 256;

export interface Iteration {
  iteration: number;
  prompts: readonly NumberedPrompt[];
  folder: string;
  model: RunFolder;
  /** Steps of the iterations before, and about how many those after it will have. */
  offset: number;
  left: number;
}

/** Sampling, scoring, pairing, training. Null when the signal stopped it. */
export async function* oneIteration(
  inputs: IterateInputs,
  options: IterateOptions,
  { iteration, prompts, folder, model, offset, left }: Iteration,
): AsyncGenerator<TrainEvent, { metrics: Record<string, number>; steps: number } | null> {
  const { policy, initial, tokenizer, run } = inputs;
  const { files } = run;
  const tell = (stage: "sampling" | "scoring") => (done: number, total: number) =>
    inputs.progress?.(iteration, stage, done, total);
  const draw: Sampler = inputs.sampler ?? ((...request) => sampleResponses(policy, tokenizer, ...request));
  const rows = await sampleStage(files, `${folder}/responses.jsonl`, draw, prompts, {
    maxNewTokens: options.responseLength,
    samples: options.samples,
    temperature: options.temperature,
    topK: options.topK,
    topP: options.topP,
    ...(options.eosIds && { eosIds: options.eosIds }),
    seed: options.seed,
    iteration,
    ...(inputs.sampler && { redo: "rows", promptsAtOnce: 256 }),
    progress: tell("sampling"),
    signal: options.signal,
  });
  if (!rows) return null;
  const scored = await scoreStage(files, `${folder}/rewards.jsonl`, inputs.judge, rows, {
    progress: tell("scoring"),
    signal: options.signal,
  });
  if (!scored) return null;

  const byId = new Map(prompts.map((prompt) => [prompt.id, prompt]));
  const promptOf = (row: ScoredRow) => byId.get(row.id as number) as NumberedPrompt;
  const { pairs, counts } = makePairs(scored, { ...options.pairs, seed: options.seed });
  await files.writeFile(`${folder}/pairs.jsonl`, pairLines(pairs));
  const { mean_length = 0, eos_rate = 0, ...rewards } = rewardStatistics(scored);
  const firsts = scored.slice(0, KL_RESPONSES).map((row) => responseOf(promptOf(row), row, 0));
  const { gold } = inputs;
  const sampled: Record<string, number> = {
    mean_length,
    eos_rate,
    reward: rewards.mean_reward,
    reward_top1: rewards.top1_reward,
    ...(gold && {
      gold: average(scored.flatMap((row) => row.responses.map((_, k) => gold(responseOf(promptOf(row), row, k))))),
    }),
    kl: iteration === 1 ? 0 : await sampledKl(policy, initial, firsts),
    pairs: counts.pairs,
    ties: counts.tie,
    prompts: counts.total,
    margin: average(pairs.map(({ margin }) => margin)),
    chosen_length: average(pairs.map(({ row, chosen }) => (row.tokenIds as number[][])[chosen].length)),
    rejected_length: average(pairs.map(({ row, rejected }) => (row.tokenIds as number[][])[rejected].length)),
  };

  // The policy is still the model that the iteration starts from: as the reference "previous" it is at hand just now.
  const reference = options.reference === "previous" || iteration === 1 ? policy : initial;
  const train = await precomputeReference(
    reference,
    pairs.map((pair) => exampleOf(promptOf(pair.row), pair)),
    { fp16: options.fp16 },
  );
  const seed = uint32(options.seed, iteration, streamId("iterate"));
  let steps = 0;
  let ended = false;
  const dpo = trainDpo({ policy, reference: "precomputed" }, { ...options, seed, train, run: model, resume: true });
  for await (const event of dpo) {
    if (event.type === "step") {
      steps = event.step;
      const { step, maxSteps, epoch, metrics } = event;
      const all = offset + maxSteps + left;
      yield { ...event, step: offset + step, maxSteps: all, epoch, metrics: { iteration, ...metrics } };
    } else if (event.type === "checkpoint") {
      const name = `iteration_${iteration}/model/${event.name}`;
      yield { ...event, step: offset + event.step, name };
    } else if (event.type === "start") steps = event.step;
    else if (event.type === "end") ended = true;
    else if (event.type === "warning") yield { ...event, step: offset + event.step };
  }
  if (!ended) return null;
  const learned = await accuracyOn(policy, train, options);
  return { metrics: { ...sampled, ...learned }, steps };
}

/** How well the trained policy tells its pairs apart: the part it orders rightly, and its mean reward margin. */
async function accuracyOn(policy: CausalLM, pairs: readonly PairExample[], options: IterateOptions) {
  const running = new RunningMean();
  try {
    const objective = dpoObjective(null, { ...dpoDefaults, ...options }, running);
    const metrics = await evaluatePairs(policy, pairs, objective, options.batchSize);
    return { accuracy: metrics["eval_rewards/accuracies"], reward_margin: metrics["eval_rewards/margins"] };
  } finally {
    running.destroy();
  }
}

/** A pair as token ids, as they were sampled: what was cut off has no end token, and none is learned. */
function exampleOf({ ids }: Prompt, { row, chosen, rejected, margin }: RowPair): PairExample {
  const tokens = row.tokenIds as number[][];
  const whole = (k: number) => Uint32Array.from([...ids, ...tokens[k]]);
  return { chosen: whole(chosen), rejected: whole(rejected), promptLength: ids.length, margin };
}

/** A row's response as it was sampled. */
export function responseOf(prompt: Prompt, { responses, tokenIds, ended }: SampledRow, sample: number): Response {
  return {
    ids: Uint32Array.from([...prompt.ids, ...(tokenIds as number[][])[sample]]),
    promptLength: prompt.ids.length,
    prompt: 0,
    sample,
    promptText: prompt.text,
    text: responses[sample],
    ended: (ended as boolean[])[sample],
    ...targetOf(prompt),
  };
}
