import { resolve } from "node:path";
import { answerExample } from "../../data/batches.ts";
import { readRows } from "../../data/readers.ts";
import type { Columns } from "../../data/schemas.ts";
import { type Scorable, scorable } from "../../data/scorable.ts";
import type { Tokenizer } from "../../data/tokenizer.ts";
import type { Model } from "../../nn/models.ts";
import type { Sequence } from "../../rlhf/batch.ts";
import { multiObjectiveScores } from "../../rlhf/multi-objective/model.ts";
import { isPairModel } from "../../rlhf/pairwise/folder.ts";
import { scoreSequences } from "../../rlhf/reward/scores.ts";
import { takeNormalization } from "../../rlhf/rollout.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles, type Files } from "../../runtime/files.ts";
import { openGpu } from "../gpu.ts";
import { contextOf, WORLD, withModels } from "../models/models.ts";
import { ModelOpener } from "../models/opener.ts";
import { isUrl } from "../models/reward-server.ts";
import type { Values } from "../option.ts";
import { scoreOptions } from "../options/score.ts";
import { type Context, defineVerb, Interrupted } from "../verb.ts";

type Options = Values<typeof scoreOptions>;

/** Answers that are scored together. */
const ANSWERS_AT_ONCE = 64;
const SECONDS_BETWEEN_LINES = 5;

export const scoreVerb = defineVerb({
  name: "score",
  summary: "Add a reward model's scores to the rows of a file",
  options: scoreOptions,
  argument: "input_file",
  interruptNote: "\nstopping; nothing is written",
  examples: [
    "webrlhf score answers.jsonl --reward_model_path out/reward --output_file scored.jsonl",
    "webrlhf score responses.jsonl.gz --reward_model_path out/reward --truncation_side left --output_file rewards.jsonl",
  ],
  async run(o, context) {
    const files = await diskFiles();
    const [path, output] = [o.reward_model_path!, o.output_file!];
    if (path === WORLD || isUrl(path)) {
      throw new UserError(`--reward_model_path must be a folder here, not ${path}: score needs a model`);
    }
    if (resolve(output) === resolve(o.input_file!)) {
      throw new UserError(
        `output_file ${output} is the input_file: choose another file, the rows are read while it is written`,
      );
    }
    await openGpu(context.terminal);
    const opener = new ModelOpener(files, o);
    const tokenizer = await opener.tokenizer(path);
    const scorer = await openScorer(files, opener, path, o);
    await withModels(opener.opened, async () => {
      tokenizer.checkFits(scorer.model.config.vocabSize);
      await files.writeFile(output, lines(scorer, tokenizer, o, context));
    });
    context.terminal.line(`${context.label}: ${output}`);
  },
});

interface Scorer {
  model: Model;
  scores(sequences: readonly Sequence[]): Promise<ArrayLike<number>>;
}

/** A reward model, or one of several qualities. */
async function openScorer(files: Files, opener: ModelOpener, path: string, o: Options): Promise<Scorer> {
  if (await isPairModel(files, path)) {
    throw new UserError(`${path} compares answers and cannot score one by itself: use webrlhf annotate`);
  }
  const several = await opener.multiObjective(path);
  if (several) {
    if (o.normalize === "true")
      throw new UserError(`normalize does not apply: ${path} has no statistics of its scores`);
    const { model, head } = several;
    return { model, scores: async (sequences) => (await multiObjectiveScores(model, head, sequences)).scores };
  }
  const model = await opener.frozenScorer(path);
  takeNormalization(model, o.normalize === "auto" ? {} : { normalize: o.normalize === "true" });
  return { model, scores: (sequences) => scoreSequences(model, sequences) };
}

/** The rows with their scores, in their order, as lines of JSON. */
async function* lines(
  { model, scores: score }: Scorer,
  tokenizer: Tokenizer,
  o: Options,
  { terminal, signal, label }: Context,
): AsyncGenerator<Uint8Array> {
  const encoder = new TextEncoder();
  let rows = 0;
  let shown = performance.now();
  for await (const batch of batches(rowsOf(o, tokenizer))) {
    if (signal.aborted) throw new Interrupted("stopped; nothing was written");
    const answers = batch.flatMap((row) => row.answers);
    const prepare = { maxLength: contextOf(model, o.max_length), truncationSide: o.truncation_side };
    const scores = Array.from(await score(answers.map((answer) => answerExample(answer, tokenizer, prepare))));
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

async function* rowsOf(o: Options, tokenizer: Tokenizer): AsyncGenerator<Scorable> {
  let rows = 0;
  const file = o.input_file!;
  for await (const { value, where } of readRows(file)) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new UserError(
        `${where}: a row must be an object with columns, this is ${JSON.stringify(value).slice(0, 60)}`,
      );
    }
    rows++;
    yield scorable(value as Columns, where, { template: o.template, chat: tokenizer.chatTemplate });
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
