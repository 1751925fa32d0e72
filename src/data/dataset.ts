/**
 * A dataset down to token ids: which records are trained on, which are held out, and what trainers make of them. Where the
 * records come from (files, the hub, code) is its source's affair.
 */
import { UserError } from "../runtime/errors.ts";
import {
  type PreferenceExample,
  type PrepareOptions,
  PromptTooLongError,
  preferenceExample,
  prepareAll,
  promptExample,
  type SftExample,
  sftExample,
  textExamples,
} from "./batches.ts";
import type { ChatMessage } from "./chat-template.ts";
import { Cuts, counted } from "./counts.ts";
import { labelledRecords } from "./labelled.ts";
import { MADE_RECORDS, type MadeDataset, type MadeSplit, madeDataset } from "./made.ts";
import { chosenColumns, ratedRows } from "./rated.ts";
import type { Consumer } from "./raw/consumers.ts";
import { lastOfEach } from "./raw/filters.ts";
import { asKind, type Entry, mustBe, mustBeConversation, mustBeSafetyPair } from "./readers.ts";
import type { DataRecord, Preference, PromptOnly, RecordKind, RecordOf } from "./records.ts";
import type { Columns, SchemaOptions } from "./schemas.ts";
import { type Split, splitCounted, splitOf } from "./split.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** Choice of a dataset's records, and how they become text. Names are those of the program's options. */
export interface DatasetOptions {
  /** Split of a folder or of a dataset on the hub to train on. Default "train". */
  datasetTrainSplit?: string | undefined;
  /** Split of the held-out data, where it is a folder. Default: none, or "test" with `evalDatasetName`. */
  datasetTestSplit?: string | null | undefined;
  /** Part of the prompts that is held out, from 0 to 0.99: the same part whatever the seed. Default 0. */
  testSize?: number | undefined;
  /** Records to use; made-up data are made in this number. Default: all, or 2048 made-up ones. */
  maxTrainSamples?: number | null | undefined;
  /** Held-out data; default: what `testSize` holds out, or the test part of made-up data. */
  evalDatasetName?: string | null | undefined;
  /** Held-out records to use. Default 256. */
  maxEvalSamples?: number | undefined;
  /** How strings and conversations become text; see `SchemaOptions`. Default "auto". */
  template?: SchemaOptions["template"];
  /** What happens to records whose prompts leave no room for an answer. Default "error". */
  longPrompts?: "error" | "skip" | undefined;
  /** Seed of made-up data, and of the order in which a pair's answers are shown. Default 42. */
  seed?: number | undefined;
}

/** A part of a dataset that is to be read. */
export interface DatasetPart {
  readonly name: string;
  /** Of folders and of datasets on the hub. */
  readonly split: string;
  /** Whether the split is that of another dataset, or assumed, and files may leave it out of account. */
  readonly assumed?: boolean;
  readonly limit?: number | undefined;
}

/** A part of a registered dataset's samples that is asked for: of pairs "learned" takes the better answer, "pairs" both. */
export type Wanted = Consumer | "learned" | "pairs";

/** Where a dataset's records come from. */
export interface RecordSource {
  /** The records of a part, with their rows; `counted` where some are left out. */
  entries(part: DatasetPart, wanted: Wanted, options: SchemaOptions): Promise<Entry[]>;
  /** Hears what was left out and why. */
  say?(line: string): void;
}

/** A prompt as trainers take it. */
export interface DatasetPrompt {
  text: string;
  /** The conversation that was written as `text`, where there was one. */
  messages?: readonly ChatMessage[];
  /** The answer that the data have, where they have one. */
  target?: string;
  /** The row it was made of, with all of its columns. */
  row?: Readonly<Columns>;
  ids: Uint32Array;
}

/** The tokens that prompts leave room for. */
export interface PromptRoom {
  /** Tokens that the model can see. */
  context: number;
  /** Tokens of a response. */
  response: number;
  /** Where prompt and response have a limit together, at which responses are cut: for one token at least. */
  together?: number | null;
}

/** Choice of what is learned of sequences. */
export interface SequenceOptions extends PrepareOptions {
  /** False learns the prompts of completions too. Default true. */
  completionOnlyLoss?: boolean;
  /** What is learned of conversations in a column `messages`. Default: all of it, as in TRL. */
  conversations?: "all" | "assistant";
  /** Only what the assistant says is learned, and rows that are no conversations are an error, as in TRL. Default false. */
  assistantOnlyLoss?: boolean;
}

