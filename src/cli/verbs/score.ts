import { resolve } from "node:path";
import { askedIn } from "../../data/answers.ts";
import { answerExample } from "../../data/batches.ts";
import type { ChatTemplate } from "../../data/chat-template.ts";
import { columnNames, renamed } from "../../data/columns.ts";
import { readRows } from "../../data/readers.ts";
import type { PromptCompletion } from "../../data/records.ts";
import type { Columns } from "../../data/schemas.ts";
import { type Scorable, scorable } from "../../data/scorable.ts";
import { foreignNames } from "../../open/foreign.ts";
import { isLlmJudge, openLlmJudge, refuseForJudge, usageWords } from "../../open/llm-judge.ts";
import { withModels } from "../../open/models.ts";
import { ModelOpener } from "../../open/opener.ts";
import { isWeightless } from "../../open/rewards.ts";
import { openScorer } from "../../open/scorers.ts";
import { openingSettings, rewardSettings, rewardWeights, splitSettings } from "../../open/settings.ts";
import { persisting } from "../../open/surviving.ts";
import { contextOf } from "../../rlhf/examples.ts";
import { answerScorer } from "../../rlhf/llm-judge/reward.ts";
import { takeNormalization } from "../../rlhf/rewards.ts";
import { data, logging } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { settings } from "../../settings/index.ts";
import { askingSettings } from "../cluster-settings.ts";
import { openGpu } from "../gpu.ts";
import { scoringElsewhere } from "../join-cluster.ts";
import { surroundings } from "../surroundings.ts";
import { type Context, defineVerb, Interrupted } from "../verb.ts";
import { readingSettings } from "./reading-settings.ts";
import { summaries } from "./summaries.ts";

const scoreTable = {
  rewardModelPath: rewardSettings.rewardModelPath,
  ...openingSettings,
  ...rewardWeights,
  inputFile: data.path(null, "Rows to score: .jsonl, .json, .csv, .tsv or .parquet, also .gz", { required: true }),
  column: splitSettings.column,
  ...readingSettings,
  normalize: data.choice(
    ["auto", "true", "false"],
    "auto",
    "Normalise by the statistics of the model's training; auto: as the model says",
  ),
  outputFile: logging.path(null, "JSONL file for the rows with their rewards", { required: true }),
  ...askingSettings("score"),
};

const scoreSettings = settings("score", scoreTable, undefined, foreignNames);

type Options = ReturnType<typeof scoreSettings>;

/** Answers that are scored together. */
const ANSWERS_AT_ONCE = 64;
/** Of these that a cluster is asked for at once. */
const BATCHES_IN_CLUSTER = 64;
const SECONDS_BETWEEN_LINES = 5;

export const scoreVerb = defineVerb({
  name: "score",
  summary: summaries.score,
  settings: scoreSettings,
  argument: "inputFile",
  interruptNote: "\nstopping; nothing is written",
  examples: [
    "webrlhf score answers.jsonl --reward_model_path out/reward --output_file scored.jsonl",
    "webrlhf score answers.jsonl --reward_model_path out/reward --output_file scored.jsonl --cluster nats://A:4222 --creds trainer.creds",
    "webrlhf score answers.jsonl --reward_model_path judge:helpful.yaml --output_file scored.jsonl",
    "webrlhf score responses.jsonl.gz --reward_model_path out/reward --truncation_side left --output_file rewards.jsonl",
  ],
  product: (o) => ({ file: o.outputFile as string }),
  async run(o, context) {
    const files = await diskFiles();
    const [path, output] = [o.rewardModelPath!, o.outputFile!];
    if (isWeightless(path) && !isLlmJudge(path)) {
      throw new UserError(`--reward_model_path must be a folder here, or judge:FILE, not ${path}: score needs a model`);
    }
    if (resolve(output) === resolve(o.inputFile!)) {
      throw new UserError(
        `output_file ${output} is the input_file: choose another file, the rows are read while it is written`,
      );
    }
    if (isLlmJudge(path)) return scoreByJudge(o, path, output, context);
    await openGpu(context.terminal);
    const scoreAll = async () => {
      const opener = new ModelOpener({ ...o, ...surroundings(context) });
      const closers: (() => Promise<void>)[] = [];
      const scored = withModels(opener.opened, async () => {
        const tokenizer = await opener.tokenizer(path);
        if (await opener.pairWriter(path)) {
          throw new UserError(`${path} compares answers and cannot score one by itself: use webrlhf annotate`);
        }
        const { terminal, signal } = context;
        const where = { path: output, files, terminal, signal, keepsNothing: true };
        const elsewhere = scoringElsewhere(o, where, closers);
        const scorer = await openScorer(opener, path, { elsewhere });
        opener.refuseUnusedBase();
        if (scorer.single)
          takeNormalization(scorer.single, o.normalize === "auto" ? {} : { normalize: o.normalize === "true" });
        else if (o.normalize === "true")
          throw new UserError(`normalize does not apply: ${path} has no statistics of its scores`);
        tokenizer.checkFits(scorer.model.config.vocabSize);
        const prepare = { maxLength: contextOf(scorer.model, o), truncationSide: o.truncationSide };
        const score = (answers: readonly PromptCompletion[]) =>
          scorer.scores(answers.map((answer) => answerExample(answer, tokenizer, prepare)));
        await files.writeFile(output, lines(score, tokenizer.chatTemplate, o, context));
      });
      await scored.finally(() => Promise.all(closers.map((close) => close())));
    };
    await persisting(scoreAll, (text) => context.terminal.line(text), context.signal).catch((error) => {
      throw context.signal.aborted ? new Interrupted("stopped; nothing was written") : error;
    });
    context.terminal.line(`${context.label}: ${output}`);
  },
});

