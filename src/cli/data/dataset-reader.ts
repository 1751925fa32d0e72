/** Reads what `dataset_name` names: a file, a folder, org/name on the hub, a registered dataset, or a mixture of them. */
import { stat } from "node:fs/promises";
import { type Consumer, learned } from "../../data/raw/consumers.ts";
import type { Locate } from "../../data/raw/dataset.ts";
import { consumedRows } from "../../data/raw/load.ts";
import { checkNames, MIXTURE_SEED, type MixturePart, mixed, parseMixture } from "../../data/raw/mixture.ts";
import { WHOLE } from "../../data/raw/proportion.ts";
import { findDataset } from "../../data/raw/registry.ts";
import type { RawSample } from "../../data/raw/sample.ts";
import { type Entry, entriesOf, mustBe, type ReadOptions, readEntries } from "../../data/readers.ts";
import { Reasons } from "../../data/reasons.ts";
import type { DataRecord, RecordKind, RecordOf } from "../../data/records.ts";
import type { SchemaOptions } from "../../data/schemas.ts";
import { UserError } from "../../runtime/errors.ts";
import { permutation, streamId } from "../../runtime/rng.ts";
import type { Terminal } from "../terminal.ts";
import { dataFiles, type SourceChoice } from "./dataset-source.ts";

/** A part of a dataset. */
export interface Source {
  readonly name: string;
  /** Of folders and of datasets on the hub. */
  readonly split: string;
  readonly limit?: number | undefined;
}

/** What a registered dataset's samples are asked for: of pairs "learned" takes the better answer, "pairs" both. */
export type Wanted = Consumer | "learned" | "pairs";

const consumerOf: Partial<Record<RecordKind, Wanted>> = { preference: "preference", prompt: "prompt" };

/** Reads records as the options and the model's tokenizer have them. */
export class DatasetReader {
  private readonly choice: SourceChoice;
  private readonly options: SchemaOptions;
  private readonly terminal: Terminal;

  constructor(choice: SourceChoice, options: SchemaOptions, terminal: Terminal) {
    this.choice = choice;
    this.options = options;
    this.terminal = terminal;
  }

  /** Records of a kind; a richer record serves a simpler need. */
  async load<K extends RecordKind>(source: Source, kind: K, consumer = consumerOf[kind]): Promise<RecordOf<K>[]> {
    return (await this.entries(source, consumer)).map(({ record }) => mustBe(record, kind));
  }

  /** Records of whatever kind there is; of registered pairs the better answer, if nothing else is asked for. */
  async all(source: Source, wanted: Wanted = "learned"): Promise<DataRecord[]> {
    return (await this.entries(source, wanted)).map(({ record }) => record);
  }

  /** Records with their rows. The parts of a mixture are shuffled together, so that the first ones are a mixture too. */
  async entries(source: Source, wanted: Wanted = "learned"): Promise<Entry[]> {
    const parts = await partsOf(source.name);
    if (parts.length === 1 && parts[0].proportion === WHOLE) return this.read(parts[0], source, wanted, source.limit);
    checkNames(parts.map(({ name }) => findDataset(name)?.name ?? name));
    const loaded = [];
    for (const part of parts) loaded.push({ ...part, items: await this.read(part, source, wanted) });
    const all = mixed(loaded);
    const order = permutation(all.length, MIXTURE_SEED, streamId("mixture"));
    return [...(parts.length === 1 ? all : Array.from(order, (i) => all[i]))].slice(0, source.limit);
  }

  private async read(part: MixturePart, source: Source, wanted: Wanted, limit?: number): Promise<Entry[]> {
    const { name, path } = part;
    const skipped = new Reasons();
    const onSkip = (_: string, reason: string) => skipped.add(reason);
    const options = { ...this.options, ...(limit !== undefined && { limit }), onSkip };
    const found = findDataset(name)
      ? await this.registered(part, source, wanted, options)
      : readEntries(await dataFiles(path ?? name, source.split, this.choice, this.terminal), options);
    const entries: Entry[] = [];
    for await (const entry of found) entries.push(entry);
    const reasons = `${skipped}`;
    if (reasons) this.terminal.line(`${name}: ${entries.length} records; left out: ${reasons}`);
    return entries;
  }

  /** The entries of a registered dataset. */
  private async registered({ name, path }: MixturePart, source: Source, wanted: Wanted, options: ReadOptions) {
    this.checkChoice(name, source.split);
    if (path === undefined && (await exists(name))) {
      this.terminal.line(`${name} means the registered dataset; for the file or folder of that name write ./${name}`);
    }
    const consumer = (sample: RawSample) => consumerFor(sample, wanted);
    const rows = consumedRows(name, consumer, { path, locate: this.locate, onSkip: options.onSkip });
    return entriesOf(rows, name, options);
  }

  readonly locate: Locate = ({ repo, config, split }) =>
    dataFiles(repo, split, { dataset_config: config ?? null, offline: this.choice.offline ?? false }, this.terminal);

  /** A registered name says which part of what it means. */
  private checkChoice(name: string, split: string): void {
    if (split !== "train") {
      throw new UserError(
        `${name} is one part of a dataset, "${split}" cannot be chosen from it; name the part itself, for held-out data ` +
          'with eval_dataset_name ("webrlhf data list" shows the names)',
      );
    }
    if (this.choice.dataset_config) {
      throw new UserError(`${name} is one part of a dataset; dataset_config is for folders and datasets on the hub`);
    }
  }
}

function consumerFor(sample: RawSample, wanted: Wanted): Consumer {
  if (wanted !== "learned" && wanted !== "pairs") return wanted;
  const learns = learned(sample);
  if (learns === "chosen") return wanted === "pairs" ? "preference" : "chosen";
  return wanted === "pairs" && sample.answer === undefined && sample.dialogue === undefined ? "prompt" : "supervised";
}

/** The parts that a name means; what is registered, or exists as a path, is one. */
export async function partsOf(name: string): Promise<MixturePart[]> {
  const whole = [{ name, proportion: WHOLE }];
  if (findDataset(name) || (await exists(name))) return whole;
  if (/^builtin:[^,]*$/.test(name)) return whole;
  if (/(^|,)\s*builtin:/.test(name))
    throw new UserError(`${name}: made-up data (builtin:...) cannot be mixed with others`);
  return parseMixture(name);
}

const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  );
