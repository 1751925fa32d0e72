/** Reads datasets by name: files, folders, `org/name` on the hub, registered ones, code, rows, and mixtures of them. */

import { counted, countsOf, NONE, sumOf } from "../data/counts.ts";
import type { DatasetPart, RecordSource, Wanted } from "../data/dataset.ts";
import { madeDataset, madeNames } from "../data/made.ts";
import { type Consumer, learned } from "../data/raw/consumers.ts";
import type { Locate } from "../data/raw/dataset.ts";
import { consumedRows } from "../data/raw/load.ts";
import { checkNames, MIXTURE_SEED, type MixturePart, mixed, parseMixture } from "../data/raw/mixture.ts";
import { WHOLE } from "../data/raw/proportion.ts";
import { findDataset } from "../data/raw/registry.ts";
import type { RawSample } from "../data/raw/sample.ts";
import { type Entry, entriesOf, type ReadOptions, readEntries } from "../data/readers.ts";
import { Reasons } from "../data/reasons.ts";
import type { SchemaOptions } from "../data/schemas.ts";
import { UserError } from "../runtime/errors.ts";
import { isCode } from "../runtime/own-code.ts";
import { permutation, streamId } from "../runtime/rng.ts";
import { didYouMean, spelled } from "../settings/index.ts";
import { type DataFilesOptions, dataFiles, withoutConfigurations, withoutSplits } from "./data-files.ts";
import { exists } from "./hub.ts";
import { codeRows, type Rows, rowsOf } from "./rows.ts";
import { filesOf, readsUrls, type Surroundings } from "./surroundings.ts";

/** The reader of everything that has a name. */
export class DatasetReader implements RecordSource {
  private readonly options: DataFilesOptions;
  private readonly given: ReadonlyMap<string, Rows>;

  /** @param given rows that are there already, by the name that is asked for */
  constructor(options: DataFilesOptions, given: ReadonlyMap<string, Rows> = new Map()) {
    this.options = options;
    this.given = given;
  }

  say(line: string): void {
    this.options.say?.(line);
  }

  /** Records with their rows. The parts of a mixture are shuffled together, so that the first ones are a mixture too. */
  async entries(part: DatasetPart, wanted: Wanted = "learned", style: SchemaOptions = {}): Promise<Entry[]> {
    const rows = this.given.get(part.name);
    if (rows) {
      if (this.options.datasetConfig) throw withoutConfigurations(this.options, "rows are given");
      if (!part.assumed && part.split !== "train") throw withoutSplits(this.options, "rows that are given", part.split);
      return this.collected(
        part.name,
        (options) => entriesOf(rowsOf(rows, part.name), part.name, options),
        style,
        part.limit,
      );
    }
    const parts = await partsOf(part.name, this.options);
    if (parts.length === 1 && parts[0].proportion === WHOLE)
      return this.read(parts[0], part, wanted, style, part.limit);
    checkNames(parts.map(({ name }) => findDataset(name)?.name ?? name));
    const loaded = [];
    for (const one of parts) loaded.push({ ...one, items: await this.read(one, part, wanted, style) });
    const all = mixed(loaded);
    const order = permutation(all.length, MIXTURE_SEED, streamId("mixture"));
    const drawn = [...(parts.length === 1 ? all : Array.from(order, (i) => all[i]))].slice(0, part.limit);
    return loaded.reduce(
      (list, { items }) => counted(list, sumOf(countsOf(list), countsOf(items))),
      counted(drawn, NONE),
    );
  }

  private read(one: MixturePart, part: DatasetPart, wanted: Wanted, style: SchemaOptions, limit?: number) {
    const { name, path } = one;
    const at = path ?? name;
    return this.collected(
      name,
      async (options) => {
        if (findDataset(name)) return this.registered(one, part, wanted, options);
        if (isCode(at)) {
          if (this.options.datasetConfig) throw withoutConfigurations(this.options, `${at} is a module`);
          return entriesOf(codeRows(at, part.split, !part.assumed), at, options);
        }
        return readEntries(await dataFiles(at, part.split, this.options, !part.assumed), options);
      },
      style,
      limit,
    );
  }

  /** The entries, with a line on what was left out of them. */
  private async collected(
    name: string,
    read: (options: ReadOptions) => AsyncIterable<Entry> | Promise<AsyncIterable<Entry>>,
    style: SchemaOptions,
    limit?: number,
  ): Promise<Entry[]> {
    const skipped = new Reasons();
    const onSkip = (_: string, reason: string) => skipped.add(reason);
    const entries: Entry[] = [];
    const { column } = this.options;
    const found = await read({ ...style, column, ...(limit !== undefined && { limit }), onSkip });
    for await (const entry of found) entries.push(entry);
    const reasons = `${skipped}`;
    if (reasons) this.say(`${name}: ${entries.length} records; left out: ${reasons}`);
    const dropped = skipped.all;
    const left = Object.values(dropped).reduce((a, b) => a + b, 0);
    const rows = new Set(entries.map(({ row }) => row)).size + left; // a row may give several records
    return counted(entries, { ...NONE, rows, dropped });
  }

  /** The entries of a registered dataset. */
  private async registered({ name, path }: MixturePart, part: DatasetPart, wanted: Wanted, options: ReadOptions) {
    this.checkChoice(name, part.split);
    if (this.options.column) {
      const flag = spelled(this.options, "column");
      throw new UserError(
        `${flag} is for files; ${name} is a registered dataset, which has a rule for its own columns`,
      );
    }
    if (path === undefined && (await isThere(name, this.options))) {
      this.say(`${name} means the registered dataset; for the file or folder of that name write ./${name}`);
    }
    const consumer = (sample: RawSample) => consumerFor(sample, wanted);
    const rows = consumedRows(name, consumer, { path, locate: this.locate, onSkip: options.onSkip });
    return entriesOf(rows, name, options);
  }

  readonly locate: Locate = ({ repo, config, split }) =>
    dataFiles(repo, split, { ...this.options, datasetConfig: config ?? null });

  /** A registered name says which part of what it means. */
  private checkChoice(name: string, split: string): void {
    if (split !== "train") {
      throw new UserError(
        `${name} is one part of a dataset, "${split}" cannot be chosen from it; name the part itself, for held-out data ` +
          'with eval_dataset_name ("webrlhf data list" shows the names)',
      );
    }
    if (this.options.datasetConfig) {
      throw withoutConfigurations(this.options, `${name} is one part of a dataset`);
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
export async function partsOf(name: string, around: Surroundings = {}): Promise<MixturePart[]> {
  const whole = [{ name, proportion: WHOLE }];
  if (findDataset(name) || madeDataset(name) || (await isThere(name, around))) return whole;
  if (/^builtin:[^,]*$/.test(name)) {
    throw new UserError(
      `there are no made-up data called "${name}"${didYouMean(name, madeNames())}; there are ${madeNames().join(", ")}, ` +
        "and judges by a rule, such as builtin:world/length=-0.15+noise=0.1",
    );
  }
  if (/(^|,)\s*builtin:/.test(name))
    throw new UserError(`${name}: made-up data (builtin:...) cannot be mixed with others`);
  return parseMixture(name);
}

/** Whether a name is a path. A page cannot tell without loading it, so there it is not asked. */
const isThere = async (name: string, around: Surroundings): Promise<boolean> =>
  !readsUrls(around) && exists(await filesOf(around), name);
