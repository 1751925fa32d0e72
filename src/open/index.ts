/** Names become things: models, tokenizers, rewards, datasets and runs, in Node, in Deno and in browsers. */

export type { UploadedFile } from "../io/hub-upload.ts";
export type { SettingsTable } from "../settings/index.ts";
export type { DataFilesOptions } from "./data-files.ts";
export { type OpenDatasetOptions, openDataset } from "./datasets.ts";
export { type EnvironmentLike, openEnvironment } from "./environments.ts";
export type { Remedy } from "./estimate/fit.ts";
export type { Kind as MemoryKind, MemoryEstimate } from "./estimate/memory.ts";
export { type EstimateOptions, estimateRun, type RunEstimate } from "./estimate.ts";
export { type About, factsOf } from "./facts.ts";
export { foreignNames } from "./foreign.ts";
export { type HubChoice, type Located, labelOf, locateDataset, locateModel } from "./hub.ts";
export type { FoundInput } from "./inputs.ts";
export { type Judge, type JudgeOptions, openJudge } from "./judge.ts";
export { type LlmJudgeOptions, openLlmJudge } from "./llm-judge.ts";
export { type LoggedPlace, type LoggerChoice, loggerNames, openLoggers } from "./loggers.ts";
export {
  defineMethod,
  type Method,
  type OpenedRun,
  openRun,
  type RunSurroundings,
  type TypedMethod,
} from "./method.ts";
export { methodGroups, methods } from "./methods.ts";
export {
  contextOf,
  type LoraChoice,
  type OpenModelOptions,
  type OpenScoreModelOptions,
  openModel,
  openScoreModel,
  type WithTokenizer,
  withModels,
} from "./models.ts";
export { ModelOpener, type ModelOptions, type PeftOptions } from "./opener.ts";
export { loadPlugins, type PluginApi } from "./plugins.ts";
export { type AskedFormat, type PrecisionOptions, weightFormat, weightFormats } from "./precision.ts";
export { type Product, produce } from "./produce.ts";
export { type HubTarget, modelToPush, openPush, type Push } from "./push.ts";
export {
  type Overrides,
  parseRecipe,
  type Recipe,
  type RecipeStage,
  type RecipeVariable,
  resolveRecipe,
  type Stage,
} from "./recipe.ts";
export {
  goldOf,
  openReward,
  openRewards,
  type RewardLike,
  type RewardOptions,
  type RewardServerOptions,
  serverReward,
  type WeightedReward,
  worldGold,
} from "./rewards.ts";
export type { Rows, RowsExport } from "./rows.ts";
export { onlyModel, type ServedRun, type ServerOptions, serverClient, serverSource } from "./servers.ts";
export * from "./settings.ts";
export type { HubAccess, Surroundings } from "./surroundings.ts";
export { type Attempt, type ClosableRun, Patience, persisting, surviving } from "./surviving.ts";
export { openTokenizer, type TokenizerOptions, tokenizerFiles } from "./tokenizer.ts";
export { trainedFiles } from "./trained.ts";
