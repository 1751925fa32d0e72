/** A method on a dataset: what its settings name is opened, and its trainer takes it. */
import type { Dataset, DatasetOptions } from "../../data/dataset.ts";
import type { Tokenizer } from "../../data/tokenizer.ts";
import type { CausalLM } from "../../nn/models.ts";
import type { TrainEvent } from "../../rlhf/events.ts";
import type { RunOptions } from "../../rlhf/loop.ts";
import type { ResolvedSettings, Settings, SettingsTable } from "../../settings/index.ts";
import { openDataset } from "../datasets.ts";
import { defineMethod, type Method, type RunSurroundings } from "../method.ts";
import type { ModelOpener } from "../opener.ts";
import * as named from "../settings.ts";
import { tokenizerFiles } from "../tokenizer.ts";

/** What a method opens besides its dataset. */
type Opened<M> = M & { tokenizer: Tokenizer };

/** A method whose trainer takes models, the dataset that `datasetName` names, and its settings. */
export function onDataset<N extends SettingsTable & typeof named.datasetSettings, T extends SettingsTable, M>(
  record: Settings<T>,
  names: N,
  words: { summary: string; examples: readonly string[] },
  models: (o: ResolvedSettings<N & T>, opener: ModelOpener, around: RunSurroundings) => Promise<Opened<M>>,
  train: (models: Opened<M>, data: Dataset, o: ResolvedSettings<T>, run?: RunOptions) => AsyncGenerator<TrainEvent>,
  more: {
    check?: (o: ResolvedSettings<N & T>, spell: (key: string) => string) => void;
    /** What the dataset is opened with besides the settings. */
    dataset?: (o: ResolvedSettings<N & T>, models: Opened<M>) => DatasetOptions;
    /** Files beside the model, besides the tokenizer's. */
    besides?: (models: Opened<M>) => Record<string, string>;
  } = {},
): Method {
  const open = async (o: ResolvedSettings<N & T>, opener: ModelOpener, around: RunSurroundings) => {
    const opened = await models(o, opener, around);
    const settings = o as unknown as { datasetName: string };
    const dataset = openDataset(settings.datasetName, { ...settings, ...more.dataset?.(o, opened), ...around });
    return {
      besides: { ...tokenizerFiles(opened.tokenizer), ...more.besides?.(opened) },
      train: (run?: RunOptions) => train(opened, dataset, record.pick(o), run),
    };
  };
  return defineMethod(record, names, { ...words, open }, more.check);
}

/** The policy that a run trains, with its tokenizer. */
export async function openPolicy(
  opener: ModelOpener,
  name: string,
): Promise<{ policy: CausalLM; tokenizer: Tokenizer }> {
  await opener.refuseJudge(name);
  return openLanguageModel(opener, name);
}

/** A language model to train, whatever it is for, with its tokenizer. */
export async function openLanguageModel(
  opener: ModelOpener,
  name: string,
): Promise<{ policy: CausalLM; tokenizer: Tokenizer }> {
  const tokenizer = await opener.trainingTokenizer(name);
  const policy = await opener.policy(name);
  tokenizer.checkFits(policy.config.vocabSize);
  policy.tokenizer = tokenizer;
  return { policy, tokenizer };
}

/** The data that are learned from, and those that are held out. */
export const learned = { ...named.datasetSettings, ...named.heldOutSettings };