/** A tokenised pair with the record it comes from. */
export type PairExample = PreferenceExample & { record: Preference };

/** An answer with its label. */
export type LabelledExample = SftExample & { label: boolean };

/** Rated answers: ratings are [answers, attributes], row by row, NaN where one is missing. */
export interface RatedExamples {
  attributes: string[];
  sequences: SftExample[];
  labels: Float64Array;
}

/** The chat template that writes conversations, where there is one: a tokenizer has it. */
export type ConversationWriter = Pick<Tokenizer, "chatTemplate"> | null;

/** A named dataset. Nothing is read before it is asked for, because a model's chat template writes the conversations. */
export class Dataset {
  readonly name: string;
  readonly options: DatasetOptions;
  private readonly source: RecordSource;

  constructor(name: string, source: RecordSource, options: DatasetOptions = {}) {
    this.name = name;
    this.source = source;
    this.options = options;
  }

  /** A dataset of the same source by other options, or of another name. */
  with(options: DatasetOptions, name = this.name): Dataset {
    return new Dataset(name, this.source, { ...this.options, ...options });
  }

  /** Whether the data are made by seed instead of read. */
  get isMade(): boolean {
    return madeDataset(this.name) !== null;
  }

  /**
   * What to evaluate on: the held-out part where the dataset has one, else all of it.
   * @param limit the most records to use; null takes all
   */
  heldOut(limit: number | null): { dataset: Dataset; part: "train" | "eval" } {
    const dataset = this.with({ maxTrainSamples: limit, maxEvalSamples: limit ?? Number.POSITIVE_INFINITY });
    return { dataset, part: this.isMade || (this.options.testSize ?? 0) > 0 ? "eval" : "train" };
  }

  /**
   * Prompts that leave room for a response.
   * @param repeated whether each record gives its prompt. Default: of those with the same prompt only the last one
   * @throws UserError naming the record whose prompt is too long, unless `longPrompts` is "skip"
   */
  async prompts(tokenizer: Tokenizer, room: PromptRoom, repeated = false): Promise<Split<DatasetPrompt>> {
    const { context, response, together = null } = room;
    const cut = together !== null && together <= context; // responses end there, wherever the context would let them go
    const limits = cut ? { maxLength: together } : { maxLength: context, answer: response };
    const read = async (part: DatasetPart) => {
      const all = await this.load({ ...part, limit: undefined }, "prompt", "prompt", tokenizer);
      if (repeated) return all;
      const once = lastOfEach(all, ({ prompt }) => prompt); // pairs repeat theirs; a policy answers each once
      return counted(once, all, { dropped: { "another row has the same prompt": all.length - once.length } });
    };
    const made = (pairs: MadeDataset, n: number, split: MadeSplit, seed: number) =>
      pairs.prompts(n, seed, split).map((prompt): PromptOnly => ({ kind: "prompt", prompt, row: { prompt } }));
    const found = await this.parts<PromptOnly>(made, read);
    if (!cut && context <= response) {
      throw new UserError(
        `responses of ${response} tokens leave no room for a prompt in a context of ${context}; shorten them`,
      );
    }
    return this.prepared(found, (record) => ({
      text: record.prompt,
      ...(record.messages && { messages: record.messages }),
      ...(record.target !== undefined && { target: record.target }),
      ...(record.row && { row: record.row }),
      ids: promptExample(record, tokenizer, limits).ids,
    }));
  }

  /** Sequences for supervised fine-tuning. Throws `UserError` for a row that has not what is to be learned. */
  async sequences(tokenizer: Tokenizer, options: SequenceOptions): Promise<Split<SftExample>> {
    const { assistantOnlyLoss = false, conversations = assistantOnlyLoss ? "assistant" : "all" } = options;
    const found = await this.records(tokenizer, { learned: conversations });
    const strings = this.options.template !== "turns" && this.options.template !== "chat";
    const example = (record: DataRecord, watched: SequenceOptions) => {
      if (assistantOnlyLoss && strings) mustBeConversation(record);
      const pair = record.kind === "text" ? undefined : asKind(record, "prompt_completion");
      if (pair) return [sftExample(pair, tokenizer, watched)];
      if (record.kind === "text") return textExamples(record, tokenizer, watched);
      throw new UserError(`${record.where}: a prompt alone holds nothing to learn; completions or text are needed`);
    };
    const split = this.examples(found, options, example);
    const whole = options.completionOnlyLoss === false;
    const learned = (examples: SftExample[][]) =>
      counted(
        examples.flat().map((one) => (whole ? { ids: one.ids, promptLength: 0 } : one)),
        examples,
      );
    return splitOf(
      () => learned(split.train),
      () => learned(split.eval),
    );
  }

