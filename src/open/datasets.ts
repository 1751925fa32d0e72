/** Datasets by name, or of rows that are there already. */
import { Dataset, type DatasetOptions } from "../data/dataset.ts";
import { madeDataset } from "../data/made.ts";
import { UserError } from "../runtime/errors.ts";
import { spelled } from "../settings/index.ts";
import { type DataFilesOptions, withoutConfigurations } from "./data-files.ts";
import { DatasetReader } from "./dataset-reader.ts";
import type { Rows } from "./rows.ts";

/** How a dataset is opened: which records, as `DatasetOptions` says, and where files are. */
export interface OpenDatasetOptions extends DatasetOptions, DataFilesOptions {}

/**
 * Opens a dataset. Nothing is read before a trainer asks for it, because the model's chat template writes the conversations.
 * @param data a .parquet, .json, .jsonl, .csv, .tsv or .txt file (also .gz); a dataset folder; org/name on the hub; a registered name; a
 *   mixture (name:proportion:path,...); builtin:world; a module of one's own that gives rows; or the rows themselves, each an
 *   object with columns or a text
 * @throws UserError, when it is read, naming the file and line, or the row, that is wrong
 */
export function openDataset(data: string | Rows, options: OpenDatasetOptions = {}): Dataset {
  const { column, evalDatasetName } = options;
  if (column && typeof data === "string" && madeDataset(data) && (!evalDatasetName || madeDataset(evalDatasetName))) {
    throw new UserError(`${spelled(options, "column")} is for files; ${data} is made up and has columns of its own`);
  }
  if (typeof data === "string" && madeDataset(data)) {
    if (options.datasetConfig) throw withoutConfigurations(options, `${data} is made up`);
    const [train, test] = [options.datasetTrainSplit ?? "train", options.datasetTestSplit ?? "test"];
    if (train !== "train" || test !== "test") {
      throw new UserError(
        `${data} has the splits "train" and "test", each in its place; "${train}" and "${test}" were chosen`,
      );
    }
  }
  if (typeof data === "string") return new Dataset(data, new DatasetReader(options), options);
  if (!Array.isArray(data) && !(Symbol.iterator in data) && !(Symbol.asyncIterator in data)) {
    throw new UserError("a dataset is a name or a list of rows");
  }
  const name = "rows";
  return new Dataset(name, new DatasetReader(options, new Map([[name, data]])), options);
}
