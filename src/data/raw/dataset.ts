/** A raw dataset: a name, where its rows are published, and how a row becomes samples. */
import { UserError } from "../../runtime/errors.ts";
import { renamed } from "../columns.ts";
import { type DataSource, readRows } from "../readers.ts";
import { Reasons } from "../reasons.ts";
import { type Columns, columnsOf } from "../schemas.ts";
import { isSkipped, type RawSample, type Skipped } from "./sample.ts";

/** Where a dataset is published. */
export interface Published {
  /** `org/name[@revision]` on the hub; also a path of your own. */
  repo: string;
  /** One of its configurations, or a folder of it. */
  config?: string;
  split: string;
}

/** A row of a published file, and where it stands. */
export interface RawRow {
  row: Columns;
  where: string;
}

/** The tools that a dataset may use while it makes samples. */
export interface SampleTools {
  seed: number;
  onSkip(where: string, reason: string): void;
}

/**
 * A dataset of samples. Its rows come from `source` (or the path that the user names instead), and `sample` or `samples`
 * makes something of them; `items` gives samples without any file.
 */
export interface RawDataset {
  name: string;
  /** Other names for it. */
  aliases?: readonly string[];
  /** One line for lists. */
  about?: string;
  source?: Published;
  /** Columns that every row must have. */
  columns?: readonly string[];
  /** The samples of one row, or why there are none. */
  sample?(row: Columns, where: string): RawSample | RawSample[] | Skipped;
  /** The samples of all rows, where one row alone does not tell. */
  samples?(rows: AsyncIterable<RawRow>, tools: SampleTools): AsyncIterable<RawSample>;
  items?(): Iterable<RawSample>;
  /** A mixture of other datasets instead: what `parseMixture` reads. Its samples are shuffled. */
  mixture?: string;
}

/** Finds the files of a published dataset, or of what stands at a path. */
export type Locate = (source: Published) => Promise<readonly DataSource[]>;

/** How a dataset's samples are loaded. */
export interface LoadOptions {
  /** A file or folder with the rows, instead of where they are published. */
  path?: string | undefined;
  /** Default: the path itself is the one file. */
  locate?: Locate;
  /** For datasets that choose at random (best against random); default 42. */
  seed?: number;
  /** Told about every row that gives no sample, and why. */
  onSkip?: (where: string, reason: string) => void;
}

/**
 * A dataset's samples in the order of its rows.
 * @throws UserError where no row gives one, e.g. because all are ties, with the reasons
 */
export async function* samplesOf(dataset: RawDataset, options: LoadOptions = {}): AsyncGenerator<RawSample> {
  const reasons = new Reasons();
  const onSkip = (where: string, reason: string) => {
    reasons.add(reason);
    options.onSkip?.(where, reason);
  };
  let found = false;
  for await (const sample of allSamples(dataset, { ...options, onSkip })) {
    found = true;
    yield sample;
  }
  if (found) return;
  const why = `${reasons}`;
  throw new UserError(`${dataset.name}: the dataset gives no samples${why && `: ${why}`}`);
}

async function* allSamples(
  dataset: RawDataset,
  options: LoadOptions & Pick<SampleTools, "onSkip">,
): AsyncGenerator<RawSample> {
  const { onSkip, seed = 42 } = options;
  if (dataset.items) {
    let i = 0;
    for (const sample of dataset.items()) yield { where: `sample ${++i}`, ...sample };
    return;
  }
  const rows = rowsOf(dataset, options);
  if (dataset.samples) {
    yield* dataset.samples(rows, { seed, onSkip });
    return;
  }
  const { sample: read } = dataset;
  if (!read)
    throw new UserError(`${dataset.name}: the dataset says neither "sample", "samples", "items" nor "mixture"`);
  for await (const { row, where } of rows) {
    const found = read(row, where);
    if (isSkipped(found)) onSkip(where, found.skip);
    else for (const sample of [found].flat()) yield { where, ...sample };
  }
}

/** The rows of all files, each checked for its columns. */
async function* rowsOf(dataset: RawDataset, { path, locate = onlyFile }: LoadOptions): AsyncGenerator<RawRow> {
  const { name, source, columns = [] } = dataset;
  const published = path === undefined ? source : { split: "train", ...source, repo: path };
  if (!published)
    throw new UserError(`${name}: the dataset has no files of its own; give their path: ${name}:1:<path>`);
  let rows = 0;
  for (const file of await locate(published)) {
    for await (const { value, where: place } of renamed(readRows(file), [])) {
      const where = `${name}: ${place}`;
      if (typeof value !== "object" || value === null || Array.isArray(value)) {
        throw new UserError(
          `${where}: a row must be an object with columns, not ${JSON.stringify(value).slice(0, 60)}`,
        );
      }
      const found = columnsOf(value as Columns);
      const missing = columns.find((column) => !found.includes(column));
      if (missing !== undefined) {
        throw new UserError(`${where}: column "${missing}" is missing (found: ${found.join(", ") || "none"})`);
      }
      rows++;
      yield { row: value as Columns, where };
    }
  }
  if (rows === 0) throw new UserError(`${name}: the dataset is empty`);
}

const onlyFile: Locate = async ({ repo }) => [repo];
