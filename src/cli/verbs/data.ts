/** `webrlhf data`: shows, describes and writes datasets. */
import { type Description, describe, labelBalance, type Spread } from "../../data/describe.ts";
import { columnsToWrite, containerText, type WrittenType } from "../../data/lmflow-write.ts";
import { isConversation } from "../../data/messages.ts";
import { lastOfEach, splitTrainTest, textsOf, wrongLength } from "../../data/raw/filters.ts";
import { allDatasets, findDataset, streamSamples } from "../../data/raw/registry.ts";
import type { RawSample } from "../../data/raw/sample.ts";
import { invalidPair } from "../../data/raw/selection.ts";
import { asKind, type Columns, type Entry, mustBe, mustBeSafetyPair } from "../../data/readers.ts";
import { Reasons } from "../../data/reasons.ts";
import type { RecordKind } from "../../data/records.ts";
import type { Tokenizer } from "../../data/tokenizer.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles, type Files } from "../../runtime/files.ts";
import { DatasetReader, partsOf, type Wanted } from "../data/dataset-reader.ts";
import { openTokenizer } from "../models/models.ts";
import type { Values } from "../option.ts";
import { dataOptions } from "../options/data.ts";
import type { Terminal } from "../terminal.ts";
import { defineVerb } from "../verb.ts";

type Options = Values<typeof dataOptions>;