/** Scores by a language model on a server. What it has said is kept, so a run that was stopped asks for the rest. */
async function scoreByJudge(o: Options, path: string, output: string, context: Context): Promise<void> {
  const { terminal, signal, label } = context;
  refuseForJudge(o, path);
  const calls = await openLlmJudge(path, { signal });
  const judge = answerScorer(calls, path);
  const score = (answers: readonly PromptCompletion[]) =>
    judge(answers.map((answer) => ({ ...answer, prompt: askedIn(answer) })));
  await (await diskFiles()).writeFile(output, lines(score, null, o, context)).catch((error) => {
    throw signal.aborted ? new Interrupted("stopped; the same command asks for the rest") : error;
  });
  terminal.line(`${label}: ${output}; ${usageWords(calls.usage)}`);
}

/** Scores of answers, in their order. */
type ScoreAnswers = (answers: readonly PromptCompletion[]) => Promise<ArrayLike<number>>;

/** The rows with their scores, in their order, as lines of JSON. */
async function* lines(
  score: ScoreAnswers,
  chat: ChatTemplate | null,
  o: Options,
  { terminal, signal, label }: Context,
): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  let rows = 0;
  let shown = performance.now();
  const scored = async (batch: Scorable[]) => {
    const answers = batch.flatMap((row) => row.answers);
    const scores = Array.from(await score(answers));
    return { batch, answers, scores };
  };
  const all = inOrder(batches(rowsOf(o, chat)), o.cluster === null ? 1 : BATCHES_IN_CLUSTER, scored);
  for await (const { batch, answers, scores } of all) {
    if (signal.aborted) throw new Interrupted("stopped; nothing was written");
    const bad = scores.findIndex((score) => !Number.isFinite(score));
    if (bad >= 0)
      throw new UserError(`${answers[bad].where}: the model's score is ${scores[bad]}: its weights are damaged`);
    let at = 0;
    for (const row of batch) {
      const own = scores.slice(at, at + row.answers.length);
      at += own.length;
      yield encoder.encode(`${JSON.stringify(row.scored(own))}\n`);
    }
    rows += batch.length;
    if (performance.now() - shown < 1000 * SECONDS_BETWEEN_LINES) continue;
    shown = performance.now();
    terminal.line(`${label}: ${rows} rows`);
  }
}

/** Has things done, some at once, and gives them in their order. */
async function* inOrder<T, R>(
  things: AsyncIterable<T>,
  atOnce: number,
  work: (thing: T) => Promise<R>,
): AsyncGenerator<R> {
  const underWay: Promise<R>[] = [];
  for await (const thing of things) {
    const one = work(thing);
    one.catch(() => {}); // heard of below, in its turn
    underWay.push(one);
    if (underWay.length >= atOnce) yield await (underWay.shift() as Promise<R>);
  }
  for (const one of underWay) yield await one;
}

async function* rowsOf(o: Options, chat: ChatTemplate | null): AsyncGenerator<Scorable> {
  let rows = 0;
  const file = o.inputFile!;
  for await (const { value, where } of renamed(readRows(file), columnNames(o.column ?? []))) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new UserError(
        `${where}: a row must be an object with columns, this is ${JSON.stringify(value).slice(0, 60)}`,
      );
    }
    rows++;
    const row = value as Columns;
    const found = scorable(row, where, { template: o.template, chat });
    yield { ...found, answers: found.answers.map((answer) => ({ ...answer, row })) };
  }
  if (rows === 0) throw new UserError(`${file}: the file is empty`);
}

/** Runs of rows with about as many answers as are scored together. */
async function* batches(rows: AsyncIterable<Scorable>): AsyncGenerator<Scorable[]> {
  let batch: Scorable[] = [];
  let answers = 0;
  for await (const row of rows) {
    batch.push(row);
    answers += row.answers.length;
    if (answers < ANSWERS_AT_ONCE) continue;
    yield batch;
    batch = [];
    answers = 0;
  }
  if (batch.length > 0) yield batch;
}
