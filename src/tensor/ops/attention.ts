/** Fused causal attention over packed sequences: forward and gradient never hold a [rows, rows] matrix. */
import { caps } from "../../gpu/device.ts";
import { type Kernel, kernel } from "../../gpu/kernel.ts";
import { registerSelfTest } from "../../gpu/self-tests.ts";
import { addWork, run } from "../../gpu/stream.ts";
import { attentionVariant } from "../../gpu/variants.ts";
import {
  type AttentionShape,
  type AttentionSource,
  attentionBackwardKeyValue,
  attentionBackwardQuery,
  attentionForward,
} from "../../shaders/attention.wgsl.ts";
import { empty, record, type Tensor } from "../core.ts";
import { type BlockSize, type Packing, packing } from "../packing.ts";
import { testAttention } from "./self-tests.ts";

/** Heads of an attention and what its scores go through. */
export interface AttentionOptions {
  /** Query heads H. */
  heads: number;
  /** Key/value heads; divides H. */
  kvHeads: number;
  /** D, a multiple of 4 up to 256. */
  headDim: number;
  /** Factor on the scores; default 1/sqrt(D). */
  scale?: number;
  /** Scores s become softcap * tanh(s / softcap); default null, no cap. */
  softcap?: number | null;
  /** A row sees this many rows, itself included; default null, all before it. */
  window?: number | null;
  /**
   * Overrides the adapter's kernel variant; for tests and benches.
   * @internal
   */
  variant?: AttentionSource;
}

/** How one pass runs: kernel text, threads per workgroup and the block table it walks. */
interface Plan {
  shape: AttentionShape;
  consts: Record<string, number>;
  block: BlockSize;
}

/** Widest heads of the attention kernels. */
export const MAX_HEAD_DIM = 256;

/**
 * softmax(scale * q k^T) v with every row seeing the rows of its own sequence up to itself. Rows outside of any sequence
 * give 0 and receive no gradient.
 * @param qkv [N, (H + 2 kvHeads) * D]: query heads, key heads, value heads
 * @returns [N, H * D]
 */
export function attention(qkv: Tensor, packing: Packing, options: AttentionOptions): Tensor {
  const { heads, kvHeads, headDim } = options;
  checkShapes(qkv, packing, options);
  const scale = options.scale ?? 1 / Math.sqrt(headDim);
  const scale2 = scale * Math.LOG2E;
  const rows = packing.rows;
  const d4 = headDim / 4;
  const work = packing.pairs * heads * headDim;
  const source = options.variant ?? attentionVariant(caps());
  const cap = options.softcap ?? 0;
  // A window that no sequence outgrows is none.
  const window = options.window && options.window < packing.maxLength ? options.window : 0;
  const features = { window: window > 0, softcap: cap > 0 };
  const limits = [window, cap * Math.LOG2E];
  const out = empty([rows, heads * headDim], qkv.dtype, "attention");
  const stats = empty([rows, heads], "f32", "attention");
  {
    const { shape, consts, block } = plan(source, d4, "forward", features);
    const { table, count } = packing.blocks[block];
    const tasks = count * heads;
    const buffers = [qkv.view, table.view, out.view, stats.view];
    const all = { T: qkv.dtype, ...consts };
    run(forward(shape), all, buffers, [tasks, d4, heads, kvHeads, scale2, ...limits], tasks);
    addWork(4 * work);
  }
  return record(
    "attention",
    [qkv],
    out,
    (dout) => {
      const { shape, consts, block } = plan(source, d4, "backward", features);
      const { table, count } = packing.blocks[block];
      const dqkv = empty(qkv.shape, qkv.dtype, "attention_grad");
      const delta = empty([rows, heads], "f32", "attention_grad");
      const all = { T: qkv.dtype, ...consts };
      const forQuery = [qkv.view, out.view, dout.view, stats.view, table.view, dqkv.view, delta.view];
      const scalars = [d4, heads, kvHeads, scale2, scale, ...limits];
      run(backwardQuery(shape), all, forQuery, [count * heads, ...scalars], count * heads);
      const forKeyValue = [qkv.view, dout.view, stats.view, delta.view, table.view, dqkv.view];
      run(backwardKeyValue(shape), all, forKeyValue, [count * kvHeads, ...scalars], count * kvHeads);
      addWork(14 * work);
      return [dqkv];
    },
    [stats],
  );
}

