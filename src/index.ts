/**
 * webrlhf: devices, tensors and their operations, files and errors. Models are in `webrlhf/nn`, data in `webrlhf/data`,
 * trainers in `webrlhf/rlhf`; `webrlhf/open` makes all of these from names, `webrlhf/cli` is the command line.
 * @module webrlhf
 */
export { adapterNote, type Caps, caps, closeDevice, type OpenOptions, openDevice } from "./gpu/device.ts";
export { DeviceLostError, OutOfMemoryError } from "./gpu/failures.ts";
export { type KernelTime, profile } from "./gpu/profile.ts";
export type { KernelFamily } from "./gpu/self-tests.ts";
export { finish, type Stats, stats } from "./gpu/stream.ts";
export {
  type HubOptions,
  lookAtModel,
  type ModelOnHub,
  parseRepo,
  type Repo,
  resolveDataset,
  resolveModel,
} from "./io/hub.ts";
export { browserStore } from "./io/hub-browser.ts";
export type { Download, HubStore } from "./io/hub-store.ts";
export { HttpError, type HttpOptions, OpenAIClient, type OpenAIClientOptions } from "./io/openai-client.ts";
export type * from "./io/openai-types.ts";
export {
  type DType as StoredType,
  type FloatTensor,
  type FloatType,
  type Header as SafetensorsHeader,
  parseSafetensors,
  type RawArray,
  type RawTensor,
  type SafeTensors,
  type TensorInfo,
  type WriteOptions,
  writeSafetensors,
} from "./io/safetensors.ts";
export { directoryFiles } from "./runtime/directory-files.ts";
export { isUserError, UserError } from "./runtime/errors.ts";
export { diskFiles, type FileContent, type Files, memoryFiles } from "./runtime/files.ts";
export type { OpenFile } from "./runtime/open.ts";
export { opfsFiles } from "./runtime/opfs.ts";
export { overlayFiles } from "./runtime/overlay.ts";
export { droppedFiles, fileListFiles } from "./runtime/picked-files.ts";
export { blobFiles, servedFiles, urlFiles } from "./runtime/served.ts";
export { type UnzipLimits, unzipFiles } from "./runtime/unzip.ts";
export { VERSION } from "./runtime/version.ts";
export { contentsOf, type ZipOptions, zipFiles, zipStream } from "./runtime/zip.ts";
export {
  backward,
  checkpoint,
  type DType,
  full,
  noGrad,
  type Shape,
  scope,
  Tensor,
  tensor,
  zeros,
} from "./tensor/core.ts";
export { defineOp, type Op, type OpCall, type OpSpec, type ScalarType } from "./tensor/define.ts";
export {
  type CheckGradientOptions,
  checkGradient,
  type GradientOf,
  grad,
  valueAndGrad,
  type Wrt,
} from "./tensor/grad.ts";
export { type Gate, glu, swiglu } from "./tensor/ops/activation.ts";
export { type AttentionOptions, attention } from "./tensor/ops/attention.ts";
export { cast } from "./tensor/ops/cast.ts";
export {
  type DivergenceOptions,
  type Predictor,
  type TokenDivergence,
  tokenDivergence,
} from "./tensor/ops/divergence.ts";
export { type DropoutKey, dropout } from "./tensor/ops/dropout.ts";
export { elements, range } from "./tensor/ops/elements.ts";
export * from "./tensor/ops/elementwise.ts";
export { embedding, gatherRows } from "./tensor/ops/embedding.ts";
export { type LogProbOptions, type TokenLogProbs, tokenLogProbs } from "./tensor/ops/logprobs.ts";
export { type LinearOptions, linear, type MatmulOptions, matmul } from "./tensor/ops/matmul.ts";
export { layerNorm, rmsNorm } from "./tensor/ops/norm.ts";
export { type QkNormOptions, qkNorm } from "./tensor/ops/qk-norm.ts";
export { mean, sum } from "./tensor/ops/reduce.ts";
export { type RopeOptions, rope } from "./tensor/ops/rope.ts";
export { type Segment, segmentSums } from "./tensor/ops/segments.ts";
export { clone, concat, detach, reshape, slice } from "./tensor/ops/shape.ts";
export { logSoftmax, softmax } from "./tensor/ops/softmax.ts";
export { sort } from "./tensor/ops/sort.ts";
export { type TopTokens, topLogProbs } from "./tensor/ops/top-tokens.ts";
export { type Packing, packing } from "./tensor/packing.ts";
export { type Init, Parameter, ParameterStore } from "./tensor/params.ts";
export { QuantizedWeight, type Weight } from "./tensor/quantized.ts";
