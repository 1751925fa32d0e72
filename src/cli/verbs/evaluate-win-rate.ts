/** What `evaluate --judge` measures: how often a judge prefers a policy's answers to others'. */
import { join } from "node:path";
import { type Answers, askedIn, promptKey, readAnswers } from "../../data/answers.ts";
import { mustBe } from "../../data/readers.ts";
import { lastTurn } from "../../data/records.ts";
import { openDataset } from "../../open/datasets.ts";
import { labelOf } from "../../open/hub.ts";
import { openLlmJudge, usageWords } from "../../open/llm-judge.ts";
import { withModels } from "../../open/models.ts";
import { ModelOpener } from "../../open/opener.ts";
import type { WinRateResult } from "../../report/data.ts";
import { JudgeComparer, outcomeOf, positionBias } from "../../rlhf/llm-judge/compare.ts";
import { policySampler } from "../../rlhf/sampler.ts";
import { type Estimate, winRates } from "../../rlhf/win-rate.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { openGpu } from "../gpu.ts";
import { drawingElsewhere } from "../join-cluster.ts";
import { short } from "../progress.ts";
import { surroundings } from "../surroundings.ts";
import type { Context } from "../verb.ts";
import { biasLine, progressOfAnswers } from "./evaluate-reward.ts";
import type { evaluateSettings } from "./evaluate-settings.ts";

type Options = ReturnType<typeof evaluateSettings>;

/** Prompts that a model answers where the settings do not say how many. */
const PROMPTS = 256;

/** Answers, and what they are called. */
interface Side {
  label: string;
  answers: Answers;
}

/** Compares answers by the judge of a file. */
export async function winRateResult(o: Options, context: Context): Promise<WinRateResult> {
  const { terminal, label } = context;
  const calls = await openLlmJudge(o.judge as string, { onAnswer: progressOfAnswers(terminal) });
  if (calls.spec.mode !== "pairwise") {
    throw new UserError(`${o.judge} grades single answers: set mode: pairwise in it, to have two answers compared`);
  }
  const own = await sideOf(o, { file: o.answersFile, model: o.modelNameOrPath }, context);
  if (!own)
    throw new UserError("there is nobody to judge: name a policy (model_name_or_path) or its answers (answers_file)");
  const other =
    (await sideOf(o, { file: o.refAnswersFile, model: o.refModelNameOrPath }, context)) ??
    (await answersInData(o, context));
  const shared = [...own.answers].filter(([key]) => other.answers.has(key));
  if (shared.length === 0) {
    throw new UserError(`${own.label} and ${other.label} have no prompt in common: both must answer the same ones`);
  }
  if (shared.length < own.answers.size) {
    terminal.line(`${shared.length} of ${own.answers.size} prompts are answered by both; the others are left out`);
  }
  const pairs = shared.slice(0, o.numPrompts ?? undefined).map(([key, { prompt, text, row }]) => {
    const against = other.answers.get(key)!;
    return { prompt, first: text.trim(), second: against.text.trim(), row: { ...against.row, ...row } };
  });
  const verdicts = await new JudgeComparer(calls).compare(pairs);
  const outcomes = pairs.map(({ first, second }, i) => ({
    outcome: outcomeOf(verdicts[i]),
    length: [...first].length,
    otherLength: [...second].length,
  }));
  const rates = winRates(outcomes, { resamples: o.bootstrapSamples, seed: o.seed });
  const bias = positionBias(verdicts);
  await (await diskFiles()).writeFile(
    join(o.outputDir, "comparisons.jsonl"),
    pairs
      .map(({ prompt, first, second }, i) => {
        const { forth = null, back = null } = verdicts[i] ?? {};
        const line = {
          prompt,
          answer: first,
          other: second,
          outcome: outcomes[i].outcome,
          shown_first: forth,
          shown_second: back,
        };
        return `${JSON.stringify(line)}\n`;
      })
      .join(""),
  );
  const result = { label: o.label ?? own.label, against: other.label, ...rates, position_bias: bias };
  terminal.line(
    `${label}: ${result.label} against ${result.against}: win rate ${written(rates.win_rate)} (Wilson), length-controlled ` +
      `${rates.length_controlled ? `${written(rates.length_controlled)} (bootstrap)` : "none: all outcomes are alike"}; ` +
      `${rates.wins} wins, ${rates.ties} ties, ${rates.losses} losses; ${short(rates.mean_length)} and ` +
      `${short(rates.other_mean_length)} characters`,
  );
  terminal.line(biasLine(bias));
  terminal.line(usageWords(calls.usage));
  return result;
}

