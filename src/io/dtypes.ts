/** The types of items in safetensors files. */
export type DType =
  | "F64"
  | "I64"
  | "U64"
  | "F32"
  | "I32"
  | "U32"
  | "F16"
  | "BF16"
  | "I16"
  | "U16"
  | "I8"
  | "U8"
  | "BOOL";

/** Bytes of one item. */
export const BYTES: Readonly<Record<DType, number>> = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
};

/** The number of items; infinite or inexact products cannot equal a byte count, so they need no check of their own. */
export function product(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}
