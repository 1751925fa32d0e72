/**
 * Models: decoders with heads, generation, optimizers, Hugging Face folders.
 * @module webrlhf/nn
 */
export type { GgufArchitecture } from "../io/gguf-architectures.ts";
export type { GgufReader } from "../io/gguf-config.ts";
export type { GgufKeys } from "../io/gguf-keys.ts";
export type { GgufNames, Layout as GgufLayout } from "../io/gguf-names.ts";
export type { GgufField } from "../io/gguf-write.ts";
export type { DtypeName } from "../io/model-files.ts";
export type { ControlState } from "../tensor/ops/adamw.ts";
export type { TopTokens } from "../tensor/ops/top-tokens.ts";
export { type QuantizedFormat, quantizedFormats, type WeightFormat } from "../tensor/quantize.ts";
export { type DropoutScope, type DropoutStep, withDropout } from "./ambient.ts";
export { type KvCache, type KvCacheFormat, kvCacheFormats } from "./cache.ts";
export type { Activation, DecoderConfig, DecoderShape, RopeScaling } from "./config.ts";
export { type Converted, type ConvertOptions, convertModel } from "./convert.ts";
export { Decoder, type Sequences } from "./decoder.ts";
export { decoderConfig } from "./decoder-config.ts";
export { Engine, EngineBusyError, type EngineOptions } from "./engine.ts";
export type { Family, FileTensor, HeadKind } from "./families/family.ts";
export type { ConfigReader } from "./families/reader.ts";
export { familyNames, findFamily, registerFamily } from "./families/table.ts";
export { type Completion, type GenerateOptions, generate } from "./generate.ts";
export { Generation, type GenerationRequest, type Piece } from "./generation.ts";
export { type GgufType, type GgufWritten, ggufTypes, writeGguf } from "./gguf.ts";
export { fromHfConfig, toHfConfig } from "./huggingface.ts";
export { Embedding, type Ids, Norm } from "./layers.ts";
export { Linear, type LowRank, type LowRankPart } from "./linear.ts";
export { type LivePrefix, openPrefix, type PrefixOptions } from "./live-prefix.ts";
export { AdaptedDecoder, type AdaptedModule, Adapter } from "./lora.ts";
export type { LoraOptions } from "./lora-options.ts";
export { adaptableModules, type SavedParameter } from "./lora-targets.ts";
export { mergeAdapter } from "./merge.ts";
export { CausalLM, type Footing, Model, ScoreModel } from "./models.ts";
export { Module } from "./module.ts";
export type { ChoiceParams, NextToken, NextTokens } from "./next-tokens.ts";
export {
  AdamW,
  type AdamWOptions,
  learningRateAt,
  type OptimizerState,
  readControl,
  type Schedule,
  type ScheduleName,
  schedules,
} from "./optimizer.ts";
export { type AdapterFolder, adapterFiles, openAdapter, readAdapterFolder } from "./peft.ts";
export type { AdapterConfig } from "./peft-config.ts";
export {
  type LoadOptions,
  loadCausalLM,
  loadConfig,
  loadScoreModel,
  modelFiles,
  type SaveOptions,
} from "./pretrained.ts";
export { type PromptLogProbs, promptLogProbs } from "./prompt-logprobs.ts";
export type { SamplingParams } from "./sampling.ts";
export {
  type NormalizerKind,
  type NormalizerState,
  normalizerKinds,
  type ScoreHead,
  type ScoreType,
  type Scoring,
} from "./scoring.ts";
export type { TextTokenizer } from "./text-tokenizer.ts";
export type { SelfSavingModel } from "./trained.ts";
