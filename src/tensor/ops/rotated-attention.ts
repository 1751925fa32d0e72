/** Attention of whole sequences whose queries and keys turn with their positions. */
import { caps } from "../../gpu/device.ts";
import type { Tensor } from "../core.ts";
import type { Packing } from "../packing.ts";
import { type AttentionOptions, attend, attention } from "./attention.ts";
import { angleTable, type RopeOptions, rope, ropeInPlace } from "./rope.ts";

/**
 * `rope`, then `attention`. On GPUs qkv is turned in place, which saves a copy of it until the gradient, and the gradient is
 * turned back by the kernels that compute it where their tiles allow.
 * @param qkv [N, (H + 2 kvHeads) * D], which nobody else reads
 * @returns [N, H * D]
 */
export function rotatedAttention(
  qkv: Tensor,
  packing: Packing,
  options: AttentionOptions & Omit<RopeOptions, "maxPositions">,
): Tensor {
  const { positions } = packing;
  if (caps().kind === "cpu") return attention(rope(qkv, positions, options), packing, options);
  ropeInPlace(qkv, positions, options);
  const back = (gradient: Tensor) => ropeInPlace(gradient, positions, options, -1);
  return attend(qkv, packing, options, { angles: angleTable(options), back });
}
