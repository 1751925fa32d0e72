/**
 * AdamW on flat stores: global-norm clipping and the decision to skip a step with non-finite gradients are taken on the
 * GPU, so a step never waits for a readback.
 */
import { caps } from "../../gpu/device.ts";
import { kernel } from "../../gpu/kernel.ts";
import type { BufferView } from "../../gpu/pool.ts";
import { run } from "../../gpu/stream.ts";
import { ADAMW, DECIDE, LOSS_SEED, SQUARES } from "../../shaders/adamw.wgsl.ts";
import { empty, scope, type Tensor } from "../core.ts";
import { fill } from "../raw.ts";
import { rowKernel, rowPlan, runRows, vectorWidth } from "./rows.ts";

/** A range of a flat gradient store: `size` elements, a multiple of 4 for full speed. */
export interface FlatRange {
  view: BufferView;
  size: number;
}

/** The same range of the four flat stores. The views start at the range. */
export interface AdamRange {
  params: BufferView;
  grads: BufferView;
  m: BufferView;
  v: BufferView;
  /** Elements. */
  size: number;
  /** Weight decay applies to elements before this index (default: to all); must be a multiple of 4 if `size` is one. */
  decayed?: number;
}

export interface ClipOptions {
  /** Largest global norm of the gradients (after `gradScale`); 0 does not clip. Default 1. */
  maxNorm?: number;
  /** Gradients are multiplied by this first, e.g. 1 / accumulation steps. Default 1. */
  gradScale?: number;
  /** Needed here because the bias corrections count applied steps only. Default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Steps without an overflow after which a loss scale doubles. Default 2000. */
  growthSteps?: number;
}

export interface AdamOptions {
  lr: number;
  /** Default [0.9, 0.999]; the same as in `ClipOptions`. */
  betas?: readonly [number, number];
  /** Default 1e-8. */
  eps?: number;
  /** Decoupled: parameters shrink by lr * weightDecay. Default 0. */
  weightDecay?: number;
}

/** An optimizer's control record after a step, for metrics. */
export interface ControlState {
  /** Global norm before clipping. */
  gradNorm: number;
  /** False when the last step was skipped because a gradient was not finite. */
  applied: boolean;
  steps: number;
  skipped: number;
  /** The loss scale of the next step; null without one. */
  lossScale: number | null;
}

const CONTROL = 8;
const SCALED_CONTROL = 10;
/** As torch.amp.GradScaler. */
const FIRST_SCALE = 65536;
const GROWTH = 2000;
const DEFAULT_BETAS = [0.9, 0.999] as const;

const squares = rowKernel({
  name: "grad_squares",
  code: SQUARES,
  bindings: { g: "read F", partials: "write f32" },
  scalars: { rows: "u32", n: "u32", piece: "u32", at: "u32" },
});
const decide = rowKernel({
  name: "grad_decide",
  code: DECIDE,
  bindings: { partials: "read f32", control: "write f32" },
  scalars: { parts: "u32", scale: "f32", maxNorm: "f32", logBeta1: "f32", logBeta2: "f32" },
});
const adamw = rowKernel({
  name: "adamw",
  code: ADAMW,
  bindings: { p: "write F", g: "read F", m: "write F", v: "write F", control: "read f32" },
  scalars: { n: "u32", decayed: "u32", lr: "f32", keep1: "f32", keep2: "f32", eps: "f32", weightDecay: "f32" },
  reduces: false,
});

/**
 * A fresh control record (see `readControl`): zero steps. It is optimizer state and belongs into checkpoints.
 * @param scaled with a loss scale, 65536 at first, that the GPU adapts
 */
export function optimizerControl(scaled = false): Tensor {
  if (!scaled) return fill(empty([CONTROL], "f32", "optimizerControl"), 0);
  const control = empty([SCALED_CONTROL], "f32", "optimizerControl");
  control.write(Float32Array.from({ length: SCALED_CONTROL }, (_, i) => (i === CONTROL ? FIRST_SCALE : 0)));
  return control;
}

const isScaled = (control: Tensor): boolean => control.size > CONTROL;

const lossSeedKernel = kernel({
  name: "loss_seed",
  code: LOSS_SEED,
  bindings: { control: "read f32", y: "write f32" },
  scalars: { factor: "f32" },
});

/** What `backward` multiplies a loss by: `factor`, and the control record's loss scale if it has one. */
export function lossSeed(control: Tensor, factor = 1): number | Tensor {
  if (!isScaled(control)) return factor;
  const seed = empty([], "f32", "lossSeed");
  run(lossSeedKernel, {}, [control.view, seed.view], [factor], 1);
  return seed;
}

/** Decodes the values of a control record that were read back; `size` is that of the record. */
export const readControl = (values: ArrayLike<number>, size = CONTROL): ControlState => ({
  gradNorm: values[7] === 0 ? values[0] : values[7] === 1 ? Number.POSITIVE_INFINITY : Number.NaN,
  applied: values[2] !== 0,
  steps: values[3],
  skipped: values[4],
  lossScale: size > CONTROL ? values[CONTROL] : null,
});

/**
 * Decides one step over all gradient ranges together: clip factor min(1, maxNorm / (norm + 1e-6)) as
 * torch.nn.utils.clip_grad_norm_, and skip when any gradient is infinite or NaN. Sums are taken in a fixed order.
 * Call it once per step, before `adamwStep` on each range.
 */
export function decideStep(grads: readonly FlatRange[], control: Tensor, options: ClipOptions = {}): void {
  const { maxNorm = 1, gradScale = 1, betas = DEFAULT_BETAS, growthSteps = GROWTH } = options;
  scope(() => {
    const pieces = grads.map(({ size }) => Math.ceil(size / PIECE));
    const parts = pieces.reduce((a, b) => a + b, 0);
    const partials = empty([Math.max(1, parts)], "f32", "gradient partial sums");
    let at = 0;
    grads.forEach(({ view, size }, i) => {
      const plan = { ...rowPlan(PIECE), width: vectorWidth(size) };
      const n = size / plan.width;
      runRows(squares, plan, {}, [view, partials.view], [pieces[i], n, PIECE / plan.width, at], pieces[i]);
      at += pieces[i];
    });
    const plan = rowPlan(Math.max(parts, 1));
    const scalars = [parts, gradScale, maxNorm, logOf(betas[0]), logOf(betas[1])];
    runRows(
      decide,
      plan,
      { SCALED: isScaled(control), GROWTH: growthSteps },
      [partials.view, control.view],
      scalars,
      1,
    );
  });
}

const PIECE = 4096; // elements per partial sum

const logOf = (beta: number) => Math.max(Math.log(beta), -100);

/**
 * One AdamW update of a range, in place; does nothing when `decideStep` decided to skip. Equals torch.optim.AdamW after
 * clip_grad_norm_.
 */
export function adamwStep(range: AdamRange, control: Tensor, options: AdamOptions): void {
  const { lr, betas = DEFAULT_BETAS, eps = 1e-8, weightDecay = 0 } = options;
  const width = vectorWidth(range.size);
  const n = range.size / width;
  const WG = 64;
  const PER = caps().kind === "cpu" ? 4 : 1; // 4 vectors per invocation: 1.8x on lavapipe
  const kernel = adamw({ variant: "serial", width, WG, LANES: 1 });
  const buffers = [range.params, range.grads, range.m, range.v, control.view];
  const scalars = [n, (range.decayed ?? range.size) / width, lr, 1 - betas[0], 1 - betas[1], eps, weightDecay];
  run(kernel, { WG, PER }, buffers, scalars, Math.ceil(n / (WG * PER)));
}
