/** Datasets as options name them, down to token ids. */
import {
  type PrepareOptions,
  PromptTooLongError,
  preferenceExample,
  prepareAll,
  promptExample,
  sftExample,
  textExamples,
} from "../../data/batches.ts";
import { chosenColumns, ratedRows } from "../../data/rated.ts";
import type { Consumer } from "../../data/raw/consumers.ts";
import { lastOfEach } from "../../data/raw/filters.ts";
import { asKind, mustBe, splitRecords } from "../../data/readers.ts";
import type { DataRecord, Labelled, Preference, PromptOnly } from "../../data/records.ts";
import type { Tokenizer } from "../../data/tokenizer.ts";
import { cyclePreferences } from "../../data/world/cycle.ts";
import { DOMAIN_ATTRIBUTES, domainPreferences, domainRatings } from "../../data/world/domains.ts";
import { type WorldSplit, worldPreferences, worldPrompts, worldSftRecords } from "../../data/world.ts";
import type { Sequence } from "../../rlhf/batch.ts";
import { type AnyPair, rrmPairs } from "../../rlhf/pairwise/augment.ts";
import { contextTemplate, type PairWriter } from "../../rlhf/pairwise/template.ts";
import { pairExample, sideOf } from "../../rlhf/pairwise/train.ts";
import type { Prompt } from "../../rlhf/rollout.ts";
import { UserError } from "../../runtime/errors.ts";
import { WORLD } from "../models/models.ts";
import type { Terminal } from "../terminal.ts";
import { DatasetReader, type Source } from "./dataset-reader.ts";
import type { SourceChoice } from "./dataset-source.ts";

/** The part of the options that says which records to use. */
export interface DataChoice extends SourceChoice {
  readonly dataset_name: string;
  readonly dataset_train_split?: string;
  readonly dataset_test_split?: string | null;
  readonly test_size: number;
  readonly template: "auto" | "plain" | "turns" | "chat";
  readonly long_prompts: "error" | "skip";
  readonly seed: number;
  readonly max_train_samples?: number | null;
  readonly eval_dataset_name?: string | null;
  readonly max_eval_samples?: number;
}

interface Parts<R> {
  readonly train: R[];
  readonly test: R[];
}

const WORLD_RECORDS = 2048;
/** Data that are made by seed instead of read; their prompts are the world's. */
export const CYCLE = "builtin:cycle";
const DOMAINS = "builtin:domains";
const isMade = (name: string): boolean => [WORLD, CYCLE, DOMAINS].includes(name);
/** One split per dataset: what one verb holds out, no other verb trains on, whatever its seed. */
const SPLIT_SEED = 0;

/**
 * Held-out data to evaluate on: the dataset's test part where it has one, else all of it.
 * @param limit the most records to use; null takes all
 */
export const heldOut = <C extends DataChoice>(
  choice: C,
  limit: number | null,
): { choice: C; part: "train" | "test" } => ({
  choice: { ...choice, max_train_samples: limit, max_eval_samples: limit ?? Number.POSITIVE_INFINITY },
  part: isMade(choice.dataset_name) || choice.test_size > 0 ? "test" : "train",
});

/** Sequences for supervised fine-tuning. */
export async function sftData(
  choice: DataChoice,
  tokenizer: Tokenizer,
  prepare: PrepareOptions & { all: boolean; allAnswers?: boolean },
  terminal: Terminal,
) {
  const reader = readerFor(choice, tokenizer, terminal, prepare.allAnswers ?? false);
  const world = (n: number, split: WorldSplit, name: string): DataRecord[] =>
    name === WORLD ? worldSftRecords(n, choice.seed, split) : madePairs(n, split, name, choice.seed);
  const { train, test } = await parts<DataRecord>(choice, world, (source) => reader.all(source));
  const examples = (records: readonly DataRecord[]): Sequence[] =>
    prepared(
      records,
      (record) => {
        const pair = record.kind === "text" ? undefined : asKind(record, "prompt_completion");
        if (pair) return [sftExample(pair, tokenizer, prepare)];
        if (record.kind === "text") return textExamples(record, tokenizer, prepare);
        throw new UserError(`${record.where}: a prompt alone holds nothing to learn; completions or text are needed`);
      },
      choice,
      terminal,
    )
      .flat()
      .map((sequence) => (prepare.all ? { ids: sequence.ids, promptLength: 0 } : sequence));
  return { train: examples(train), eval: examples(test) };
}

/** Tokenised preference pairs, with the records they come from. */
export async function pairData(
  choice: DataChoice,
  tokenizer: Tokenizer,
  prepare: PrepareOptions,
  terminal: Terminal,
  consumer: Consumer = "preference",
) {
  const { train, test } = await pairRecords(choice, tokenizer, terminal, consumer);
  const pair = (record: Preference) => ({ ...preferenceExample(record, tokenizer, prepare), record });
  const examples = (records: readonly Preference[]) => prepared(records, pair, choice, terminal);
  return { train: examples(train), eval: examples(test) };
}

