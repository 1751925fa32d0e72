/**
 * The tape that differentiates tensors: define-by-run, in reverse. An op computes its output and records its vector-Jacobian
 * product; the engine, not the ops, skips frozen inputs, un-broadcasts, accumulates and frees.
 */
import { dropSums, settleSums } from "./late-sums.ts";
import { addInto, fill } from "./raw.ts";
import { empty, type Shape, scope, sumMiddle, type Tensor, whenOutermostEnds } from "./tensor.ts";

/**
 * What to do with one input's gradient. `false`: it is not wanted. `true`: return a new tensor. A tensor: add into it
 * and return it; a rule that returns another tensor instead has it added by the engine.
 */
export type Sink = false | true | Tensor;

/** From the outputs' gradients (null where none arrived) to the inputs' gradients (null where there is none). */
type Vjp = (dys: (Tensor | null)[], sinks: Sink[]) => (Tensor | null)[];

interface Entry {
  name: string;
  inputs: readonly Tensor[];
  outputs: readonly Tensor[];
  saved: readonly Tensor[];
  vjp: Vjp;
}

let tape: Entry[] = [];
let recording = true;
/** What got a gradient in this `backward()`: leaves keep theirs. */
let reached: Tensor[] = [];

/** Runs `fn` without recording. */
export function noGrad<R>(fn: () => R): R {
  const before = recording;
  recording = false;
  try {
    return fn();
  } finally {
    recording = before;
  }
}

/** True when an op on these inputs is recorded, i.e. when it must save what its gradient needs. */
export function willRecord(inputs: readonly Tensor[]): boolean {
  if (!recording) return false;
  for (const t of inputs) if (t.requiresGrad) return true;
  return false;
}

/** Records a one-output op; returns the output. `saved` lists extra tensors that only the gradient needs. */
export function record(
  name: string,
  inputs: readonly Tensor[],
  output: Tensor,
  vjp: (dy: Tensor, sinks: Sink[]) => (Tensor | null)[],
  saved: readonly Tensor[] = [],
): Tensor {
  recordMany(name, inputs, [output], (dys, sinks) => vjp(dys[0] as Tensor, sinks), saved);
  return output;
}

/** Records an op with several outputs; the rule sees null for outputs that received no gradient. */
export function recordMany(
  name: string,
  inputs: readonly Tensor[],
  outputs: readonly Tensor[],
  vjp: Vjp,
  saved: readonly Tensor[] = [],
): void {
  if (!willRecord(inputs)) return;
  for (const t of outputs) t.requiresGrad = true;
  const entry = { name, inputs, outputs, saved, vjp };
  countHolds(entry, 1);
  tape.push(entry);
}

/** Counts that an entry needs its tensors, or no longer does. */
function countHolds({ inputs, outputs, saved }: Entry, by: 1 | -1): void {
  for (const t of inputs) t.held += by;
  for (const t of outputs) t.held += by;
  for (const t of saved) t.held += by;
}

/**
 * Adds d(loss)/d(parameter) into the `grad` of every parameter that requires it, and frees the intermediate results on
 * the way: whatever is needed of them must be derived before. `loss` must have one element; it stays readable.
 * `seed` scales the gradient (1 by default); one element where only the GPU knows it.
 */
export function backward(loss: Tensor, seed: number | Tensor = 1): void {
  if (loss.size !== 1) throw new Error(`backward() needs a scalar loss, got shape [${loss.shape}]`);
  if (!loss.requiresGrad) throw new Error("backward(): the loss depends on no parameter that requires a gradient");
  const entries = tape;
  tape = [];
  reached = [];
  try {
    noGrad(() => {
      const given = typeof seed === "number" ? null : seed;
      if (given) given.gradSlots += 1; // the caller's own slot: it is neither added into nor freed
      setGrad(loss, given ?? fill(empty(loss.shape, "f32", "backward"), seed as number));
      differentiate(entries, loss);
      settleSums();
      for (const leaf of reached) keepGrad(leaf);
      if (given) given.gradSlots -= 1;
    });
  } finally {
    dropSums();
  }
  reached = [];
}

/** What still waits at the end waits at a leaf: it becomes the leaf's own, and nobody else's. */
function keepGrad(leaf: Tensor): void {
  const grad = leaf.pendingGrad;
  if (!grad) return;
  const own = leaf.grad && !leaf.grad.freed ? leaf.grad : null; // of an earlier backward(), where the leaf is the loss
  if (own || grad.gradSlots > 1) {
    leaf.grad = addInto(own ?? fill(empty(leaf.shape, leaf.dtype, "backward"), 0), grad);
  } else leaf.grad = grad;
  leaf.pendingGrad = null;
  grad.gradSlots -= 1;
}

/** Takes the gradients that stand at the outputs back to the inputs, and frees all else that was recorded but `keep`. */
function differentiate(entries: readonly Entry[], keep: Tensor | null): void {
  for (let i = entries.length - 1; i >= 0; i--) {
    const entry = entries[i];
    if (isReached(entry.outputs)) propagate(entry);
    releaseEntry(entry, keep);
  }
}

function isReached(outputs: readonly Tensor[]): boolean {
  for (const t of outputs) if (t.pendingGrad) return true;
  return false;
}

/**
 * fn(x), without keeping what its gradient needs: that is computed again when the gradient is asked for (Chen et al. 2016,
 * arXiv 1604.06174). A third more work for a memory of one call of `fn` instead of all of them. What `fn` reads besides x
 * must still be there then, and must give the same result.
 */
