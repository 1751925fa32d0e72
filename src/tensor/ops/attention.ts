/** Fused causal attention over packed sequences: forward and gradient never hold a [rows, rows] matrix. */
import { caps } from "../../gpu/device.ts";
import { type Kernel, type KernelSpec, kernel } from "../../gpu/kernel.ts";
import { registerSelfTest } from "../../gpu/self-tests.ts";
import { addWork, run } from "../../gpu/stream.ts";
import { type AttentionVariant, attentionTile, attentionVariant, matricesForAttention } from "../../gpu/variants.ts";
import { attentionBackwardKeyValue, attentionBackwardQuery, attentionForward } from "../../shaders/attention.wgsl.ts";
import {
  matrixBackwardKeyValue,
  matrixBackwardQuery,
  matrixForward,
  matrixTurnsBack,
} from "../../shaders/attention-matrix.wgsl.ts";
import { tiledBackwardKeyValue, tiledBackwardQuery, tiledForward } from "../../shaders/attention-tiled.wgsl.ts";
import { TILED_BLOCK, type TiledShape, turnsBack } from "../../shaders/attention-tiles.wgsl.ts";
import { HIGH, LOW } from "../../shaders/rope.wgsl.ts";
import { backward, empty, record, recordMany, type Tensor, tensor } from "../core.ts";
import { type BlockSize, type Packing, packing } from "../packing.ts";
import { testAttention, testHalfAttention } from "./self-tests.ts";

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
  variant?: AttentionVariant;
}

/** How one pass runs: kernel texts, constants and the block table they walk. */
interface Plan {
  /** Part of the kernels' names: plans of one label have the same texts. */
  label: string;
  forward: () => string;
  backwardQuery: () => string;
  backwardKeyValue: () => string;
  /** What the kernels use of subgroups. */
  uses: Pick<KernelSpec, "subgroups" | "matrices">;
  consts: Record<string, number>;
  /** The gradients' kernels also read the table of angles. */
  turned: boolean;
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
  return attend(qkv, packing, options);
}

/** How queries and keys were turned by their positions before; not recorded, so that their gradients have to be turned back. */
export interface Turned {
  /** See `angleTable`. */
  angles: Tensor;
  /** Turns the gradient of qkv back in place, for kernels that do not as they store it. */
  back: (gradient: Tensor) => void;
}

/** `attention`, whose gradient goes back to before the turn. */
export function attend(qkv: Tensor, packing: Packing, options: AttentionOptions, turned?: Turned): Tensor {
  const { heads, kvHeads, headDim } = options;
  checkShapes(qkv, packing, options);
  const scale = options.scale ?? 1 / Math.sqrt(headDim);
  const scale2 = scale * Math.LOG2E;
  const rows = packing.rows;
  const d4 = headDim / 4;
  const work = packing.pairs * heads * headDim;
  const variant = options.variant ?? attentionVariant(caps(), { T: qkv.dtype, d4 });
  if (variant === "matrix" && qkv.dtype !== "f16") throw new Error("attention: matrix units need qkv in f16");
  const cap = options.softcap ?? 0;
  // A window that no sequence outgrows is none.
  const window = options.window && options.window < packing.maxLength ? options.window : 0;
  const features = { window: window > 0, softcap: cap > 0, turned: 0 };
  const limits = [window, cap * Math.LOG2E];
  const out = empty([rows, heads * headDim], qkv.dtype, "attention");
  const stats = empty([rows, heads], "f32", "attention");
  {
    const chosen = plan(variant, d4, "forward", features);
    const { table, count } = packing.blocks[chosen.block];
    const tasks = count * heads;
    const buffers = [qkv.view, table.view, out.view, stats.view];
    const all = { T: qkv.dtype, ...chosen.consts };
    run(forward(chosen), all, buffers, [tasks, d4, heads, kvHeads, scale2, ...limits], tasks);
    addWork(4 * work);
  }
  return record(
    "attention",
    [qkv],
    out,
    (dout) => {
      const half = (turned?.angles.shape[1] ?? 0) / 8;
      const fused = turned !== undefined && turnsBackIn(variant, d4, half);
      const chosen = plan(variant, d4, "backward", { ...features, turned: fused ? half : 0 });
      const { table, count } = packing.blocks[chosen.block];
      const dqkv = empty(qkv.shape, qkv.dtype, "attention_grad");
      const delta = empty([rows, heads], "f32", "attention_grad");
      const all = { T: qkv.dtype, ...chosen.consts, ...(fused ? { LOW, HIGH } : {}) };
      const angles = fused ? [turned.angles.view] : [];
      const forQuery = [qkv.view, out.view, dout.view, stats.view, table.view, dqkv.view, delta.view, ...angles];
      const scalars = [d4, heads, kvHeads, scale2, scale, ...limits];
      run(backwardQuery(chosen), all, forQuery, [count * heads, ...scalars], count * heads);
      const forKeyValue = [qkv.view, dout.view, stats.view, delta.view, table.view, dqkv.view, ...angles];
      run(backwardKeyValue(chosen), all, forKeyValue, [count * kvHeads, ...scalars], count * kvHeads);
      addWork(14 * work);
      if (!fused) turned?.back(dqkv);
      return [dqkv];
    },
    [stats],
  );
}