/** Tokenised answers with labels; of a preference pair, the chosen answer is a good one and the rejected one a bad one. */
export async function labelledData(
  choice: DataChoice,
  tokenizer: Tokenizer,
  prepare: PrepareOptions,
  terminal: Terminal,
) {
  const reader = readerFor(choice, tokenizer, terminal);
  const made = (n: number, split: WorldSplit, name: string): DataRecord[] => madePairs(n, split, name, choice.seed);
  const { train, test } = await parts<DataRecord>(choice, made, (source) => reader.all(source, "preference"));
  const labelled = (records: readonly DataRecord[]) =>
    prepared(
      records.flatMap(labelledRecords),
      (record) => ({
        ...sftExample({ ...record, kind: "prompt_completion" }, tokenizer, prepare),
        label: record.label,
      }),
      choice,
      terminal,
    );
  return { train: labelled(train), eval: labelled(test) };
}

function labelledRecords(record: DataRecord): Labelled[] {
  if (record.kind === "labelled") return [record];
  const { prompt, chosen, rejected, rendered, where } = mustBe(record, "preference");
  const side = (completion: string, label: boolean): Labelled => ({
    kind: "labelled",
    prompt,
    completion,
    label,
    ...(rendered && { rendered }),
    ...(where !== undefined && { where }),
  });
  return [side(chosen, true), side(rejected, false)];
}

/**
 * The same as questions to a pair-preference model, in both orders; which order is learned goes by seed.
 * @param rrm adds `rrmPairs` to what is trained on
 */
export async function questionData(
  choice: DataChoice,
  writer: PairWriter,
  { maxLength, rrm }: { maxLength: number; rrm: boolean },
  terminal: Terminal,
) {
  const chat = writer.template === "letters" ? null : await contextTemplate();
  const as: DataChoice = chat ? { ...choice, template: "chat" } : choice;
  const { train, test } = await pairRecords(as, { chatTemplate: chat }, terminal);
  const pairOf = (record: Preference): AnyPair & { record?: Preference } => {
    const { prompt, chosen, rejected, rendered } = record;
    return { context: rendered ? prompt : writer.context(prompt), chosen, rejected, record };
  };
  const examples = (pairs: readonly (AnyPair & { record?: Preference })[]) =>
    prepared(
      pairs.map((pair, i) => ({ pair, side: sideOf(choice.seed, i) })),
      ({ pair, side }) => {
        const example = pairExample(writer, pair, side);
        const longest = Math.max(...example.orders.map((ids) => ids.length)) + 1;
        if (longest <= maxLength) return { ...example, record: pair.record };
        throw new PromptTooLongError(
          `${pair.record?.where ?? "a pair"}: the question with both answers has ${longest} tokens, more than ` +
            `${maxLength}; shorten or remove it, or use a longer maximum length`,
        );
      },
      choice,
      terminal,
    );
  const pairs = train.map(pairOf);
  return {
    train: examples(rrm ? [...pairs, ...rrmPairs(pairs, choice.seed)] : pairs),
    eval: examples(test.map(pairOf)),
  };
}

function pairRecords(
  choice: DataChoice,
  { chatTemplate }: Pick<Tokenizer, "chatTemplate">,
  terminal: Terminal,
  consumer: Consumer = "preference",
): Promise<Parts<Preference>> {
  const reader = readerFor(choice, { chatTemplate }, terminal);
  const world = (n: number, split: WorldSplit, name: string) => madePairs(n, split, name, choice.seed);
  return parts<Preference>(choice, world, (source) => reader.load(source, "preference", consumer));
}

function madePairs(n: number, split: WorldSplit, name: string, seed: number): Preference[] {
  if (name === CYCLE) return cyclePreferences(n, seed, split);
  return name === DOMAINS ? domainPreferences(n, seed, split) : worldPreferences(n, seed, { split });
}

/**
 * Rated answers as sequences, with their ratings, [answers, attributes], NaN where one is missing.
 * @param choice `attributes`: the columns that are ratings; null takes every column of numbers
 */
export async function ratedData(
  choice: RatedChoice,
  tokenizer: Tokenizer,
  prepare: PrepareOptions,
  terminal: Terminal,
): Promise<{ attributes: string[]; sequences: Sequence[]; labels: Float64Array }> {
  const { dataset_name: name, dataset_train_split: split = "train", max_train_samples: limit } = choice;
  const { attributes, rows } =
    name === DOMAINS
      ? chosenColumns(domainRatings(limit ?? WORLD_RECORDS, choice.seed), DOMAIN_ATTRIBUTES, choice.attributes)
      : ratedRows(
          await readerFor(choice, tokenizer, terminal).entries({ name, split, limit: limit ?? undefined }),
          choice.attributes,
          name,
        );
  const rated = prepared(
    rows,
    (row) => ({ sequence: sftExample(row, tokenizer, prepare), ratings: row.ratings }),
    choice,
    terminal,
  );
  const labels = Float64Array.from(rated.flatMap(({ ratings }) => ratings));
  return { attributes, sequences: rated.map(({ sequence }) => sequence), labels };
}

