/**
 * Elementwise ops, one line each: the value and the gradient as WGSL expressions. In a unary line x is the input, y the
 * output, dy the output's gradient; p and q are the op's numbers. In a binary line a and b are the inputs. The table is
 * expanded into kernels at run time; tests iterate it for finite differences and PyTorch parity.
 */
import { type Kernel, kernel } from "../../gpu/kernel.ts";
import { run } from "../../gpu/stream.ts";
import * as wgsl from "../../shaders/elementwise.wgsl.ts";
import { type DType, empty, record, type Shape, type Sink, type Tensor } from "../core.ts";
import { PER, vectors, WG } from "../raw.ts";

type Unary = readonly [value: string, gradient: string];
type Binary = readonly [value: string, gradientA: string, gradientB: string];

/** @internal Unary ops: value and gradient. */
export const unaryTable = {
  neg: ["-x", "-dy"],
  exp: ["exp(x)", "dy * y"],
  log: ["log(x)", "dy / x"],
  square: ["x * x", "2.0 * dy * x"],
  sqrt: ["sqrt(x)", "0.5 * dy / y"],
  abs: ["abs(x)", "dy * sign(x)"],
  relu: ["select(x, V(0.0), x < V(0.0))", "dy * when(x > V(0.0))"],
  sigmoid: ["sigmoid(x)", "dy * y * (1.0 - y)"],
  logSigmoid: ["-softplus(-x)", "dy * sigmoid(-x)"],
  softplus: ["softplus(x)", "dy * sigmoid(x)"],
  tanh: ["safeTanh(x)", "dy * (1.0 - y * y)"],
  silu: ["x * sigmoid(x)", "dy * sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)))"],
  gelu: [
    "0.5 * x * (1.0 + geluTanh(x))",
    "dy * (0.5 * (1.0 + geluTanh(x)) + 0.5 * x * (1.0 - geluTanh(x) * geluTanh(x)) * 0.7978845608028654 * (1.0 + 0.134145 * x * x))",
  ],
  geluErf: ["x * normalCdf(x)", "dy * (normalCdf(x) + x * normalPdf(x))"],
  softCap: ["u.p * preciseTanh(x / u.p)", "dy * (1.0 - (y / u.p) * (y / u.p))"],
  scale: ["x * u.p", "dy * u.p"],
  addScalar: ["x + u.p", "dy"],
  clamp: ["select(select(x, V(u.p), x < V(u.p)), V(u.q), x > V(u.q))", "dy * when(x >= V(u.p)) * when(x <= V(u.q))"],
} as const satisfies Record<string, Unary>;

/** @internal Binary ops: value and both gradients. */
export const binaryTable = {
  add: ["a + b", "dy", "dy"],
  sub: ["a - b", "dy", "-dy"],
  mul: ["a * b", "dy * b", "dy * a"],
  div: ["a / b", "dy / b", "-dy * a / (b * b)"],
  // NaN wins over any number, and equal operands share the gradient, as in PyTorch.
  minimum: ["nanOr(a, b, select(b, a, a <= b))", "dy * share(a < b, a == b, a, b)", "dy * share(b < a, a == b, a, b)"],
  maximum: ["nanOr(a, b, select(b, a, a >= b))", "dy * share(a > b, a == b, a, b)", "dy * share(b > a, a == b, a, b)"],
} as const satisfies Record<string, Binary>;

const scalars = { n: "u32", p: "f32", q: "f32" } as const;

interface UnaryKernels {
  forward: Kernel;
  gradient: Kernel;
}

const unaryKernels = Object.fromEntries(
  Object.entries(unaryTable).map(([name, [value, gradient]]): [string, UnaryKernels] => [
    name,
    {
      forward: kernel({
        name,
        code: `${wgsl.math}fn f(x: V) -> V { return ${value}; }${wgsl.unary}`,
        bindings: { x: "read S", y: "write S" },
        scalars,
      }),
      gradient: kernel({
        name: `${name}_grad`,
        code: `${wgsl.math}fn df(x: V, y: V, dy: V) -> V { return ${gradient}; }${wgsl.unaryGrad}`,
        bindings: { x: "read S", y: "read S", dy: "read S", dx: "write S" },
        scalars,
      }),
    },
  ]),
) as Record<keyof typeof unaryTable, UnaryKernels>;