const written = ({ value, low, high }: Estimate): string =>
  low === null || high === null ? short(value) : `${short(value)} [${short(low)}, ${short(high)}]`;

/** The answers of a file, or those that a model draws; null where neither is named. */
async function sideOf(
  o: Options,
  { file, model }: { file: string | null; model: string | null },
  context: Context,
): Promise<Side | null> {
  if (file !== null) return { label: file, answers: await readAnswers(file) };
  return model === null ? null : drawnBy(o, model, context);
}

/** A model's answers to the dataset's prompts. It is gone from the GPU when they are there. */
async function drawnBy(o: Options, name: string, context: Context): Promise<Side> {
  const { terminal, signal } = context;
  const around = surroundings(context);
  await openGpu(terminal);
  const opener = new ModelOpener({ ...o, ...around });
  const tokenizer = await opener.tokenizer(name);
  const label = labelOf(await opener.locate(name));
  await opener.refuseJudge(name);
  return withModels(opener.opened, async () => {
    const policy = await opener.frozenPolicy(name, label);
    tokenizer.checkFits(policy.config.vocabSize);
    opener.refuseUnusedBase();
    const filed = o.answersFile !== null || o.refAnswersFile !== null; // then the file decides which prompts count
    const all = openDataset(o.datasetName, { ...o, ...around });
    const { dataset, part } = all.heldOut(o.numPrompts ?? (filed && !all.isMade ? null : PROMPTS));
    const room = { context: policy.config.maxPositions, response: o.responseLength };
    const prompts = (await dataset.prompts(tokenizer, room))[part];
    const where = { path: o.outputDir, files: await diskFiles(), terminal, signal, keepsNothing: true };
    const drawing = await drawingElsewhere(o, { policy, tokenizer }, where);
    const sampler = drawing?.sampler ?? policySampler(policy, tokenizer);
    const ids = prompts.map((_, i) => i);
    const { responseLength: maxNewTokens, temperature, seed, promptsPerJob } = o;
    const how = { maxNewTokens, temperature, seed, promptsPerJob, samples: 1, iteration: 0 };
    const responses = await sampler(prompts, ids, how).finally(() => drawing?.close());
    const answers = responses.map(({ text, prompt: p }) => {
      const { messages, row = {}, text: written } = prompts[p];
      const prompt = messages ?? askedIn({ prompt: written, row });
      return [promptKey(prompt), { prompt, text, row }] as const;
    });
    return { label, answers: new Map(answers) };
  });
}

/** The answers that the dataset has itself. */
async function answersInData(o: Options, context: Context): Promise<Side> {
  const all = openDataset(o.datasetName, { ...o, ...surroundings(context) });
  const { dataset, part } = all.heldOut(all.isMade ? (o.numPrompts ?? PROMPTS) : null);
  const records = (await dataset.records(null))[part];
  const answers = records.map((record) => {
    const { prompt: text, completion } = lastTurn(mustBe(record, "prompt_completion"));
    const { row = {}, where } = record;
    const prompt = askedIn({ prompt: text, row, ...(where !== undefined && { where }) });
    return [promptKey(prompt), { prompt, text: completion, row }] as const;
  });
  return { label: o.datasetName, answers: new Map(answers) };
}
