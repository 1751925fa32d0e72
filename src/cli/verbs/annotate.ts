/** `webrlhf annotate`: rewards for files of responses. */
import { sftExample } from "../../data/batches.ts";
import type { PromptCompletion } from "../../data/records.ts";
import { schemaOf } from "../../data/schemas.ts";
import { lmflowContainer, readSampledRows, rowLine, type SampledRow, type ScoredRow } from "../../data/scored-rows.ts";
import type { Tokenizer } from "../../data/tokenizer.ts";
import { Model } from "../../nn/models.ts";
import { foreignNames } from "../../open/foreign.ts";
import { type Judge, judgeElsewhere, openJudge } from "../../open/judge.ts";
import { withModels } from "../../open/models.ts";
import { ModelOpener } from "../../open/opener.ts";
import { isWeightless } from "../../open/rewards.ts";
import { judgeSettings, openingSettings } from "../../open/settings.ts";
import { type Attempt, persisting } from "../../open/surviving.ts";
import { contextOf } from "../../rlhf/examples.ts";
import { annotateRows, rewardStatistics } from "../../rlhf/iterate/annotate.ts";
import type { Response } from "../../rlhf/sampler.ts";
import { data, logging } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { group, settings } from "../../settings/index.ts";
import { askingSettings } from "../cluster-settings.ts";
import { openGpu } from "../gpu.ts";
import { scoringElsewhere } from "../join-cluster.ts";
import { short } from "../progress.ts";
import { surroundings } from "../surroundings.ts";
import { Unfinished } from "../unfinished.ts";
import { type Context, defineVerb, Interrupted } from "../verb.ts";
import { summaries } from "./summaries.ts";

const judging = group("Judge");

const annotateTable = {
  inputFile: data.list(null, "Files of responses, such as the shards of generate; they are joined in this order", {
    required: true,
    aka: ["dataset_name_or_path"],
  }),
  ...judgeSettings,
  ...openingSettings,
  maxLength: data.int(null, "Cut prompt plus response to this many tokens; default: the model's context", { min: 2 }),
  rowsAtOnce: judging.int(32, "Prompts scored, and written, together", { min: 1 }),
  outputFile: logging.path(null, "Where the rows with their rewards go", { required: true }),
  outputFormat: logging.choice(
    ["jsonl", "lmflow"],
    "jsonl",
    "Online-RLHF's JSON lines, or LMFlow's text_to_scored_textlist",
  ),
  recordFile: logging.path(null, "Append the mean reward, a tab and the mean best reward to this file", {
    aka: ["record_dir"],
  }),
  resume: logging.bool(true, "Go on where an unfinished output_file of the same input stopped"),
  ...askingSettings("score"),
};

const annotateSettings = settings("annotate", annotateTable, undefined, foreignNames);

export const annotateVerb = defineVerb({
  name: "annotate",
  summary: summaries.annotate,
  settings: annotateSettings,
  examples: [
    "webrlhf annotate --input_file responses_0.jsonl,responses_1.jsonl --reward_model_path out/reward --output_file rewards.jsonl",
    "webrlhf annotate --input_file responses.jsonl --reward_model_path http://127.0.0.1:9000/score --output_file rewards.jsonl",
    "webrlhf annotate --input_file responses.jsonl --reward_model_path judge:helpful.yaml --output_file rewards.jsonl",
  ],
  interruptNote: "stopping after the rows under way; the same command goes on from there",
  product: (o) => ({ file: o.outputFile as string }),
  async run(o, context) {
    const { terminal, signal } = context;
    const files = await diskFiles();
    const rows = await readAll(o.inputFile as string[]);
    const path = o.rewardModelPath as string;
    const isModel = !isWeightless(path);
    if (isModel) await openGpu(terminal);
    if (!isModel && o.maxLength !== null) {
      throw new UserError(`max_length does not apply: ${path} reads texts, not tokens`);
    }
    const scoreAll = async ({ again, progress: done }: Attempt) => {
      const opener = new ModelOpener({ ...o, ...surroundings(context) });
      const closers: (() => Promise<void>)[] = [];
      const elsewhere = scoringElsewhere(o, { path: o.outputFile, files, terminal, signal }, closers);
      const judged = withModels(opener.opened, async () => {
        const tokenizer = isModel ? await opener.tokenizer(path) : null;
        let maxLength = o.maxLength ?? Number.POSITIVE_INFINITY;
        const { judge: judgeBy, spent }: Judge = elsewhere
          ? await judgeElsewhere(opener, path, elsewhere)
          : await openJudge(opener, path, { ...o, ranking: o.preferenceRanking, signal });
        opener.refuseUnusedBase();
        const judge = judgeBy((row, k) => sequenceOf(row, k, tokenizer, maxLength));
        const model = opener.opened.find((one): one is Model => one instanceof Model);
        if (model) maxLength = contextOf(model, o);
        const resume = o.resume || again;
        const wanted = { decidedBy: decisive(o, rows), resume, prompts: rows.length, done: "scored" };
        const output = await Unfinished.open<number[]>({ ...wanted, files, path: o.outputFile as string }, terminal);
        let told = output.log.rows.size;
        const progress = (scored: number, total: number) => {
          done();
          if (scored - told < total / 10) return;
          told = scored;
          terminal.line(`scored ${scored} of ${total} prompts`);
        };
        const partsAtOnce = elsewhere ? PARTS_IN_CLUSTER : 1;
        const options = { rowsAtOnce: o.rowsAtOnce, partsAtOnce, progress, signal };
        const scored = await annotateRows(judge, rows, output.log, options).catch(async (error) => {
          throw await output.after(error);
        });
        if (!scored) throw new Interrupted(`stopped; ${output.left}`);
        await write(scored, output, o, tokenizer, context);
        if (spent) terminal.line(spent());
      });
      await judged.finally(() => Promise.all(closers.map((close) => close())));
    };
    await persisting(scoreAll, (text) => terminal.line(text), signal);
  },
});