function unary(name: keyof typeof unaryTable, x: Tensor, p = 0, q = 0): Tensor {
  const { forward, gradient } = unaryKernels[name];
  const { S, V, B, U, n, groups } = vectors(x.size, x.dtype);
  const y = empty(x.shape, x.dtype, name);
  run(forward, { S, V, B, U, WG, PER }, [x.view, y.view], [n, p, q], groups);
  return record(name, [x], y, (dy, [sink]) => {
    const dx = sinkOr(sink, x.shape, name, x.dtype);
    const consts = { S, V, B, U, WG, PER, ACC: dx === sink };
    run(gradient, consts, [x.view, y.view, dy.view, dx.view], [n, p, q], groups);
    return [dx];
  });
}

/** The tensor a rule writes its gradient to: the sink itself when it accumulates, else a new one. */
const sinkOr = (sink: Sink, shape: Shape, name: string, dtype: DType = "f32"): Tensor =>
  typeof sink === "boolean" ? empty(shape, dtype, `${name}_grad`) : sink;

interface BinaryKernels {
  same: Kernel;
  broadcast: Kernel;
}

/** A formula of a and b (and dy) as two kernels: for equal shapes, and with a and b broadcast. */
function binaryKernels(name: string, formula: string, withDy: boolean): BinaryKernels {
  const [parameters, values] = withDy ? ["a: V, b: V, dy: V", "a, b, V(dy[i])"] : ["a: V, b: V", "a, b"];
  const code = `${wgsl.math}fn f(${parameters}) -> V { return ${formula}; }
fn result(i: u32, a: V, b: V) -> V { return f(${values}); }`;
  const bindings: Record<string, string> = { a: "read S", b: "read S", ...(withDy && { dy: "read S" }), y: "write S" };
  const sizes = { n: "u32", d1: "u32", d2: "u32", d3: "u32" } as const;
  const strides = { a0: "u32", a1: "u32", a2: "u32", a3: "u32", b0: "u32", b1: "u32", b2: "u32", b3: "u32" } as const;
  return {
    same: kernel({ name, code: code + wgsl.binary, bindings, scalars: { n: "u32" } }),
    broadcast: kernel({
      name: `${name}_broadcast`,
      code: code + wgsl.binaryBroadcast,
      bindings,
      scalars: { ...sizes, ...strides },
    }),
  };
}

/** Formulas that need no kernel: the gradient passes through, or changes sign. */
const isTrivial = (formula: string): boolean => formula === "dy" || formula === "-dy";

const binaryTableKernels = Object.fromEntries(
  Object.entries(binaryTable).map(([name, [value, ...gradients]]) => [
    name,
    {
      value: binaryKernels(name, value, false),
      gradients: gradients.map((g, side) => (isTrivial(g) ? g : binaryKernels(`${name}_grad${side}`, g, true))),
    },
  ]),
) as Record<keyof typeof binaryTable, { value: BinaryKernels; gradients: (BinaryKernels | string)[] }>;

function runBinary(kernels: BinaryKernels, a: Tensor, b: Tensor, dy: Tensor | null, y: Tensor): Tensor {
  const views = dy ? [a.view, b.view, dy.view, y.view] : [a.view, b.view, y.view];
  if (a.size === y.size && b.size === y.size) {
    const { S, V, B, U, n, groups } = vectors(y.size, a.dtype);
    run(kernels.same, { S, V, B, U, WG, PER }, views, [n], groups);
    return y;
  }
  const dims = [...Array(4 - y.shape.length).fill(1), ...y.shape] as number[];
  const consts = { S: a.dtype, V: "f32", B: "bool", U: "u32", WG };
  const values = [y.size, dims[1], dims[2], dims[3], ...broadcastStrides(a.shape), ...broadcastStrides(b.shape)];
  run(kernels.broadcast, consts, views, values, Math.ceil(y.size / WG));
  return y;
}

function binary(name: keyof typeof binaryTable, a: Tensor, b: Tensor): Tensor {
  if (a.dtype !== b.dtype) throw new Error(`${name}: ${a.dtype} and ${b.dtype} do not mix`);
  const { value, gradients } = binaryTableKernels[name];
  const y = runBinary(value, a, b, null, empty(broadcastShape(a.shape, b.shape, name), a.dtype, name));
  // Gradients come in the broadcast shape; the engine sums them down.
  return record(name, [a, b], y, (dy, sinks) =>
    gradients.map((gradient, side) => {
      if (!sinks[side]) return null;
      if (typeof gradient === "string") return gradient === "dy" ? dy : neg(dy);
      return runBinary(gradient, a, b, dy, empty(y.shape, y.dtype, name));
    }),
  );
}