function checkShapes(qkv: Tensor, packing: Packing, { heads, kvHeads, headDim }: AttentionOptions): void {
  if (heads % kvHeads !== 0) throw new Error(`attention: ${kvHeads} KV heads do not divide ${heads} query heads`);
  if (headDim % 4 !== 0 || headDim > MAX_HEAD_DIM) {
    throw new Error(`attention: head dimension ${headDim} is not a multiple of 4 up to ${MAX_HEAD_DIM}`);
  }
  const width = (heads + 2 * kvHeads) * headDim;
  if (qkv.size !== packing.rows * width) {
    throw new Error(`attention: qkv must be [${packing.rows}, ${width}], not [${qkv.shape}]`);
  }
}

function plan(
  source: AttentionSource,
  d4: number,
  pass: "forward" | "backward",
  features: Pick<AttentionShape, "window" | "softcap">,
): Plan {
  // Two keys at a time beyond 64 columns: the text is unrolled over both, and lavapipe takes seconds to compile more.
  const step = pass === "backward" ? 1 : d4 > 16 ? 2 : 4;
  if (source === "tile") {
    // K and V tiles within 16 KiB, a whole number of steps.
    const TILE = Math.min(32, Math.floor(512 / d4 / 4) * 4);
    return { shape: { d4, rows: 1, step, source, ...features }, consts: { WG: 64, TILE }, block: 64 };
  }
  const WG = source === "shuffle" ? caps().subgroupSize : 8;
  return { shape: { d4, rows: 16 / WG, step, source, ...features }, consts: { WG }, block: 16 };
}

const made = new Map<string, Kernel>();

function variantOf(name: string, shape: AttentionShape, make: (label: string) => Kernel): Kernel {
  const features = `${shape.window ? "_window" : ""}${shape.softcap ? "_softcap" : ""}`;
  const label = `${name}_${shape.source}_d${shape.d4 * 4}_r${shape.rows}${features}`;
  const found = made.get(label) ?? make(label);
  made.set(label, found);
  return found;
}

const shapeScalars = { tasks: "u32", d4: "u32", heads: "u32", kvHeads: "u32", scale2: "f32" } as const;
const limitScalars = { window: "u32", cap2: "f32" } as const;

const forward = (shape: AttentionShape): Kernel =>
  variantOf("attention_fwd", shape, (name) =>
    kernel({
      name,
      code: attentionForward(shape),
      bindings: { qkv: "read vec4<T>", blocks: "read vec4<u32>", out: "write vec4<T>", stats: "write f32" },
      scalars: { ...shapeScalars, ...limitScalars },
      subgroups: shape.source === "shuffle",
    }),
  );

const backwardQuery = (shape: AttentionShape): Kernel =>
  variantOf("attention_dq", shape, (name) =>
    kernel({
      name,
      code: attentionBackwardQuery(shape),
      bindings: {
        qkv: "read vec4<T>",
        out: "read vec4<T>",
        dout: "read vec4<T>",
        stats: "read f32",
        blocks: "read vec4<u32>",
        dqkv: "write vec4<T>",
        delta: "write f32",
      },
      scalars: { ...shapeScalars, scale: "f32", ...limitScalars },
      subgroups: shape.source === "shuffle",
    }),
  );

const backwardKeyValue = (shape: AttentionShape): Kernel =>
  variantOf("attention_dkv", shape, (name) =>
    kernel({
      name,
      code: attentionBackwardKeyValue(shape),
      bindings: {
        qkv: "read vec4<T>",
        dout: "read vec4<T>",
        stats: "read f32",
        delta: "read f32",
        blocks: "read vec4<u32>",
        dqkv: "write vec4<T>",
      },
      scalars: { ...shapeScalars, scale: "f32", ...limitScalars },
      subgroups: shape.source === "shuffle",
    }),
  );

registerSelfTest(
  testAttention("tiled attention", 32, (qkv, rows) =>
    attention(qkv, packing([rows]), { heads: 1, kvHeads: 1, headDim: 32, variant: "tile" }),
  ),
);
