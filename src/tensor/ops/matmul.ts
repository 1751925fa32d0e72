/** Matrix products with gradients: `linear` for layers, `matmul` for everything else. */
import { record, type Shape, type Sink, sumMiddle, Tensor, willRecord } from "../core.ts";
import { mayBeLate } from "../late-sums.ts";
import { trainable, type Weight } from "../quantized.ts";
import { cast } from "./cast.ts";
import { add } from "./elementwise.ts";
import { type GemmOptions, gemm } from "./gemm.ts";
import { largeLinear } from "./large-linear.ts";
import { isLarge } from "./row-blocks.ts";

export { type GemmOptions, gemm };

/** Summands that `linear` adds to its product. */
export interface LinearOptions {
  /** [out], added to every row. */
  bias?: Tensor;
  /** [N, out], added to the result (a skip connection, for free). */
  residual?: Tensor;
  /** Type of the result; default f16 where rows, weight and residual have it, else f32. */
  type?: "f32" | "f16";
  /**
   * The residual is not overwritten while the result is used, so that the result may wait for who reads it first: unsummed.ts.
   * @internal
   */
  mayWait?: boolean;
}

/**
 * y = x W^T (+ bias) (+ residual) for rows x [N, in] and a weight [out, in]; leading dimensions of x are rows, too. All of them
 * are f32 or f16, each as it likes; gradients have the types of what they are of, or of where they are added. Throws when the shapes do not fit together.
 */
export function linear(x: Tensor, weight: Weight, options: LinearOptions = {}): Tensor {
  const { bias, residual, type, mayWait } = options;
  const [outSize, inSize] = weight.shape;
  if (weight.shape.length !== 2) throw new Error(`linear: the weight has shape [${weight.shape}], not [out, in]`);
  if (x.shape[x.shape.length - 1] !== inSize) {
    throw new Error(`linear: rows of [${x.shape}] do not fit a weight [${weight.shape}] = [out, in]`);
  }
  const rows = x.size / inSize;
  const shape = x.shape.slice();
  shape[shape.length - 1] = outSize;
  const halves =
    x.dtype === "f16" && residual?.dtype !== "f32" && !(weight instanceof Tensor && weight.dtype === "f32");
  const to = type ?? (halves ? "f16" : "f32");
  if (isLarge(weight)) {
    const product = largeLinear(x, weight, shape);
    const sum = bias ? add(product, bias) : product;
    return cast(residual ? add(sum, residual) : sum, to);
  }
  const trained = trainable(weight);
  const inputs = [x, ...trained];
  if (bias) inputs.push(bias);
  if (residual) inputs.push(residual);
  const inParts = mayWait && !willRecord(inputs);
  const y = gemm(x, weight, "NT", [rows, outSize, inSize], { bias, add: residual, shape, type: to, inParts });
  return record("linear", inputs, y, (dy, sinks) => {
    const grads = [into(sinks[0], x, (o) => gemm(dy, weight, "NN", [rows, inSize, outSize], o))];
    for (const w of trained) grads.push(into(sinks[1], w, (o) => gemm(dy, x, "TN", [outSize, inSize, rows], o)));
    if (bias) {
      const sink = sinks[grads.length];
      const target = typeof sink === "object" ? sink : undefined;
      grads.push(sink === false ? null : sumMiddle(dy, 1, rows, outSize, bias.shape, target));
    }
    if (residual) grads.push(cast(dy, residual.dtype === "f16" ? "f16" : "f32")); // the engine adds it where a sum is wanted
    return grads;
  });
}

/** Operands of `matmul` that are transposed. */
export interface MatmulOptions {
  /** Use the transpose of the last two dimensions of a. At most one of the two. Default false. */
  transA?: boolean;
  /** The same for b. Default false. */
  transB?: boolean;
}

/**
 * op(a) op(b) over the last two dimensions. Leading dimensions are a batch: the same in both, or absent in one operand,
 * which is then shared. Throws when the shapes do not fit together.
 */
export function matmul(a: Tensor, b: Tensor, { transA = false, transB = false }: MatmulOptions = {}): Tensor {
  const what = `matmul: [${a.shape}]${transA ? "^T" : ""} [${b.shape}]${transB ? "^T" : ""}`;
  if (a.shape.length < 2 || b.shape.length < 2) throw new Error(`${what}: both need two dimensions`);
  if (transA && transB) throw new Error(`${what}: at most one of transA and transB`);
  const [ra, ca] = a.shape.slice(-2);
  const [rb, cb] = b.shape.slice(-2);
  const [m, k, n] = [transA ? ca : ra, transA ? ra : ca, transB ? rb : cb];
  if (k !== (transB ? cb : rb)) throw new Error(`${what}: the inner dimensions differ`);
  const leadA = a.shape.slice(0, -2);
  const leadB = b.shape.slice(0, -2);
  const lead = leadA.length > 0 ? leadA : leadB;
  if (leadA.length > 0 && leadB.length > 0 && `${leadA}` !== `${leadB}`) throw new Error(`${what}: batches differ`);
  const batch = lead.reduce((x, y) => x * y, 1);
  const mode = transA ? "TN" : transB ? "NT" : "NN";
  const y = gemm(a, b, mode, [m, n, k], { batch, shape: [...lead, m, n] });
  // A shared operand's gradient is the sum over the batch: computed per product, summed by the engine's rule for shapes.
  const perA = [...lead, ra, ca];
  const perB = [...lead, rb, cb];
  return record("matmul", [a, b], y, (dy, [sa, sb]) => {
    const da = (o: Into) => {
      if (mode === "NN") return gemm(dy, b, "NT", [m, k, n], { batch, ...o });
      if (mode === "NT") return gemm(dy, b, "NN", [m, k, n], { batch, ...o });
      return gemm(b, dy, "NT", [k, m, n], { batch, ...o });
    };
    const db = (o: Into) => {
      if (mode === "NN") return gemm(a, dy, "TN", [k, n, m], { batch, ...o });
      if (mode === "NT") return gemm(dy, a, "TN", [n, k, m], { batch, ...o });
      return gemm(a, dy, "NN", [k, n, m], { batch, ...o });
    };
    return [shared(sa, a, perA, da), shared(sb, b, perB, db)];
  });
}

type Into = Pick<GemmOptions<Tensor>, "out" | "accumulate" | "late" | "shape" | "type">;

/** A gradient written where the sink says. */
function into(sink: Sink, like: Tensor, compute: (o: Into) => Tensor): Tensor | null {
  if (sink === false) return null;
  // Objects of one form: products read several times as fast from those.
  if (sink === true) {
    return compute({ out: undefined, accumulate: false, late: false, shape: like.shape, type: like.dtype });
  }
  compute({ out: sink, accumulate: true, late: mayBeLate(like, sink), shape: undefined, type: undefined });
  return sink;
}

/** As `into`, unless the operand was shared by a batch: then the gradient keeps the batch, and the engine sums it. */
function shared(sink: Sink, like: Tensor, full: Shape, compute: (o: Into) => Tensor): Tensor | null {
  if (full.length === like.shape.length) return into(sink, like, compute);
  return sink === false ? null : compute({ shape: full, type: like.dtype });
}