function broadcastShape(a: Shape, b: Shape, name: string): number[] {
  const rank = Math.max(a.length, b.length);
  if (rank > 4) throw new Error(`${name}: at most 4 dimensions, got [${a}] and [${b}]`);
  return Array.from({ length: rank }, (_, i) => {
    const m = a[a.length - rank + i] ?? 1;
    const n = b[b.length - rank + i] ?? 1;
    if (m !== n && m !== 1 && n !== 1) throw new Error(`${name}: shapes [${a}] and [${b}] do not broadcast`);
    return m === 1 ? n : m;
  });
}

function broadcastStrides(shape: Shape): number[] {
  const strides = [0, 0, 0, 0];
  let stride = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[4 - shape.length + i] = shape[i] === 1 ? 0 : stride;
    stride *= shape[i];
  }
  return strides;
}

// Unary ops keep the shape.
/** -x */
export const neg = (x: Tensor): Tensor => unary("neg", x);
/** e to the power of x. */
export const exp = (x: Tensor): Tensor => unary("exp", x);
/** Natural logarithm of x; -Infinity at 0. */
export const log = (x: Tensor): Tensor => unary("log", x);
/** x * x */
export const square = (x: Tensor): Tensor => unary("square", x);
/** Square root of x. */
export const sqrt = (x: Tensor): Tensor => unary("sqrt", x);
/** |x|; the gradient is 0 at 0. */
export const abs = (x: Tensor): Tensor => unary("abs", x);
/** max(x, 0); the gradient is 0 at 0. */
export const relu = (x: Tensor): Tensor => unary("relu", x);
/** 1 / (1 + exp(-x)) */
export const sigmoid = (x: Tensor): Tensor => unary("sigmoid", x);
/** log(sigmoid(x)), exact for large |x|. */
export const logSigmoid = (x: Tensor): Tensor => unary("logSigmoid", x);
/** log(1 + exp(x)), exact for large |x|. */
export const softplus = (x: Tensor): Tensor => unary("softplus", x);
/** Hyperbolic tangent of x. */
export const tanh = (x: Tensor): Tensor => unary("tanh", x);
/** x * sigmoid(x), also called swish. */
export const silu = (x: Tensor): Tensor => unary("silu", x);
/** GELU with the tanh approximation ("gelu_new"). */
export const gelu = (x: Tensor): Tensor => unary("gelu", x);
/** GELU without approximation ("gelu"). */
export const geluErf = (x: Tensor): Tensor => unary("geluErf", x);
/** cap * tanh(x / cap): nearly x for small |x|, never beyond the cap. */
export const softCap = (x: Tensor, cap: number): Tensor => unary("softCap", x, cap);
/** x * factor */
export const scale = (x: Tensor, factor: number): Tensor => unary("scale", x, factor);
/** x + term */
export const addScalar = (x: Tensor, term: number): Tensor => unary("addScalar", x, term);
/** x limited to [low, high]; the gradient is 0 outside. NaN stays NaN. */
export const clamp = (x: Tensor, low: number, high: number): Tensor => unary("clamp", x, low, high);

// Binary ops broadcast as NumPy does, up to four dimensions.
/** a + b */
export const add = (a: Tensor, b: Tensor): Tensor => binary("add", a, b);
/** a - b */
export const sub = (a: Tensor, b: Tensor): Tensor => binary("sub", a, b);
/** a * b, element by element. */
export const mul = (a: Tensor, b: Tensor): Tensor => binary("mul", a, b);
/** a / b, element by element. */
export const div = (a: Tensor, b: Tensor): Tensor => binary("div", a, b);
/** Smaller of a and b, element by element; where they are equal, each has half the gradient. */
export const minimum = (a: Tensor, b: Tensor): Tensor => binary("minimum", a, b);
/** Larger of a and b, element by element; where they are equal, each has half the gradient. */
export const maximum = (a: Tensor, b: Tensor): Tensor => binary("maximum", a, b);
