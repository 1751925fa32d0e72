/**
 * Muon (Jordan et al. 2024) on one matrix: momentum, made orthogonal by five Newton-Schulz iterations in f32, and applied at the
 * scale at which its entries are as large as AdamW's updates are (Liu et al. 2025, arXiv 2502.16982).
 */
import { kernel } from "../../gpu/kernel.ts";
import type { BufferView } from "../../gpu/pool.ts";
import { run } from "../../gpu/stream.ts";
import { MUON_APPLY, MUON_MOMENTUM } from "../../shaders/muon.wgsl.ts";
import { noGrad, scope, type Tensor, tensor } from "../core.ts";
import { range } from "./elements.ts";
import { div, maximum, sqrt, square } from "./elementwise.ts";
import { gemm } from "./gemm.ts";
import { sum } from "./reduce.ts";
import { reshape } from "./shape.ts";

const takeMomentum = kernel({
  name: "muon_momentum",
  code: MUON_MOMENTUM,
  bindings: { g: "write f32", m: "write f32", control: "read f32" },
  scalars: { n: "u32", momentum: "f32" },
});
const apply = kernel({
  name: "muon_apply",
  code: MUON_APPLY,
  bindings: { p: "write f32", y: "read f32", control: "read f32" },
  scalars: { n: "u32", first: "u32", shrink: "f32", step: "f32" },
});

const WG = 64;
const ITERATIONS = 5;
/** Of x -> a x + b x^3 + c x^5, which brings every singular value near 1 in a few rounds (Jordan et al. 2024). */
const [A, B, C] = [3.4445, -4.775, 2.0315];
const EPS = 1e-7;
const MOMENTUM = 0.95;

/**
 * One update of a parameter [rows, cols] in place, after `decideStep`; does nothing where that decided to skip. Its gradient holds
 * something else afterwards. Equals torch.optim.Muon with `adjust_lr_fn="match_rms_adamw"`, but that iterates in bf16 and this in f32.
 * @param momentum as large as the parameter
 * @param parts rows that are matrices of their own, each from .. to
 * @param weightDecay decoupled: parameters shrink by lr * weightDecay
 */
export function muonStep(
  value: Tensor,
  momentum: BufferView,
  parts: readonly (readonly [from: number, to: number])[],
  control: Tensor,
  lr: number,
  weightDecay = 0,
): void {
  const grad = value.grad as Tensor;
  const cols = value.shape[1];
  const groups = (n: number) => Math.ceil(n / WG);
  const n = value.size;
  run(takeMomentum, { WG }, [grad.view, momentum, control.view], [n, MOMENTUM], groups(n));
  for (const [from, to] of parts) {
    const rows = to - from;
    scope(() =>
      noGrad(() => {
        const whole = rows * cols === n;
        const y = orthogonal(whole ? grad : reshape(range(grad, from * cols, rows * cols), [rows, cols]));
        const step = lr * 0.2 * Math.sqrt(Math.max(rows, cols)) * A ** ITERATIONS;
        const scalars = [y.size, from * cols, 1 - lr * weightDecay, step];
        run(apply, { WG }, [value.view, y.view, control.view], scalars, groups(y.size));
      }),
    );
  }
}

/**
 * The matrix with all singular values near 1, divided by `A ** ITERATIONS`: each iteration leaves out its factor A, so that it is
 * three products and nothing else.
 */
function orthogonal(x: Tensor): Tensor {
  const [rows, cols] = x.shape;
  const m = Math.min(rows, cols);
  const n = Math.max(rows, cols);
  let y = div(x, maximum(sqrt(sum(square(x))), tensor([EPS])));
  for (let k = 0; k < ITERATIONS; k++) {
    const gram = gemm(y, y, rows <= cols ? "NT" : "TN", [m, m, n], { scale: A ** (2 * k) });
    const more = gemm(gram, gram, "NN", [m, m, m], { scale: C / B, add: gram });
    const how = { scale: B / A, add: y };
    y = rows <= cols ? gemm(more, y, "NN", [rows, cols, m], how) : gemm(y, more, "NN", [rows, cols, m], how);
  }
  return y;
}
