/** Sorting, for losses that compare distributions. */
import { kernel } from "../../gpu/kernel.ts";
import { run } from "../../gpu/stream.ts";
import { SORT, SORT_GRAD } from "../../shaders/sort.wgsl.ts";
import { empty, record, type Tensor } from "../core.ts";
import { WG } from "../raw.ts";

const forward = kernel({
  name: "sort",
  code: SORT,
  bindings: { x: "read f32", y: "write f32", place: "write u32" },
  scalars: { n: "u32" },
});
const backward = kernel({
  name: "sort_grad",
  code: SORT_GRAD,
  bindings: { dy: "read f32", place: "read u32", dx: "write f32" },
  scalars: { n: "u32" },
});

/** The values of a vector in ascending order; equal ones keep their order. For short vectors: it compares all with all. */
export function sort(x: Tensor): Tensor {
  const n = x.size;
  const groups = Math.ceil(n / WG);
  const y = empty([n], "f32", "sort");
  const place = empty([n], "u32", "sort");
  run(forward, { WG }, [x.view, y.view, place.view], [n], groups);
  const vjp = (dy: Tensor) => {
    const dx = empty([n], "f32", "sort_grad");
    run(backward, { WG }, [dy.view, place.view, dx.view], [n], groups);
    return [dx];
  };
  return record("sort", [x], y, vjp, [place]);
}
