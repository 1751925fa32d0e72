/** Every op and its gradient against PyTorch in float64; test/fixtures/README.md says how the values were made. */
import { beforeAll, describe, it } from "vitest";
import {
  attention,
  embedding,
  gatherRows,
  layerNorm,
  linear,
  logSoftmax,
  matmul,
  mean,
  packing,
  rmsNorm,
  rope,
  softmax,
  sum,
  swiglu,
  type Tensor,
  tokenLogProbs,
} from "webrlhf";
import * as elementwise from "../../src/tensor/ops/elementwise.ts";
import elementwiseCases from "../fixtures/elementwise.json" with { type: "json" };
import opsCases from "../fixtures/ops.json" with { type: "json" };
import { gpuReady } from "../helpers.ts";
import { type Apply, checkCase, type ReferenceCase, type Tolerance } from "./reference-case.ts";

beforeAll(gpuReady);

const unary =
  (f: (x: Tensor) => Tensor): Apply =>
  ([x]) =>
    f(x);
const binary =
  (f: (a: Tensor, b: Tensor) => Tensor): Apply =>
  ([a, b]) =>
    f(a, b);

const e = elementwise;
const ops: Record<string, Apply> = {
  neg: unary(e.neg),
  exp: unary(e.exp),
  log: unary(e.log),
  square: unary(e.square),
  sqrt: unary(e.sqrt),
  relu: unary(e.relu),
  sigmoid: unary(e.sigmoid),
  logSigmoid: unary(e.logSigmoid),
  softplus: unary(e.softplus),
  tanh: unary(e.tanh),
  gelu: unary(e.gelu),
  silu: unary(e.silu),
  abs: unary(e.abs),
  clamp: ([x], { args }) => e.clamp(x, args.lo, args.hi),
  scale: ([x], { args }) => e.scale(x, args.s),
  addScalar: ([x], { args }) => e.addScalar(x, args.s),
  add: binary(e.add),
  sub: binary(e.sub),
  mul: binary(e.mul),
  div: binary(e.div),
  minimum: binary(e.minimum),
  maximum: binary(e.maximum),
  sum: ([x], { args }) => sum(x, args.axis),
  mean: ([x], { args }) => mean(x, args.axis),
  matmul: ([a, b], { args }) => matmul(a, b, args),
  linear: ([x, w, ...rest], { args }) => {
    const bias = args.bias ? rest.shift() : undefined;
    return linear(x, w, { bias, residual: rest[0] });
  },
  tokenLogProbs: (inputs, { args }) => logProbs(inputs, args),
  "tokenLogProbs in chunks": (inputs, { args }) => logProbs(inputs, { ...args, budget: 64 }),
  softmax: unary(softmax),
  logSoftmax: unary(logSoftmax),
  rmsNorm: ([x, weight], { args }) => rmsNorm(x, weight, args.eps),
  layerNorm: ([x, weight, bias], { args }) => layerNorm(x, weight, bias, args.eps),
  swiglu: unary(swiglu),
  embedding: ([table, ids], reference) => embedding(table, ids, reference.inputs[1].data as number[]),
  attention: ([qkv], { args, packing: p }) => attention(qkv, packing(p.lengths, p.starts, p.rows), args),
  rope: ([qkv, positions], { args }) => rope(qkv, positions, args),
  gatherRows: ([x, idx], reference) => gatherRows(x, idx, reference.inputs[1].data as number[]),
};

function logProbs([hidden, head, targets]: Tensor[], options: { temperature: number; budget?: number }): Tensor[] {
  const { logProbs, entropy } = tokenLogProbs(hidden, head, targets, options);
  return [logProbs, entropy];
}

// float32 against float64, relative to the largest reference value
const usual: Tolerance = { value: 2e-6, gradient: 5e-6 };
const tolerances: Record<string, Tolerance> = {};

const fused = opsCases.cases as unknown as ReferenceCase[];
const simple = elementwiseCases.cases as unknown as ReferenceCase[];

describe.each(Object.keys(ops))("%s agrees with PyTorch", (op) => {
  const tolerance = tolerances[op] ?? usual;
  const [name] = op.split(" ");
  it.each(fused.filter((c) => c.op === name).map((c) => [c.name, c] as const))("%s", (_, reference) =>
    checkCase(reference, ops[op], tolerance),
  );
  // One kind of sink per case halves the shaders that software adapters must compile.
  it.each(simple.filter((c) => c.op === op).map((c, i) => [c.name, c, i] as const))("%s", (_, reference, i) =>
    checkCase(reference, ops[op], tolerance, [i % 2 === 0 ? "parameter" : "op"]),
  );
});
