/** `webrlhf data`: shows, describes and writes datasets. */

import type { Wanted } from "../../data/dataset.ts";
import { type Description, describe, descriptionLines, labelBalance } from "../../data/describe.ts";
import { columnsToWrite, containerText, type WrittenType, writtenTypes } from "../../data/lmflow-write.ts";
import { madeDataset, madeRecords } from "../../data/made.ts";
import { lastOfEach, splitTrainTest, textsOf, wrongLength } from "../../data/raw/filters.ts";
import { allDatasets, findDataset, streamSamples } from "../../data/raw/registry.ts";
import type { RawSample } from "../../data/raw/sample.ts";
import { unsoundPair } from "../../data/raw/selection.ts";
import { asKind, type Entry, mustBe, mustBeSafetyPair } from "../../data/readers.ts";
import { Reasons } from "../../data/reasons.ts";
import type { RecordKind } from "../../data/records.ts";
import type { Tokenizer } from "../../data/tokenizer.ts";
import { DatasetReader, partsOf } from "../../open/dataset-reader.ts";
import {
  datasetSettings,
  hubSettings,
  overwriting,
  splitSettings,
  templateSettings,
  tokenizerSettings,
} from "../../open/settings.ts";
import { openTokenizer } from "../../open/tokenizer.ts";
import { data, logging, seed } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles, type Files } from "../../runtime/files.ts";
import { effective, group, settings, where } from "../../settings/index.ts";
import { surroundings } from "../surroundings.ts";
import type { Terminal } from "../terminal.ts";
import { type Context, defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

const filters = group("Filters");
const output = group("Output");

const dataSettings = settings("data", {
  action: data.choice(
    ["list", "describe", "prepare", "convert"],
    "describe",
    "Show the registered names, what is in a dataset, write it for training, or write it in another form",
  ),
  ...effective(where("action", "describe", "prepare", "convert"), {
    datasetName: data.mixture(
      null,
      "What to read: a file, a dataset folder, org/name, a registered name, a module of your own (.ts, .js), or a mixture",
      { aka: ["dataset"] },
    ),
    ...splitSettings,
    ...hubSettings,
    maxTrainSamples: data.int(null, "Use this many records; builtin:world makes this many, 2048 by default", {
      min: 1,
    }),
    consumer: data.choice(
      ["auto", "supervised", "chosen", "preference", "safety", "prompt"],
      "auto",
      "What is taken of a sample; auto takes pairs where there are two answers",
    ),
    template: datasetSettings.template,
    ...tokenizerSettings,
    ...templateSettings,
    deduplicate: filters.choice(
      ["none", "prompt", "record"],
      "none",
      "Keep the last of records with the same prompt, or of the same records",
    ),
    validPairs: filters.bool(
      false,
      "Leave out pairs whose answers are empty or hold turns of their own, and conversations that are no valid pair (RLHFlow)",
    ),
    minLength: filters.int(0, "Leave out records of fewer characters, prompt and longer answer together", { min: 0 }),
    maxLength: filters.int(null, "Leave out records of more characters", { min: 1 }),
    maxTokens: filters.int(null, "Leave out records of more tokens; needs tokenizer_name_or_path", { min: 1 }),
    maxPromptTokens: filters.int(null, "Leave out records whose prompt has more tokens", { min: 1 }),
    seed,
    to: output.choice(
      ["jsonl", ...writtenTypes],
      "jsonl",
      "Form that convert writes: JSON lines, or LMFlow's of a type",
    ),
    marks: output.choice(
      ["keep", "lmflow"],
      "keep",
      'How LMFlow\'s texts mark who speaks: as they are, or as "###Human:" and "###Assistant:"',
    ),
  }),
  ...effective(where("action", "prepare", "convert"), {
    testSize: data.float(0, "Part of the prompts that is written apart as test data", { min: 0, max: 0.99 }),
    outputDir: logging.path("data", "Folder for what prepare and convert write"),
    ...overwriting,
  }),
  ...effective(where("action", "describe"), {
    numRows: output.int(3, "Records to show", { min: 0 }),
    outputFile: output.text(null, "File for describe's figures as JSON; default: none"),
  }),
});

type Options = ReturnType<typeof dataSettings>;

export const dataVerb = defineVerb({
  name: "data",
  summary: summaries.data,
  settings: dataSettings,
  argument: ["action", "datasetName"],
  interruptNote: null,
  examples: [
    "webrlhf data list",
    "webrlhf data prepare --dataset_name builtin:world --output_dir data/world",
    "webrlhf data describe --dataset_name pairs.jsonl.gz --tokenizer_name_or_path my-model",
    "webrlhf data prepare --dataset_name PKU-SafeRLHF/train:0.5,mine:200/-1:pairs.jsonl --output_dir data/mix",
    "webrlhf data convert --dataset_name pairs.jsonl --to paired_text_to_text --output_dir data/lmflow",
  ],
  product({ action, outputDir, outputFile }) {
    if (action === "prepare" || action === "convert") return { folder: outputDir };
    return action === "describe" && outputFile !== null ? { file: outputFile } : null;
  },
  async run(o, context) {
    const { terminal } = context;
    if (o.action === "list") return list(terminal);
    if (!o.datasetName) throw new UserError(`data ${o.action} needs --dataset_name`);
    checkForm(o);
    const files = await diskFiles();
    const path = o.tokenizerNameOrPath;
    const tokenizer = path === null ? null : await openTokenizer(path, { ...o, ...surroundings(context) });
    if (!tokenizer && (o.maxTokens !== null || o.maxPromptTokens !== null)) {
      throw new UserError("max_tokens and max_prompt_tokens count tokens: pass --tokenizer_name_or_path");
    }
    if (!tokenizer && o.chatTemplatePath) throw new UserError("chat_template_path needs --tokenizer_name_or_path");
    const entries = filtered(await read(o, tokenizer, context), o, tokenizer, terminal);
    if (o.action === "describe") await show(entries, o, tokenizer, files, context);
    else await write(entries, o, files, terminal);
  },
});

/** Only convert writes other forms than JSON lines, and only text has marks. */
function checkForm({ action, to, marks }: Options): void {
  if (to !== "jsonl" && action !== "convert") throw new UserError(`--to ${to} is what convert writes, not ${action}`);
  const marked: readonly Options["to"][] = ["text_only", "text2text", "paired_text_to_text"];
  if (marks !== "keep" && !(action === "convert" && marked.includes(to))) {
    throw new UserError(`--marks ${marks} is for what convert writes as ${marked.join(", ")}`);
  }
}

function list(terminal: Terminal): void {
  const width = Math.max(...allDatasets().map(({ name }) => name.length));
  for (const { name, aliases = [], about = "" } of allDatasets()) {
    const also = aliases.length > 0 ? ` (also ${aliases.join(", ")})` : "";
    terminal.result(`${name.padEnd(width)}  ${about}${also}`);
  }
}

const kindOf: Partial<Record<Options["consumer"], RecordKind>> = {
  supervised: "prompt_completion",
  chosen: "prompt_completion",
  preference: "preference",
  prompt: "prompt",
};

async function read(o: Options, tokenizer: Tokenizer | null, context: Context): Promise<Entry[]> {
  const made = madeDataset(o.datasetName as string);
  if (made) {
    if (o.consumer === "safety") throw new UserError(`${o.datasetName} says nothing of safety: leave --consumer out`);
    const kind = o.consumer === "auto" ? "preference" : o.consumer;
    return madeRecords(made, kind, { n: o.maxTrainSamples ?? undefined, seed: o.seed }).map((record, i) => {
      const where = `${o.datasetName}:${i}`;
      return { row: { value: textsOf(record), where }, record: { ...record, where } };
    });
  }
  const style = { template: o.template, chat: tokenizer?.chatTemplate ?? null };
  const reader = new DatasetReader({ ...o, ...surroundings(context) });
  const part = { name: o.datasetName as string, split: o.datasetTrainSplit, limit: o.maxTrainSamples ?? undefined };
  const kind = kindOf[o.consumer];
  const entries = await reader.entries(part, o.consumer === "auto" ? "pairs" : (o.consumer satisfies Wanted), style);
  if (o.consumer === "safety") return entries.map(({ row, record }) => ({ row, record: mustBeSafetyPair(record) }));
  return kind ? entries.map(({ row, record }) => ({ row, record: mustBe(record, kind) })) : entries;
}

function filtered(entries: Entry[], o: Options, tokenizer: Tokenizer | null, terminal: Terminal): Entry[] {
  const dropped = new Reasons();
  const tokens = (text: string) => tokenizer!.encode(text).length;
  let kept = entries.filter(({ row, record }) => {
    const reason =
      (o.validPairs ? unsoundPair({ row, record }) : null) ??
      wrongLength(record, { min: o.minLength, max: o.maxLength ?? Infinity }, (text) => text.length) ??
      (o.maxTokens === null ? null : wrongLength(record, { max: o.maxTokens }, tokens)) ??
      (o.maxPromptTokens === null ? null : wrongLength(record, { maxPrompt: o.maxPromptTokens }, tokens));
    if (reason !== null) dropped.add(reason);
    return reason === null;
  });
  if (o.deduplicate !== "none") {
    const before = kept.length;
    kept = lastOfEach(kept, ({ record }) =>
      o.deduplicate === "prompt" ? promptOf(record) : JSON.stringify(textsOf(record)),
    );
    dropped.add(`another one has the same ${o.deduplicate === "prompt" ? "prompt" : "text"}`, before - kept.length);
  }
  const reasons = `${dropped}`;
  if (kept.length === 0)
    throw new UserError(`${o.datasetName}: the filters leave none of ${entries.length} records: ${reasons}`);
  if (reasons) terminal.line(`${kept.length} of ${entries.length} records kept; left out: ${reasons}`);
  return kept;
}

const promptOf = (record: Entry["record"]): string => {
  const { prompt, text } = textsOf(record);
  return prompt ?? text;
};

async function write(entries: Entry[], o: Options, files: Files, terminal: Terminal): Promise<void> {
  const { train, test } =
    o.testSize > 0
      ? splitTrainTest(entries, { ratio: o.testSize, seed: o.seed, keyOf: ({ record }) => promptOf(record) })
      : { train: entries, test: [] };
  const written: Record<string, string> = {};
  for (const [name, part] of Object.entries({ train, test })) {
    if (part.length === 0) continue;
    if (o.action === "convert" && o.to !== "jsonl") {
      written[`${name}/${name}.json`] = containerText(part, o.to as WrittenType, o.marks);
    } else {
      const lines = part.map((entry) => JSON.stringify(columnsToWrite(entry, isConverted(entry, o))));
      written[`${name}.jsonl`] = `${lines.join("\n")}\n`;
    }
  }
  await files.writeFiles(o.outputDir, written);
  for (const name of Object.keys(written)) {
    terminal.line(`${(name.startsWith("train") ? train : test).length} records in ${o.outputDir}/${name}`);
  }
}

/** Whether a row has to be written as what was made of it, not as it was. */
function isConverted({ row, record }: Entry, o: Options): boolean {
  if (o.action === "convert") return true;
  const { value } = row as { value: Record<string, unknown> };
  // Of a pair's row that was read as a prompt or an answer only that is left.
  return asKind(record, "preference") === undefined && value.chosen !== undefined;
}

async function show(
  entries: Entry[],
  o: Options,
  tokenizer: Tokenizer | null,
  files: Files,
  context: Context,
): Promise<void> {
  const { terminal } = context;
  const found = describe(entries, tokenizer ? (text) => tokenizer.encode(text).length : undefined);
  const labels = await rawLabels(o, context);
  const description: Description = { ...found, columns: { ...labels, ...found.columns } };
  for (const line of descriptionLines(description)) terminal.result(line);
  for (const { record } of entries.slice(0, o.numRows)) {
    terminal.result(`\n${record.where ?? "a record"}`);
    for (const [name, text] of Object.entries(textsOf(record))) terminal.result(`  ${name}: ${shortened(text)}`);
  }
  if (o.outputFile !== null) await files.writeFile(o.outputFile, `${JSON.stringify(description, null, 2)}\n`);
}

/** The labels of registered datasets, before any consumer has turned pairs the right way round. */
async function rawLabels(o: Options, context: Context): Promise<Description["columns"]> {
  const parts = await partsOf(o.datasetName as string, surroundings(context));
  if (parts.length !== 1 || !findDataset(parts[0].name)) return {};
  const samples: RawSample[] = [];
  const { locate } = new DatasetReader({ ...o, ...surroundings(context) });
  const { name, path } = parts[0];
  for await (const { better, safer, is_safe, is_other_safe } of streamSamples(name, { path, locate })) {
    samples.push({ better, safer, is_safe, is_other_safe } as RawSample);
  }
  return labelBalance(samples);
}

const shortened = (text: string) => {
  const line = JSON.stringify(text).slice(1, -1);
  return line.length > 200 ? `${line.slice(0, 150)} ... ${line.slice(-45)}` : line;
};