type Options = ReturnType<typeof annotateSettings>;

/** Jobs that a cluster is asked for at once, of `rows_at_once` prompts each. */
const PARTS_IN_CLUSTER = 64;

/** Writes the rows with their rewards, and says what they amount to. */
async function write(
  scored: readonly ScoredRow[],
  output: Unfinished<number[]>,
  o: Options,
  tokenizer: Tokenizer | null,
  { terminal }: Context,
): Promise<void> {
  const content =
    o.outputFormat === "jsonl"
      ? scored.map((row) => `${rowLine(row)}\n`).join("")
      : `${JSON.stringify(lmflowContainer(scored, (row) => textsOf(row, "", tokenizer).prompt))}\n`;
  await output.finish(content);
  const s = rewardStatistics(scored);
  terminal.line(
    `${s.kept} of ${s.total} prompts have all ${s.samples} responses; of these: mean reward ${short(s.mean_reward)}, ` +
      `mean best reward ${short(s.top1_reward)}, ${short(s.mean_characters)} characters`,
  );
  if (o.recordFile === null) return;
  await (await diskFiles()).append(o.recordFile, `${s.mean_reward}\t${s.top1_reward}\n`);
}

/** All rows of the files, one after the other. Throws `UserError` where none has a response. */
export async function readAll(paths: readonly string[]): Promise<SampledRow[]> {
  const rows: SampledRow[] = [];
  for (const path of paths) for await (const row of readSampledRows(path)) rows.push(row);
  if (rows.every(({ responses }) => responses.length === 0)) {
    throw new UserError(`${paths.join(", ")}: no row has a response`);
  }
  return rows;
}

/** What decides the rewards: the options but those of how the work is done, and the rows. */
function* decisive(o: Options, rows: readonly SampledRow[]) {
  yield [o.rewardModelPath, o.preferenceRanking, o.rewardServerFormat, o.baseModelNameOrPath];
  yield [o.dtype, o.loadIn8bit, o.loadIn4bit, o.rewardModelDtype, o.maxLength, o.chatTemplatePath];
  for (const { prompt, responses, ended } of rows) yield [prompt, responses, ended];
}

/** Prompt and response as texts, conversations by the judge's own template where it has one. */
function textsOf(row: SampledRow, response: string, tokenizer: Tokenizer | null): PromptCompletion {
  const { prompt, where = "a row" } = row;
  const completion = typeof prompt === "string" ? response : [{ role: "assistant", content: response }];
  const columns = { prompt, completion };
  const record = schemaOf(columns, where).read(columns, where, { chat: tokenizer?.chatTemplate ?? null });
  return record as PromptCompletion;
}

/** A response as the judge's tokenizer has it; it ends with the end token, unless the row says that it was cut off. */
function sequenceOf(row: SampledRow, k: number, tokenizer: Tokenizer | null, maxLength: number): Response {
  const texts = textsOf(row, row.responses[k], tokenizer);
  const ended = row.ended?.[k] ?? true;
  const found = tokenizer
    ? sftExample(texts, tokenizer, { maxLength, appendEos: ended })
    : { ids: new Uint32Array(), promptLength: 0 };
  return { ...found, prompt: 0, sample: k, promptText: texts.prompt, text: row.responses[k], ended };
}
