/**
 * Reward-ranked fine-tuning (Dong et al. 2023): sample several responses, keep the best by reward, fine-tune on them,
 * repeat. "local" keeps the best of each prompt's K responses; "top" keeps the best share of all responses, one per
 * prompt. The optimizer and its moments persist over the iterations.
 */

import type { Tokenizer } from "../../data/tokenizer.ts";
import type { CausalLM } from "../../nn/models.ts";
import { AdamW } from "../../nn/optimizer.ts";
import { checkpoint } from "../../tensor/core.ts";
import type { Sequence } from "../batch.ts";
import { begin, type RunFolder, saveModels } from "../checkpoint.ts";
import type { Sample, TrainEvent } from "../events.ts";
import { sampledKl } from "../measure.ts";
import type { Response } from "../sampler.ts";
import { average } from "../stats.ts";
import { diversity } from "../text-stats.ts";
import { checkFinite, now, orSaved, saveDue, stopping } from "../training.ts";
import { type Collected, type CollectInputs, collect, sizes } from "./collect.ts";
import { fineTune } from "./learn.ts";
import { checkRaftOptions, type RaftOptions } from "./options.ts";
import { countTokens, monitorTokens, monitorWarning, type TokenCounts } from "./token-monitor.ts";

export interface RaftInputs extends CollectInputs {
  run?: RunFolder;
  resume?: boolean;
}

/** Trains the model in place. Emits one step event per iteration, with a row of the table "raft" and those of "monitor". */
export async function* trainRaft(inputs: RaftInputs, options: RaftOptions): AsyncGenerator<TrainEvent> {
  const { model, run, prompts } = inputs;
  checkRaftOptions(options, { prompts: prompts.length, reference: inputs.reference !== undefined });
  const { samples, promptsPerStep } = sizes(options);
  const maxSteps = options.reusePrompts
    ? options.maxSteps
    : Math.min(options.maxSteps, Math.ceil(prompts.length / promptsPerStep));
  const optimizer = new AdamW(model.store, options);
  const trainees = { "": { model, optimizer } };
  const restored = await begin(run, inputs.resume, trainees);
  const first = restored?.step ?? 0;
  let firstTokens = (restored?.state.firstTokens as TokenCounts | undefined) ?? null;
  await removeTrainSets(run, first);
  const save = run && ((done: number) => checkpoint(run, done, trainees, { firstTokens }));
  yield { type: "start", stage: "raft", step: first, maxSteps, parameters: model.store.count };

  let last: Record<string, number> = {};
  for (let step = first; step < maxSteps; step++) {
    const started = now();
    const place = { first, done: step, saveSteps: options.saveSteps };
    const found = await orSaved(collect(inputs, options, step), save, place);
    const { responses, rewards, truth, allowed, kept } = found;
    await writeTrainSet(
      run,
      step,
      kept.map((i) => responses[i]),
    );
    const kl = inputs.reference && (await firstSamplesKl(model, inputs.reference, found.sampled));
    const learned = kept.map((i) => toLearn(responses[i], inputs, options));
    const tuned = await fineTune(model, optimizer, learned, step, { ...options, maxSteps });

    const { unique_1: _, unique_2: __, ...varied } = diversity(responses.map((r) => r.text));
    const metrics: Record<string, number> = {
      // Before discards, and for "local" of each prompt's first sample: an unbiased look at the policy.
      reward: average(rewards.filter((_, i) => i % samples === 0)),
      ...(kept.length > 0 && { train_reward: average(kept.map((i) => rewards[i])) }),
      ...(truth && { gold: average(truth) }),
      ...(truth && kept.length > 0 && { train_gold: average(kept.map((i) => truth[i])) }),
      ...(kl !== undefined && { kl }),
      ...tuned.metrics,
      n_kept: kept.length,
      n_discarded: allowed.filter((a) => !a).length,
      mean_length: average(responses.map((r) => r.ids.length - r.promptLength)),
      eos_rate: average(responses.map((r) => Number(r.ended))),
      ...varied,
    };
    last = metrics;
    const done = step + 1;
    if (tuned.metrics.loss !== undefined) checkFinite(done, metrics, ["loss"]);
    const tokens = responses.reduce((n, r) => n + r.ids.length, tuned.tokens);
    const epoch = Math.min(done * promptsPerStep, options.reusePrompts ? Infinity : prompts.length) / prompts.length;
    yield { type: "step", step: done, maxSteps, epoch, metrics, tokens, seconds: now() - started };
    yield { type: "rows", step: done, table: "raft", rows: [raftRow(step, metrics)] };
    if (options.monitor) {
      const used = tokensIn(responses, inputs.tokenizer);
      firstTokens ??= countTokens(used);
      const watched = { tokens: used, rewards, prompts: responses.map((r) => r.prompt), gold: truth };
      const reports = monitorTokens(watched, firstTokens, options.monitor);
      if (reports.length > 0) {
        const rows = reports.map((report) => ({ iteration: step, ...report }));
        yield { type: "rows", step: done, table: "monitor", rows };
      }
      const text = monitorWarning(reports);
      if (text !== null) yield { type: "warning", step: done, text };
    }
    if (kept.length === 0) {
      const text = `all ${responses.length} responses were discarded: nothing was learned in this iteration`;
      yield { type: "warning", step: done, text };
    }
    if (options.showSamples > 0) {
      yield { type: "samples", step: done, samples: shown(found, options.showSamples) };
    }
    const stop = stopping(options);
    if (save && (stop || saveDue(options, done))) yield await save(done);
    if (stop) return optimizer.destroy();
  }
  if (run) await saveModels(run, { "": model });
  optimizer.destroy();
  yield { type: "end", step: maxSteps, metrics: last };
}