type RatedChoice = Omit<DataChoice, "test_size"> & { readonly attributes: string[] | null };

/**
 * Prompts that leave room for a response of the given length.
 * @param room.together where prompt and response have a limit together, at which responses are cut: for one token at least
 */
export async function promptData(
  choice: DataChoice,
  part: "train" | "test",
  tokenizer: Tokenizer,
  room: { context: number; response: number; together?: number | null },
  terminal: Terminal,
): Promise<Prompt[]> {
  const world = (n: number, split: "train" | "test") =>
    worldPrompts(n, choice.seed, split).map((prompt): PromptOnly => ({ kind: "prompt", prompt }));
  // Pairs repeat their prompts; a policy answers each once.
  const reader = readerFor(choice, tokenizer, terminal);
  const read = async (source: Source) =>
    lastOfEach(await reader.load({ ...source, limit: undefined }, "prompt"), ({ prompt }) => prompt);
  const found = await parts<PromptOnly>(choice, world, read);
  const { context, response, together = null } = room;
  const limits =
    together !== null && together - 1 < context - response
      ? { maxLength: together }
      : { maxLength: context, answer: response };
  if (context <= response) {
    throw new UserError(
      `responses of ${response} tokens leave no room for a prompt in a context of ${context}; shorten them`,
    );
  }
  const prompt = (record: PromptOnly): Prompt => ({
    text: record.prompt,
    ...(record.messages && { messages: record.messages }),
    ...(record.target !== undefined && { target: record.target }),
    ids: promptExample(record, tokenizer, limits).ids,
  });
  return prepared(found[part], prompt, choice, terminal);
}

/** Texts to learn a tokenizer from. */
export async function textData(
  choice: Pick<DataChoice, "test_size" | "template" | "dataset_train_split"> &
    SourceChoice & { dataset_name: string; max_train_samples: number | null },
  terminal: Terminal,
): Promise<string[]> {
  const { dataset_name: name, test_size: testSize, max_train_samples: limit, dataset_train_split: split } = choice;
  const read = testSize > 0 || limit === null ? undefined : limit;
  const all = await readerFor(choice, null, terminal).all({ name, split: split ?? "train", limit: read });
  const records = testSize > 0 ? splitRecords(all, testSize, SPLIT_SEED).train : all;
  return records.slice(0, limit ?? undefined).flatMap((record) => {
    if (record.kind === "text") return record.text;
    if (record.kind === "prompt") return record.prompt;
    if (record.kind === "prompt_completion" || record.kind === "labelled") return record.prompt + record.completion;
    return [record.prompt + record.chosen, record.prompt + record.rejected];
  });
}

async function parts<R extends DataRecord>(
  choice: DataChoice,
  made: (n: number, split: WorldSplit, name: string) => R[],
  read: (source: Source) => Promise<R[]>,
): Promise<Parts<R>> {
  const { dataset_name: name, eval_dataset_name: evalName, max_eval_samples: evalLimit = 256 } = choice;
  const { dataset_train_split: split = "train", dataset_test_split: testSplit = null } = choice;
  const limit = choice.max_train_samples ?? undefined;
  const trained = isMade(name)
    ? { train: made(limit ?? WORLD_RECORDS, "train", name), test: made(evalLimit, "test", name) }
    : choice.test_size > 0
      ? splitRecords(await read({ name, split }), choice.test_size, SPLIT_SEED)
      : { train: await read({ name, split, limit }), test: [] as R[] };
  const heldOut = evalName ?? (testSplit === null || isMade(name) ? null : name);
  const test = !heldOut
    ? trained.test
    : isMade(heldOut)
      ? made(evalLimit, "test", heldOut)
      : await read({ name: heldOut, split: testSplit ?? (heldOut === name ? "test" : split), limit: evalLimit });
  return { train: trained.train.slice(0, limit), test: test.slice(0, evalLimit) };
}

/** Reads records as the options and the model's tokenizer have them. */
const readerFor = (
  choice: SourceChoice & Pick<DataChoice, "template">,
  tokenizer: Pick<Tokenizer, "chatTemplate"> | null,
  terminal: Terminal,
  allAnswers = false,
): DatasetReader =>
  new DatasetReader(choice, { template: choice.template, chat: tokenizer?.chatTemplate ?? null, allAnswers }, terminal);

function prepared<R, E>(
  records: readonly R[],
  prepare: (record: R) => E,
  choice: Pick<DataChoice, "long_prompts">,
  terminal: Terminal,
): E[] {
  if (records.length === 0) return [];
  const { examples, skipped } = withHint(() => prepareAll(records, prepare, choice.long_prompts));
  if (skipped > 0) terminal.line(`${skipped} of ${records.length} records left out: their prompts are too long`);
  return examples;
}

/** The reader of the message has this program before them, so it may name a flag. */
function withHint<R>(work: () => R): R {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof PromptTooLongError)) throw error;
    throw new UserError(`${error.message}, or leave such records out with --long_prompts skip`, { cause: error });
  }
}
