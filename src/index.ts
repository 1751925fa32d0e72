/**
 * webrlhf: devices, tensors and their operations, files and errors. Models are in `webrlhf/nn`, data in `webrlhf/data`,
 * trainers in `webrlhf/rlhf`; `webrlhf/open` makes all of these from names, `webrlhf/cli` is the command line.
 * @module webrlhf
 */
export { adapterNote, type Caps, caps, closeDevice, type OpenOptions, openDevice } from "./gpu/device.ts";
export { type KernelTime, profile } from "./gpu/profile.ts";
export { finish, type Stats, stats } from "./gpu/stream.ts";
export { type HubOptions, parseRepo, type Repo, resolveDataset, resolveModel } from "./io/hub.ts";
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
export { isUserError, UserError } from "./runtime/errors.ts";
export { diskFiles, type FileContent, type Files, memoryFiles } from "./runtime/files.ts";
export type { OpenFile } from "./runtime/open.ts";
export { backward, noGrad, scope, Tensor, tensor, zeros } from "./tensor/core.ts";
export { type AttentionOptions, attention } from "./tensor/ops/attention.ts";
export * from "./tensor/ops/elementwise.ts";
export { tokenLogProbs } from "./tensor/ops/logprobs.ts";
export { linear, matmul } from "./tensor/ops/matmul.ts";
export { mean, sum } from "./tensor/ops/reduce.ts";
export { reshape } from "./tensor/ops/shape.ts";
export { type Packing, packing } from "./tensor/packing.ts";
export { Parameter, ParameterStore } from "./tensor/params.ts";
export { QuantizedWeight } from "./tensor/quantized.ts";