/** KL to the reference, of one response per prompt. */
const firstSamplesKl = (model: CausalLM, reference: CausalLM, sampled: readonly Response[]): Promise<number> =>
  sampledKl(
    model,
    reference,
    sampled.filter((r) => r.sample === 0),
  );

/** What is learned of a kept response, as the options say. */
function toLearn({ ids, promptLength, ended }: Response, { model }: RaftInputs, options: RaftOptions): Sequence {
  const drop = !options.appendEos && ended && model.config.eosIds.includes(ids[ids.length - 1]);
  return { ids: drop ? ids.subarray(0, -1) : ids, promptLength: options.maskPrompt ? promptLength : 0 };
}

/** Each response's different tokens, as text; an end token is none. */
function tokensIn(responses: readonly Response[], tokenizer: Tokenizer): Set<string>[] {
  const texts = new Map<number, string>();
  const textOf = (id: number): string => {
    let text = texts.get(id);
    if (text === undefined) {
      text = tokenizer.decode([id], { continued: true });
      texts.set(id, text);
    }
    return text;
  };
  return responses.map(({ ids, promptLength }) => {
    const tokens = new Set(Array.from(ids.subarray(promptLength), textOf));
    tokens.delete("");
    return tokens;
  });
}

/** The iteration under LMFlow's names. */
function raftRow(iteration: number, metrics: Record<string, number>): Record<string, number> {
  const row: Record<string, number> = { iteration, mean_reward: metrics.reward };
  const names = ["train_reward", "n_kept", "n_discarded", "distinct_1", "distinct_2", "mean_length"];
  for (const name of names) if (metrics[name] !== undefined) row[name] = metrics[name];
  return row;
}

function shown({ responses, rewards, truth, kept }: Collected, count: number): Sample[] {
  return kept.slice(0, count).map((i) => ({
    prompt: responses[i].promptText,
    response: responses[i].text,
    reward: rewards[i],
    ...(truth && { gold: truth[i] }),
  }));
}

const trainSet = (run: RunFolder, iteration: number) => `${run.path}/train_set_${iteration}.json`;

/** Keeps what an iteration learns, as LMFlow's container of texts. */
async function writeTrainSet(run: RunFolder | undefined, iteration: number, kept: readonly Response[]): Promise<void> {
  if (!run) return;
  const instances = kept.map(({ promptText, text }) => ({ text: promptText + text }));
  const container = { type: "text_only", instances };
  await run.files.writeFile(trainSet(run, iteration), `${JSON.stringify(container, null, 2)}\n`);
}

/** Removes the train sets of iterations that are still to come: an earlier attempt's, perhaps with other options. */
async function removeTrainSets(run: RunFolder | undefined, from: number): Promise<void> {
  if (!run) return;
  for (const name of await run.files.list(run.path)) {
    const iteration = /^train_set_(\d+)\.json$/.exec(name)?.[1];
    if (iteration !== undefined && Number(iteration) >= from) await run.files.remove(trainSet(run, Number(iteration)));
  }
}