/** Whether the gradient's kernels turn it back as they store it. */
function turnsBackIn(variant: AttentionVariant, d4: number, half: number): boolean {
  if (variant === "matrix") return matrixTurnsBack({ d4 }, half);
  return variant === "tiled" && turnsBack({ d4, ...attentionTile(d4) }, half);
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
  variant: AttentionVariant,
  d4: number,
  pass: "forward" | "backward",
  features: Pick<TiledShape, "window" | "softcap" | "turned">,
): Plan {
  const { turned, window, softcap } = features;
  const suffix = `${window ? "_window" : ""}${softcap ? "_softcap" : ""}${turned ? `_turned${turned}` : ""}`;
  if (variant === "tiled") {
    const { rows, items, lanes } = attentionTile(d4);
    const shape = () => ({ d4, rows, items, lanes, ...features });
    return {
      label: `tiled_d${d4 * 4}_${rows}x${items}x${lanes}${suffix}`,
      forward: () => tiledForward(shape()),
      backwardQuery: () => tiledBackwardQuery(shape()),
      backwardKeyValue: () => tiledBackwardKeyValue(shape()),
      uses: {},
      consts: {},
      turned: turned > 0,
      block: TILED_BLOCK,
    };
  }
  if (variant === "matrix") {
    const matrices = matricesForAttention(caps(), d4);
    if (!matrices) throw new Error(`attention: no matrix units for heads of ${4 * d4} columns here`);
    const { m, n, k, lanes } = matrices;
    const shape = () => ({ d4, ...matrices, ...features });
    return {
      label: `matrix_d${d4 * 4}_${m}x${n}x${k}_${lanes}${suffix}`,
      forward: () => matrixForward(shape()),
      backwardQuery: () => matrixBackwardQuery(shape()),
      backwardKeyValue: () => matrixBackwardKeyValue(shape()),
      uses: { subgroups: true, matrices: true },
      consts: {},
      turned: turned > 0,
      block: TILED_BLOCK,
    };
  }
  const WG = variant === "shuffle" ? caps().subgroupSize : 8;
  // Two keys at a time beyond 64 columns: the text is unrolled over both, and lavapipe takes seconds to compile more.
  const step = pass === "backward" ? 1 : d4 > 16 ? 2 : 4;
  const shape = { d4, rows: 16 / WG, step, source: variant, window, softcap };
  return {
    label: `${variant}_d${d4 * 4}_r${shape.rows}${suffix}`,
    forward: () => attentionForward(shape),
    backwardQuery: () => attentionBackwardQuery(shape),
    backwardKeyValue: () => attentionBackwardKeyValue(shape),
    uses: { subgroups: variant === "shuffle" },
    consts: { WG },
    turned: false,
    block: 16,
  };
}

const made = new Map<string, Kernel>();

function variantOf(pass: string, { label }: Plan, make: (name: string) => Kernel): Kernel {
  const name = `${pass}_${label}`;
  const found = made.get(name) ?? make(name);
  made.set(name, found);
  return found;
}

const anglesOf = ({ turned }: Plan): Record<string, string> => (turned ? { angles: "read vec4f" } : {});

const shapeScalars = { tasks: "u32", d4: "u32", heads: "u32", kvHeads: "u32", scale2: "f32" } as const;
const limitScalars = { window: "u32", cap2: "f32" } as const;

const forward = (chosen: Plan): Kernel =>
  variantOf("attention_fwd", chosen, (name) =>
    kernel({
      name,
      code: chosen.forward(),
      bindings: { qkv: "read vec4<T>", blocks: "read vec4<u32>", out: "write vec4<T>", stats: "write f32" },
      scalars: { ...shapeScalars, ...limitScalars },
      ...chosen.uses,
    }),
  );

const backwardQuery = (chosen: Plan): Kernel =>
  variantOf("attention_dq", chosen, (name) =>
    kernel({
      name,
      code: chosen.backwardQuery(),
      bindings: {
        qkv: "read vec4<T>",
        out: "read vec4<T>",
        dout: "read vec4<T>",
        stats: "read f32",
        blocks: "read vec4<u32>",
        dqkv: "write vec4<T>",
        delta: "write f32",
        ...anglesOf(chosen),
      },
      scalars: { ...shapeScalars, scale: "f32", ...limitScalars },
      ...chosen.uses,
    }),
  );

const backwardKeyValue = (chosen: Plan): Kernel =>
  variantOf("attention_dkv", chosen, (name) =>
    kernel({
      name,
      code: chosen.backwardKeyValue(),
      bindings: {
        qkv: "read vec4<T>",
        dout: "read vec4<T>",
        stats: "read f32",
        delta: "read f32",
        blocks: "read vec4<u32>",
        dqkv: "write vec4<T>",
        ...anglesOf(chosen),
      },
      scalars: { ...shapeScalars, scale: "f32", ...limitScalars },
      ...chosen.uses,
    }),
  );

registerSelfTest(
  testAttention("tiled attention", 32, (qkv, rows) =>
    attention(qkv, packing([rows]), { heads: 1, kvHeads: 1, headDim: 32, variant: "tiled" }),
  ),
);

const inMatrices = testHalfAttention("matrix attention", 64, (qkv, dout, rows) => {
  qkv.requiresGrad = true;
  const out = attention(qkv, packing([rows]), { heads: 2, kvHeads: 1, headDim: 64, variant: "matrix" });
  const gradient = tensor(new Float32Array(qkv.size), qkv.shape, "f16");
  qkv.grad = gradient;
  const copy = out.alias(out.shape, "self-test"); // backward() frees the original
  const loss = empty([1]);
  recordMany("self-test", [out], [loss], () => [dout]);
  backward(loss);
  return { out: copy, gradient };
});
registerSelfTest({ ...inMatrices, passes: async () => !matricesForAttention(caps(), 16) || inMatrices.passes() });
