/** Sums over ranges of a vector: per-token values become one value per sequence. */
import { kernel } from "../../gpu/kernel.ts";
import { run } from "../../gpu/stream.ts";
import { SEGMENT_SPREAD, SEGMENT_SUMS } from "../../shaders/segments.wgsl.ts";
import { empty, record, type Tensor, tensor, zeros } from "../core.ts";
import { WG } from "../raw.ts";

const sums = kernel({
  name: "segment_sums",
  code: SEGMENT_SUMS,
  bindings: { x: "read f32", bounds: "read u32", y: "write f32" },
  scalars: { segments: "u32" },
});
const spread = kernel({
  name: "segment_sums_grad",
  code: SEGMENT_SPREAD,
  bindings: { dy: "read f32", bounds: "read u32", dx: "write f32" },
  scalars: { segments: "u32" },
});

/** A range of a vector; of length 0 it sums to 0. */
export interface Segment {
  readonly first: number;
  readonly length: number;
}

/**
 * y[s] = sum of x over segment s, in a fixed order.
 * @param x f32 vector
 * @param segments must not overlap; they need not cover x
 * @returns [segments]
 */
export function segmentSums(x: Tensor, segments: readonly Segment[]): Tensor {
  for (const { first, length } of segments) {
    if (first >= 0 && length >= 0 && first + length <= x.size) continue;
    throw new Error(`segmentSums: ${length} values from ${first} on, in a vector of ${x.size}`);
  }
  const count = segments.length;
  const bounds = tensor(Uint32Array.from(segments.flatMap(({ first, length }) => [first, first + length])));
  const y = empty([count], "f32", "segmentSums");
  run(sums, { WG }, [x.view, bounds.view, y.view], [count], count);
  const vjp = (dy: Tensor, [sink]: (false | true | Tensor)[]) => {
    const dx = typeof sink === "boolean" ? zeros(x.shape, "segmentSums_grad") : sink;
    run(spread, { WG }, [dy.view, bounds.view, dx.view], [count], count);
    return [dx];
  };
  return record("segmentSums", [x], y, vjp, [bounds]);
}