export function checkpoint(fn: (x: Tensor) => Tensor, x: Tensor): Tensor {
  const y = noGrad(() => scope(() => fn(x)));
  if (!recording) return y;
  y.requiresGrad = true; // parameters inside may want a gradient even where x does not
  for (const t of [x, y]) t.held += 1;
  tape.push({ name: "checkpoint", inputs: [x], outputs: [y], saved: [], vjp: ([dy]) => [replay(fn, x, dy as Tensor)] });
  return y;
}

/** Runs `fn` again, now recorded, and takes `dy` back through it; returns the gradient of x, if x wants one. */
function replay(fn: (x: Tensor) => Tensor, x: Tensor, dy: Tensor): Tensor | null {
  const leaf = x.alias(x.shape, "checkpoint");
  leaf.requiresGrad = x.requiresGrad;
  const outer = tape;
  tape = [];
  recording = true;
  const y = fn(leaf);
  recording = false;
  const entries = tape;
  tape = outer;
  setGrad(y, dy);
  differentiate(entries, null);
  const dx = leaf.pendingGrad;
  leaf.pendingGrad = null;
  if (dx) dx.gradSlots -= 1;
  return dx;
}

function propagate({ name, inputs, outputs, vjp }: Entry): void {
  const sinks = inputs.map(sinkOf);
  const dys = outputs.map(gradOf);
  const grads = scope(() => vjp(dys, sinks));
  for (let i = 0; i < inputs.length; i++) {
    const input = inputs[i];
    const sink = sinks[i];
    const grad = grads[i];
    if (sink === false || !grad || grad === sink) continue;
    const fitted = sameShape(grad, input) ? grad : summed(name, grad, input.shape);
    if (sink !== true) {
      addInto(sink, fitted);
      disposeGrad(fitted);
    } else if (input.pendingGrad) {
      // Shared with another slot, or this input appears twice: add into a copy of our own.
      const sum = addInto(addInto(fill(empty(input.shape, input.dtype, name), 0), input.pendingGrad), fitted);
      disposeGrad(fitted);
      setGrad(input, sum);
    } else {
      setGrad(input, fitted);
    }
    if (fitted !== grad) disposeGrad(grad);
  }
}

const gradOf = (t: Tensor): Tensor | null => t.pendingGrad;

function sinkOf(t: Tensor): Sink {
  if (!t.requiresGrad) return false;
  if (t.grad && !t.grad.freed) return t.grad;
  return t.pendingGrad && t.pendingGrad.gradSlots === 1 ? t.pendingGrad : true;
}

function sameShape({ shape: a }: Tensor, { shape: b }: Tensor): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

function setGrad(t: Tensor, grad: Tensor | null): void {
  const before = t.pendingGrad;
  if (grad) {
    grad.gradSlots += 1;
    reached.push(t);
  }
  t.pendingGrad = grad;
  if (before) {
    before.gradSlots -= 1;
    disposeGrad(before);
  }
}

function disposeGrad(t: Tensor): void {
  if (t.gradSlots === 0 && t.held === 0) t.free("backward()");
}

function releaseEntry(entry: Entry, loss: Tensor | null): void {
  const { outputs, saved } = entry;
  for (const t of outputs) setGrad(t, null);
  countHolds(entry, -1);
  for (const t of outputs) if (t !== loss && t.held === 0) t.free("backward()");
  for (const t of saved) if (t !== loss && t.held === 0) t.free("backward()");
}

/** Runs `fn` with a tape of its own, which records whatever the surroundings do; theirs goes on afterwards. */
export function withOwnTape<R>(fn: () => R): R {
  const [outer, before] = [tape, recording];
  tape = [];
  recording = true;
  try {
    return fn();
  } finally {
    resetTape();
    tape = outer;
    recording = before;
  }
}

/** Forgets what was recorded and not yet differentiated; the outermost scope calls it. */
function resetTape(): void {
  const entries = tape;
  tape = [];
  for (const entry of entries) countHolds(entry, -1);
}

whenOutermostEnds(resetTape);

/** The gradient of an input of this shape. */
function summed(name: string, grad: Tensor, shape: Shape): Tensor {
  if (!sumsTo(grad.shape, shape)) throw new Error(`gradient of ${name} has shape [${grad.shape}], not [${shape}]`);
  return scope(() => sumTo(grad, shape));
}

/** Sums a broadcast gradient back to `shape` (aligned at the last dimension, as NumPy broadcasts). */
function sumTo(grad: Tensor, shape: Shape): Tensor {
  const rank = grad.shape.length;
  const target = [...Array(rank - shape.length).fill(1), ...shape] as number[];
  let current = grad;
  for (let axis = 0; axis < rank; axis++) {
    const length = current.shape[axis];
    if (target[axis] === length) continue;
    const outer = current.shape.slice(0, axis).reduce((a, b) => a * b, 1);
    const inner = current.shape.slice(axis + 1).reduce((a, b) => a * b, 1);
    const reduced = current.shape.map((n, i) => (i === axis ? 1 : n));
    current = sumMiddle(current, outer, length, inner, reduced);
  }
  return current === grad && rank === shape.length ? grad : current.alias(shape, "sumTo");
}

/** Whether `shape` broadcasts to `from`, so that a gradient of that shape can be summed back. */
function sumsTo(from: Shape, shape: Shape): boolean {
  const extra = from.length - shape.length;
  return extra >= 0 && shape.every((n, i) => n === 1 || n === from[extra + i]);
}