export const dataVerb = defineVerb({
  name: "data",
  summary: "Show, describe, prepare and convert datasets",
  options: dataOptions,
  argument: "action",
  interruptNote: null,
  examples: [
    "webrlhf data list",
    "webrlhf data describe --dataset_name pairs.jsonl.gz --tokenizer_name_or_path my-model",
    "webrlhf data prepare --dataset_name PKU-SafeRLHF/train:0.5,mine:200/-1:pairs.jsonl --output_dir data/mix",
    "webrlhf data convert --dataset_name pairs.jsonl --to paired_text_to_text --output_dir data/lmflow",
  ],
  async run(o, { terminal }) {
    if (o.action === "list") return list(terminal);
    if (!o.dataset_name) throw new UserError(`data ${o.action} needs --dataset_name`);
    if (o.dataset_name.startsWith("builtin:")) {
      throw new UserError(`${o.dataset_name} is made up anew by each run; there is nothing in it to read or to write`);
    }
    checkForm(o);
    const files = await diskFiles();
    const path = o.tokenizer_name_or_path;
    const tokenizer = path === null ? null : await openTokenizer(files, path, o.chat_template_path);
    if (!tokenizer && (o.max_tokens !== null || o.max_prompt_tokens !== null)) {
      throw new UserError("max_tokens and max_prompt_tokens count tokens: pass --tokenizer_name_or_path");
    }
    if (!tokenizer && o.chat_template_path) throw new UserError("chat_template_path needs --tokenizer_name_or_path");
    const entries = filtered(await read(o, tokenizer, terminal), o, tokenizer, terminal);
    if (o.action === "describe") await show(entries, o, tokenizer, files, terminal);
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

async function read(o: Options, tokenizer: Tokenizer | null, terminal: Terminal): Promise<Entry[]> {
  const options = { template: o.template, chat: tokenizer?.chatTemplate ?? null };
  const reader = new DatasetReader(o, options, terminal);
  const source = { name: o.dataset_name!, split: o.dataset_train_split, limit: o.max_train_samples ?? undefined };
  const kind = kindOf[o.consumer];
  const entries = await reader.entries(source, o.consumer === "auto" ? "pairs" : (o.consumer satisfies Wanted));
  if (o.consumer === "safety") return entries.map(({ row, record }) => ({ row, record: mustBeSafetyPair(record) }));
  return kind ? entries.map(({ row, record }) => ({ row, record: mustBe(record, kind) })) : entries;
}

function filtered(entries: Entry[], o: Options, tokenizer: Tokenizer | null, terminal: Terminal): Entry[] {
  const dropped = new Reasons();
  const tokens = (text: string) => tokenizer!.encode(text).length;
  let kept = entries.filter(({ row, record }) => {
    const reason =
      (o.valid_pairs ? unsound(row, record) : null) ??
      wrongLength(record, { min: o.min_length, max: o.max_length ?? Infinity }, (text) => text.length) ??
      (o.max_tokens === null ? null : wrongLength(record, { max: o.max_tokens }, tokens)) ??
      (o.max_prompt_tokens === null ? null : wrongLength(record, { maxPrompt: o.max_prompt_tokens }, tokens));
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
    throw new UserError(`${o.dataset_name}: the filters leave none of ${entries.length} records: ${reasons}`);
  if (reasons) terminal.line(`${kept.length} of ${entries.length} records kept; left out: ${reasons}`);
  return kept;
}

const promptOf = (record: Entry["record"]): string => {
  const { prompt, text } = textsOf(record);
  return prompt ?? text;
};

/** Why a pair is none; one that is not two whole conversations has a prompt alike by the way it is read. */
function unsound(row: Entry["row"], record: Entry["record"]): string | null {
  if (record.kind !== "preference") return null;
  const { chosen, rejected } = row.value as Columns;
  if (isConversation(chosen) && isConversation(rejected)) return invalidPair(chosen, rejected);
  const answers = [record.chosen, record.rejected];
  if (answers.some((answer) => answer.trim() === "")) return "an answer is empty";
  if (answers.some((answer) => /\n\n(Human|Assistant):/.test(answer))) return "an answer holds further turns";
  return record.prompt.trim() === "" ? "the prompt is empty" : null;
}

async function write(entries: Entry[], o: Options, files: Files, terminal: Terminal): Promise<void> {
  const { train, test } =
    o.test_size > 0
      ? splitTrainTest(entries, { ratio: o.test_size, seed: o.seed, keyOf: ({ record }) => promptOf(record) })
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
  await files.writeFiles(o.output_dir, written);
  for (const name of Object.keys(written)) {
    terminal.line(`${(name.startsWith("train") ? train : test).length} records in ${o.output_dir}/${name}`);
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
  terminal: Terminal,
): Promise<void> {
  const found = describe(entries, tokenizer ? (text) => tokenizer.encode(text).length : undefined);
  const labels = await rawLabels(o, terminal);
  const description: Description = { ...found, columns: { ...labels, ...found.columns } };
  for (const line of linesOf(description)) terminal.result(line);
  for (const { record } of entries.slice(0, o.num_rows)) {
    terminal.result(`\n${record.where ?? "a record"}`);
    for (const [name, text] of Object.entries(textsOf(record))) terminal.result(`  ${name}: ${shortened(text)}`);
  }
  if (o.output_file !== null) await files.writeFile(o.output_file, `${JSON.stringify(description, null, 2)}\n`);
}

/** The labels of registered datasets, before any consumer has turned pairs the right way round. */
async function rawLabels(o: Options, terminal: Terminal): Promise<Description["columns"]> {
  const parts = await partsOf(o.dataset_name!);
  if (parts.length !== 1 || !findDataset(parts[0].name)) return {};
  const samples: RawSample[] = [];
  const { locate } = new DatasetReader(o, {}, terminal);
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

function linesOf({ records, kinds, characters, tokens, duplicates, longer, columns }: Description): string[] {
  const percent = (n: number) => `${((100 * n) / records).toFixed(1)} %`;
  const counts = Object.entries(kinds).map(([kind, count]) => `${kind} ${count}`);
  const lines = [`records     ${records} (${counts.join(", ")})`];
  lines.push(`duplicates  ${duplicates.prompts} repeat a prompt, ${duplicates.records} a whole record`);
  if (longer) {
    const { chosen, rejected, equal } = longer;
    lines.push(`longer      chosen ${percent(chosen)}, rejected ${percent(rejected)}, neither ${percent(equal)}`);
  }
  const table = (title: string, spreads: Record<string, Spread>) => {
    const numbers = ["min", "mean", "median", "p95", "max"] as const;
    lines.push("", title.padEnd(12) + numbers.map((name) => name.padStart(9)).join(""));
    for (const [name, spread] of Object.entries(spreads)) {
      lines.push(name.padEnd(12) + numbers.map((key) => rounded(spread[key]).padStart(9)).join(""));
    }
  };
  table("characters", characters);
  if (tokens) table("tokens", tokens);
  for (const [column, values] of Object.entries(columns)) {
    const total = Object.values(values).reduce((sum, n) => sum + n, 0);
    const shares = Object.entries(values).map(([value, n]) => `${value} ${n} (${((100 * n) / total).toFixed(1)} %)`);
    lines.push("", `${column}: ${shares.join(", ")}`);
  }
  return lines;
}

const rounded = (n: number) => (Number.isInteger(n) ? String(n) : n.toFixed(1));
