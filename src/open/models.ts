/** Models by name, one at a time; several that share a base are opened by one `ModelOpener`. */
import type { Tokenizer } from "../data/tokenizer.ts";
import { openDevice } from "../gpu/device.ts";
import type { CausalLM, Model, ScoreModel } from "../nn/models.ts";
import { UserError } from "../runtime/errors.ts";
import { ModelOpener, type ModelOptions } from "./opener.ts";
import { weightFormat } from "./precision.ts";

/** A low-rank adapter, in PEFT's names. */
export interface LoraChoice {
  /** Rank. Default 16. */
  r?: number;
  /** The update is multiplied by alpha / rank. Default 32. */
  loraAlpha?: number;
  /** Part of the adapter's input that drops out in training. Default 0. */
  loraDropout?: number;
  /** Ends of names of linear layers, or "all-linear". Default: as PEFT, by family. */
  targetModules?: readonly string[] | "all-linear";
  /** Modules to train whole besides ("lm_head", "embed_tokens"). Default none. */
  modulesToSave?: readonly string[];
  /** Multiply by alpha / sqrt(rank) instead. Default false. */
  useRslora?: boolean;
  /** Train the lengths of the adapted weights' rows besides (DoRA). Default false. */
  useDora?: boolean;
}

/** How one model is opened. */
export interface OpenModelOptions extends Omit<ModelOptions, "usePeft" | "rewardModelDtype" | "refModelDtype"> {
  /** Train a low-rank adapter instead of the whole model; true takes the defaults. */
  lora?: LoraChoice | boolean;
  /** Branch, tag or commit of a model named org/name. Default: main. */
  revision?: string;
  /** False opens a model to sample from, with an adapter merged into its base. Default: true where it can be trained. */
  trainable?: boolean;
  /** Names the model in messages about memory. Default: the last part of its name. */
  label?: string;
}

/** A model with the tokenizer that its ids come from. */
export type WithTokenizer<M> = M & { tokenizer: Tokenizer };

/**
 * Opens a language model with its tokenizer; a device, too, where none is open. The caller calls `destroy` in the end.
 * @param name a folder, a .gguf file, an adapter's folder, or `org/name[@revision]` on the hub
 * @throws UserError naming the file, field or tensor that is wrong
 */
export function openModel(name: string, options: OpenModelOptions = {}): Promise<WithTokenizer<CausalLM>> {
  const { lora, trainable = Boolean(lora) || weightFormat(options) === "float32", label } = options;
  return opened(name, options, (opener) => (trainable ? opener.policy(name, label) : opener.sampler(name)));
}

/** How a scorer is opened. */
export interface OpenScoreModelOptions extends OpenModelOptions {
  /** Give a fresh score head a bias. Default false. */
  scoreBias?: boolean;
}

/**
 * Opens a scorer (a reward model, a cost model, a critic) with its tokenizer. A language model becomes one with a fresh score
 * head, unless it is not to be trained. The caller calls `destroy` in the end.
 * @param name as of `openModel`
 * @throws UserError naming the file, field or tensor that is wrong
 */
export function openScoreModel(name: string, options: OpenScoreModelOptions = {}): Promise<WithTokenizer<ScoreModel>> {
  const { lora, trainable = Boolean(lora) || weightFormat(options) === "float32", label } = options;
  return opened(name, options, (opener) =>
    trainable ? opener.scorer(name, label, options.scoreBias ? { bias: true } : {}) : opener.frozenScorer(name, label),
  );
}

async function opened<M extends Model>(
  name: string,
  options: OpenModelOptions,
  open: (opener: ModelOpener) => Promise<M>,
): Promise<WithTokenizer<M>> {
  await openDevice();
  const { lora = false, revision, ...rest } = options;
  const opener = new ModelOpener({
    ...rest,
    ...(revision !== undefined && { modelRevision: revision }),
    ...peftOf(lora),
  });
  try {
    const tokenizer = await opener.trainingTokenizer(name);
    const model = await open(opener);
    opener.refuseUnusedBase();
    tokenizer.checkFits(model.config.vocabSize);
    const base = opener.opened.find((one) => one !== model) as Model | undefined;
    return Object.assign(base ? model.withBase(base) : model, { tokenizer });
  } catch (error) {
    opener.destroy();
    throw error;
  }
}

const peftOf = (lora: LoraChoice | boolean) => {
  const { r, loraAlpha, loraDropout, targetModules, modulesToSave, useRslora, useDora } =
    lora === true ? {} : lora || {};
  return {
    usePeft: lora !== false,
    loraR: r,
    loraAlpha,
    loraDropout,
    loraTargetModules: typeof targetModules === "string" ? [targetModules] : targetModules,
    loraModulesToSave: modulesToSave,
    useRslora,
    useDora,
  };
};

/** The longest sequence to train on, in tokens: what was asked for, or all that the model can see. */
export function contextOf(model: Model, maxLength: number | null = null): number {
  const { maxPositions } = model.config;
  if (maxLength === null || maxLength <= maxPositions) return maxLength ?? maxPositions;
  throw new UserError(`max_length ${maxLength} is more than the model's context of ${maxPositions} tokens`);
}

/** Gives the models' memory back when the work is done, whatever happened. */
export async function withModels<R>(
  models: readonly ({ destroy(): void } | null)[],
  work: () => Promise<R>,
): Promise<R> {
  try {
    return await work();
  } finally {
    for (const model of models) model?.destroy();
  }
}
