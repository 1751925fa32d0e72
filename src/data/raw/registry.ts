/**
 * Raw datasets by name. One of your own is a name and what makes a sample of a row:
 *
 *     registerDataset({
 *       name: "my-pairs",
 *       source: { repo: "me/my-pairs", split: "train" },
 *       sample: (row) => ({ input: String(row.question), answer: String(row.good), other_answer: String(row.bad), better: true }),
 *     });
 *
 * From then on mixtures know it: "my-pairs:0.5,alpaca:1/4".
 */
import { UserError } from "../../runtime/errors.ts";
import { permutation, streamId } from "../../runtime/rng.ts";
import { alpaca } from "./builtin/alpaca.ts";
import { hh } from "./builtin/hh.ts";
import { messagePairs } from "./builtin/message-pairs.ts";
import { mixtures } from "./builtin/mixtures.ts";
import { orcaSets } from "./builtin/orca.ts";
import { rewardBench } from "./builtin/reward-bench.ts";
import { safeRlhf } from "./builtin/safe-rlhf.ts";
import { scoredAnswers } from "./builtin/scored-answers.ts";
import { shpSets } from "./builtin/shp.ts";
import { type LoadOptions, type RawDataset, samplesOf } from "./dataset.ts";
import { checkNames, MIXTURE_SEED, mixed, parseMixture } from "./mixture.ts";
import type { RawSample } from "./sample.ts";

const builtin = [
  ...safeRlhf,
  ...alpaca,
  ...hh,
  ...shpSets,
  ...scoredAnswers,
  ...messagePairs,
  ...orcaSets,
  ...rewardBench,
  ...mixtures,
];

const datasets = new Map<string, RawDataset>();

/**
 * Adds a dataset under its name and aliases.
 * @throws UserError for a name or alias that is taken, and for one that a mixture could not name
 */
export function registerDataset(dataset: RawDataset): void {
  const names = [dataset.name, ...(dataset.aliases ?? [])];
  for (const [i, name] of names.entries()) {
    if (!/^[^\s:,]+$/.test(name)) {
      throw new UserError(`"${name}": a dataset's name must be there and must not have spaces, colons or commas`);
    }
    if (datasets.has(name) || names.indexOf(name) !== i) {
      throw new UserError(`there is a dataset "${name}" already; choose another name`);
    }
  }
  for (const name of names) datasets.set(name, dataset);
}

for (const dataset of builtin) registerDataset(dataset);

/** The dataset of a name or an alias. */
export const findDataset = (name: string): RawDataset | undefined => datasets.get(name);

/** All registered datasets, each once. */
export const allDatasets = (): RawDataset[] => [...new Set(datasets.values())];

/**
 * The samples of a registered dataset. A mixture's are shuffled by the same seed that its parts are drawn with; its
 * `path` is a folder with a folder `org/name` for each of the published sets.
 */
export async function loadSamples(name: string, options: LoadOptions = {}): Promise<RawSample[]> {
  const samples: RawSample[] = [];
  for await (const sample of streamSamples(name, options)) samples.push(sample);
  return samples;
}

/** Gives the samples of a dataset one by one, as `loadSamples` gives them at once; a set made row by row is never held. */
export async function* streamSamples(name: string, options: LoadOptions = {}): AsyncGenerator<RawSample> {
  const dataset = findDataset(name);
  if (!dataset) {
    throw new UserError(`there is no dataset called "${name}"; "webrlhf data list" shows those there are`);
  }
  if (dataset.mixture === undefined) {
    yield* samplesOf(dataset, options);
    return;
  }
  const { path, locate, ...rest } = options;
  const below: LoadOptions = {
    ...rest,
    ...(locate && { locate: (source) => locate(path ? { ...source, repo: inFolder(path, source.repo) } : source) }),
  };
  const found = parseMixture(dataset.mixture);
  checkNames(found.map((part) => findDataset(part.name)?.name ?? part.name));
  const parts = [];
  for (const part of found) {
    parts.push({ ...part, items: await loadSamples(part.name, { ...below, path: part.path }) });
  }
  const samples = mixed(parts, options.seed ?? MIXTURE_SEED);
  for (const i of permutation(samples.length, MIXTURE_SEED, streamId(dataset.name))) yield samples[i];
}

const inFolder = (folder: string, repo: string) => `${folder.replace(/\/+$/, "")}/${repo.replace(/@.*$/, "")}`;
