/** Rows of packed weights as f32: those that follow one another, or those with given ids (an embedding table). */
import { type Kernel, kernel } from "../../gpu/kernel.ts";
import { run } from "../../gpu/stream.ts";
import { packedAccess, unpackRowsCode } from "../../shaders/packed.wgsl.ts";
import { empty, type Tensor } from "../core.ts";
import type { PackedWeight } from "../packed.ts";
import { packedBlocks } from "./row-blocks.ts";
import { walkPlan } from "./rows.ts";

const kernels = new Map<string, Kernel>();

function declare(format: PackedWeight["format"], width: 1 | 4, gather: boolean): Kernel {
  const name = `${gather ? "gather" : "unpack"}_${format}_${width}`;
  let found = kernels.get(name);
  if (!found) {
    const { bindings, code } = packedAccess[format];
    found = kernel({
      name,
      code: code + unpackRowsCode(width, gather),
      bindings: { ...bindings, ...(gather && { ids: "read u32" }), y: `write ${width === 4 ? "vec4<f32>" : "f32"}` },
      scalars: { rows: "u32", n: "u32", stride: "u32", tableRows: "u32", first: "u32" },
    });
    kernels.set(name, found);
  }
  return found;
}

/** Rows ids[0], ids[1], ... of a weight as f32, or rows first .. first + count - 1. Not recorded: it is frozen. */
export function unpackRows(weight: PackedWeight, which: Tensor | { first: number; count: number }): Tensor {
  const [tableRows, cols] = weight.shape;
  const ids = "first" in which ? null : which;
  const rows = "first" in which ? which.count : which.size;
  const { WG, LANES, width } = walkPlan(cols);
  const y = empty([rows, cols], "f32", "unpack");
  const kernel = declare(weight.format, width, ids !== null);
  const groups = Math.ceil((rows * LANES) / WG);
  const scalars = (count: number, first: number) => [rows, cols / width, weight.stride / width, count, first];
  if ("first" in which) {
    run(kernel, { WG, LANES }, [...weight.buffers, y.view], scalars(tableRows, which.first), groups);
    return y;
  }
  for (const block of packedBlocks(weight)) {
    const consts = { WG, LANES, LAST: block.first + block.count === tableRows };
    const buffers = [...block.rows.buffers, which.view, y.view];
    run(kernel, consts, buffers, scalars(block.count, block.first), groups);
  }
  return y;
}