  /**
   * Tokenised preference pairs, with the records they come from.
   * @param labels whether pairs must say which answers are safe. Default: for the consumer "safety"
   */
  async pairs(
    tokenizer: Tokenizer,
    options: PrepareOptions,
    consumer: Consumer = "preference",
    labels = consumer === "safety",
  ): Promise<Split<PairExample>> {
    return this.examples(await this.preferences(tokenizer, consumer), options, (found, watched) => {
      const record = labels ? mustBeSafetyPair(found) : found;
      return { ...preferenceExample(record, tokenizer, watched), record };
    });
  }

  /** Preference pairs as text. */
  preferences(writer: ConversationWriter, consumer: Consumer = "preference"): Promise<Split<Preference>> {
    return this.parts<Preference>(madePairs, (part) => this.load(part, "preference", consumer, writer));
  }

  /** Tokenised answers with labels; a preference pair's chosen answer is a good one and its rejected one a bad one. */
  async labelled(tokenizer: Tokenizer, options: PrepareOptions): Promise<Split<LabelledExample>> {
    const found = await this.parts<DataRecord>(madePairs, (part) => this.all(part, "preference", tokenizer));
    const records = splitOf(
      () => counted(found.train.flatMap(labelledRecords), found.train),
      () => counted(found.eval.flatMap(labelledRecords), found.eval),
    );
    return this.examples(records, options, (record, watched) => ({
      ...sftExample({ ...record, kind: "prompt_completion" }, tokenizer, watched),
      label: record.label,
    }));
  }

  /**
   * Rated answers as sequences, with their ratings.
   * @param attributes the columns that are ratings; null takes every column of numbers
   */
  async rated(tokenizer: Tokenizer, options: PrepareOptions, attributes: readonly string[] | null) {
    const { datasetTrainSplit: split = "train", maxTrainSamples: limit, seed = 42 } = this.options;
    const made = madeDataset(this.name)?.rated;
    const found = made
      ? chosenColumns(made.rows(limit ?? MADE_RECORDS, seed), made.attributes, attributes)
      : ratedRows(
          await this.read({ name: this.name, split, limit: limit ?? undefined }, "learned", tokenizer),
          attributes,
          this.name,
        );
    const rated = this.ready(found.rows, (row) => ({
      sequence: sftExample(row, tokenizer, options),
      ratings: row.ratings,
    }));
    return {
      attributes: found.attributes,
      sequences: rated.map(({ sequence }) => sequence),
      labels: Float64Array.from(rated.flatMap(({ ratings }) => ratings)),
    } satisfies RatedExamples;
  }

  /** Texts to learn a tokenizer from: of what is trained on. */
  async texts(): Promise<string[]> {
    const { testSize = 0, maxTrainSamples: limit, datasetTrainSplit: split = "train" } = this.options;
    const most = testSize > 0 ? undefined : (limit ?? undefined);
    const all = await this.all({ name: this.name, split, limit: most }, "learned", null);
    const records = testSize > 0 ? splitCounted(all, testSize).train : all;
    return records.slice(0, limit ?? undefined).flatMap((record) => {
      if (record.kind === "text") return record.text;
      if (record.kind === "prompt") return record.prompt;
      if (record.kind === "prompt_completion" || record.kind === "labelled") return record.prompt + record.completion;
      return [record.prompt + record.chosen, record.prompt + record.rejected];
    });
  }

  /** Records of whatever kind the data have, each with its row: for trainers of one's own. */
  records(writer: ConversationWriter, style: Pick<SchemaOptions, "learned"> = {}): Promise<Split<DataRecord>> {
    const made = (pairs: MadeDataset, n: number, split: MadeSplit, seed: number): DataRecord[] =>
      (pairs.answers ?? pairs.pairs)(n, seed, split);
    return this.parts<DataRecord>(made, (part) => this.all(part, "learned", writer, style));
  }

