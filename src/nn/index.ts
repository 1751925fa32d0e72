/**
 * Models: decoders with heads, generation, optimizers, Hugging Face folders.
 * @module webrlhf/nn
 */
export type { GgufArchitecture } from "../io/gguf-architectures.ts";
export type { GgufReader } from "../io/gguf-config.ts";
export type { GgufNames, Layout as GgufLayout } from "../io/gguf-names.ts";
export type { QuantizedFormat, WeightFormat } from "../tensor/quantize.ts";
export { type DropoutScope, withDropout } from "./ambient.ts";
export type { Activation, DecoderConfig, DecoderShape, RopeScaling } from "./config.ts";
export { type ConvertOptions, convertModel } from "./convert.ts";
export { Decoder } from "./decoder.ts";
export { decoderConfig } from "./decoder-config.ts";
export { Engine, EngineBusyError, type EngineOptions } from "./engine.ts";
export type { Family, FileTensor, HeadKind } from "./families/family.ts";
export type { ConfigReader } from "./families/reader.ts";
export { familyNames, findFamily, registerFamily } from "./families/table.ts";
export { type Completion, type GenerateOptions, generate } from "./generate.ts";
export { Generation, type GenerationRequest, type Piece } from "./generation.ts";
export { fromHfConfig, toHfConfig } from "./huggingface.ts";
export { Embedding, type Ids, Norm } from "./layers.ts";
export { Linear } from "./linear.ts";
export { AdaptedDecoder, type AdaptedModule, Adapter } from "./lora.ts";
export type { LoraOptions } from "./lora-options.ts";
export { adaptableModules } from "./lora-targets.ts";
export { mergeAdapter } from "./merge.ts";
export { CausalLM, type Footing, Model, ScoreModel } from "./models.ts";
export { Module } from "./module.ts";
export {
  AdamW,
  type AdamWOptions,
  learningRateAt,
  readControl,
  type Schedule,
  type ScheduleName,
} from "./optimizer.ts";
export { type AdapterFolder, adapterFiles, openAdapter, readAdapterFolder } from "./peft.ts";
export { loadCausalLM, loadConfig, loadScoreModel, loadWeights, modelFiles } from "./pretrained.ts";
export { type PromptLogProbs, promptLogProbs } from "./prompt-logprobs.ts";
export type { SamplingParams } from "./sampling.ts";
export type { TextTokenizer } from "./text-tokenizer.ts";
