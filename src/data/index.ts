/**
 * Data: records and the files they come from, named datasets, tokenizers, chat templates, and the built-in worlds.
 * @module webrlhf/data
 */
export { type Agreement, agreementMatrix, type Label } from "./agreement.ts";
export {
  answerExample,
  type PreferenceExample,
  type PrepareOptions,
  type PromptExample,
  type Prompted,
  PromptTooLongError,
  preferenceExample,
  prepareAll,
  promptExample,
  type SftExample,
  sftExample,
  textExamples,
} from "./batches.ts";
export { type BpeOptions, type TokenizerJson, type TrainedTokenizer, trainBpe } from "./bpe.ts";
export { builtinTemplate, registerChatTemplate } from "./builtin-templates.ts";
export { type ChatMessage, ChatTemplate, type RenderOptions, type Span } from "./chat-template.ts";
export { counted, countsOf, type DataCounts, type Histogram, histogram } from "./counts.ts";
export {
  type ConversationWriter,
  Dataset,
  type DatasetOptions,
  type DatasetPart,
  type DatasetPrompt,
  type LabelledExample,
  type PairExample,
  type PromptRoom,
  type RatedExamples,
  type RecordSource,
  type SequenceOptions,
  type Wanted,
} from "./dataset.ts";
export { type Description, describe, labelBalance, type Spread, spread } from "./describe.ts";
export { type FileFormat, formatOf, registerFormat } from "./formats.ts";
export { conversationText, type Message, renderMessages, type Style } from "./messages.ts";
export { ARMO_ATTRIBUTES, chosenColumns, type Rated, ratedRows } from "./rated.ts";
export { type Consumer, consume, learned } from "./raw/consumers.ts";
export type { LoadOptions, Locate, Published, RawDataset, RawRow, SampleTools } from "./raw/dataset.ts";
export {
  type LengthLimits,
  lastOfEach,
  type SplitOptions,
  sequenceLength,
  splitTrainTest,
  textsOf,
  wrongLength,
} from "./raw/filters.ts";
export { loadMixture } from "./raw/load.ts";
export { type MixtureMap, type MixturePart, mixed, mixtureText, parseMixture } from "./raw/mixture.ts";
export type { Proportion } from "./raw/proportion.ts";
export { allDatasets, findDataset, loadSamples, registerDataset, streamSamples } from "./raw/registry.ts";
export type { RawSample, Skipped } from "./raw/sample.ts";
export {
  asKind,
  type DataSource,
  type Entry,
  entriesOf,
  loadRecords,
  mustBe,
  type ReadOptions,
  readEntries,
  readRecords,
  readRows,
  shuffled,
  splitRecords,
} from "./readers.ts";
export type {
  DataRecord,
  Labelled,
  Origin,
  Preference,
  PromptCompletion,
  PromptOnly,
  RecordKind,
  RecordOf,
  TextRecord,
} from "./records.ts";
export type { Row, RowOptions } from "./row.ts";
export type { SampledEpisode, SampledTurn } from "./sampled-episodes.ts";
export { type Columns, type RowSchema, registerSchema, type SchemaOptions, schemaOf } from "./schemas.ts";
export { readSampledRows, rowLine, type SampledRow, type ScoredRow, scored } from "./scored-rows.ts";
export type { Split } from "./split.ts";
export { StreamDecoder, type StreamOptions } from "./stream-decoder.ts";
export { type DecodeOptions, type EncodeOptions, Tokenizer } from "./tokenizer.ts";
export * from "./world/cycle.ts";
export * from "./world/domains.ts";
export * from "./world.ts";