  /**
   * Prepares both parts of records, e.g. as token ids; of those that are too long as `longPrompts` says.
   * @throws UserError when nothing is left of a part
   */
  prepared<R, E>(records: Split<R>, prepare: (record: R) => E): Split<E> {
    return this.examples(records, { maxLength: Number.POSITIVE_INFINITY }, prepare);
  }

  /** Both parts as examples, with a count of those that are cut as the options say. */
  private examples<R, E, O extends PrepareOptions>(
    records: Split<R>,
    options: O,
    prepare: (record: R, watched: O) => E,
  ): Split<E> {
    const part = (list: readonly R[]) => {
      const cuts = new Cuts(options.maxLength);
      return this.ready(list, (record) => prepare(record, { ...options, onCut: cuts.onCut }), cuts);
    };
    return splitOf(
      () => part(records.train),
      () => part(records.eval),
    );
  }

  private ready<R, E>(records: readonly R[], prepare: (record: R) => E, cuts = new Cuts(null)): E[] {
    if (records.length === 0) return counted([], records);
    const { examples, skipped } = withHint(() => prepareAll(records, cuts.watching(prepare), this.options.longPrompts));
    if (skipped > 0) this.source.say?.(`${skipped} of ${records.length} records left out: their prompts are too long`);
    const { truncated, limit } = cuts;
    return counted(examples, records, { truncated, limit, dropped: { "its prompt is too long": skipped } });
  }

  private read(
    part: DatasetPart,
    wanted: Wanted,
    writer: ConversationWriter,
    style: SchemaOptions = {},
  ): Promise<Entry[]> {
    const { template = "auto" } = this.options;
    return this.source.entries(part, wanted, { template, chat: writer?.chatTemplate ?? null, ...style });
  }

  private async all(
    part: DatasetPart,
    wanted: Wanted,
    writer: ConversationWriter,
    style?: SchemaOptions,
  ): Promise<DataRecord[]> {
    const entries = await this.read(part, wanted, writer, style);
    return counted(entries.map(withRow), entries);
  }

  /** Records of one kind; a richer record serves a simpler need. */
  private async load<K extends RecordKind>(part: DatasetPart, kind: K, wanted: Wanted, writer: ConversationWriter) {
    const records = await this.all(part, wanted, writer);
    return counted(
      records.map((record): RecordOf<K> => mustBe(record, kind)),
      records,
    );
  }

  private async parts<R extends DataRecord>(
    make: (pairs: MadeDataset, n: number, split: MadeSplit, seed: number) => R[],
    read: (part: DatasetPart) => Promise<R[]>,
  ): Promise<Split<R>> {
    const { name } = this;
    const { datasetTrainSplit: split = "train", datasetTestSplit: testSplit = null, testSize = 0 } = this.options;
    const { evalDatasetName: evalName, maxEvalSamples: evalLimit = 256, seed = 42 } = this.options;
    const limit = this.options.maxTrainSamples ?? undefined;
    const made = madeDataset(name);
    const trained = made
      ? { train: make(made, limit ?? MADE_RECORDS, "train", seed), test: make(made, evalLimit, "test", seed) }
      : testSize > 0
        ? splitCounted(await read({ name, split }), testSize)
        : { train: await read({ name, split, limit }), test: [] as R[] };
    const heldOut = evalName ?? (testSplit === null || made ? null : name);
    const other = heldOut === null ? null : madeDataset(heldOut);
    const test = !heldOut
      ? trained.test
      : other
        ? make(other, evalLimit, "test", seed)
        : await read({
            name: heldOut,
            split: testSplit ?? (heldOut === name ? "test" : split),
            assumed: testSplit === null,
            limit: evalLimit,
          });
    return {
      train: counted(trained.train.slice(0, limit), trained.train),
      eval: counted(test.slice(0, evalLimit), test),
    };
  }
}

const madePairs = (made: MadeDataset, n: number, split: MadeSplit, seed: number): Preference[] =>
  made.pairs(n, seed, split);

const withRow = ({ row, record }: Entry): DataRecord => ({ ...record, row: row.whole ?? (row.value as Columns) });

/** With the way out, which a library's user and the program's user know by two names. */
function withHint<R>(work: () => R): R {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof PromptTooLongError)) throw error;
    throw new UserError(`${error.message}, or leave such records out with --long_prompts skip (longPrompts: "skip")`, {
      cause: error,
    });
  }
}
