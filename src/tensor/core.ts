/** Tensors, the scopes that own their memory, and the tape that differentiates them: what ops stand on. */
export { backward, checkpoint, noGrad, record, recordMany, type Sink, willRecord, withOwnTape } from "./tape.ts";
export {
  borrow,
  bytesOf,
  type DType,
  empty,
  full,
  type Late,
  type Shape,
  scope,
  sumMiddle,
  Tensor,
  tensor,
  tensorGroup,
  zeros,
} from "./tensor.ts";
