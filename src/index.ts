/** webrlhf: reinforcement learning from human feedback on WebGPU. Models are in `webrlhf/nn`, trainers in `webrlhf/rlhf`. */
export { preferenceExample, promptExample, sftExample } from "./data/batches.ts";
export { trainBpe } from "./data/bpe.ts";
export { StreamDecoder } from "./data/stream-decoder.ts";
export { Tokenizer } from "./data/tokenizer.ts";
export * from "./data/world.ts";
export { adapterNote, type Caps, caps, closeDevice, type OpenOptions, openDevice } from "./gpu/device.ts";
export { finish, type Stats, stats } from "./gpu/stream.ts";
export { parseSafetensors, writeSafetensors } from "./io/safetensors.ts";
export { isUserError, UserError } from "./runtime/errors.ts";
export { diskFiles, type Files, memoryFiles } from "./runtime/files.ts";
export { backward, noGrad } from "./tensor/autograd.ts";
export * from "./tensor/ops/elementwise.ts";
export { linear, matmul } from "./tensor/ops/matmul.ts";
export { mean, sum } from "./tensor/ops/reduce.ts";
export { reshape } from "./tensor/ops/shape.ts";
export { Parameter, ParameterStore } from "./tensor/params.ts";
export { scope } from "./tensor/scope.ts";
export { Tensor, tensor } from "./tensor/tensor.ts";
