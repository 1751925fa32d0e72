/**
 * Gradients of random graphs: 5 to 12 ops on shared intermediates, whole and broadcast, against central differences of the
 * same graph in float64. Single ops are tested elsewhere; here it is the tape that adds up, shares and frees.
 */
import fc from "fast-check";
import { beforeAll, expect, it } from "vitest";
import * as ops from "webrlhf";
import { add, scale, scope, sum, type Tensor, tensor, valueAndGrad } from "webrlhf";
import { gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const unary = {
  neg: (x: number) => -x,
  square: (x: number) => x * x,
  sigmoid,
  logSigmoid: (x: number) => Math.log(sigmoid(x)),
  softplus: (x: number) => Math.log1p(Math.exp(x)),
  tanh: Math.tanh,
  silu: (x: number) => x * sigmoid(x),
  clone: (x: number) => x,
} as const;
const binary = {
  add: (a: number, b: number) => a + b,
  sub: (a: number, b: number) => a - b,
  mul: (a: number, b: number) => a * b,
} as const;

type Unary = keyof typeof unary;
type Binary = keyof typeof binary;
/** An op on earlier nodes, which are counted from the leaves on; places are taken modulo their number. */
interface Node {
  op: Unary | Binary;
  a: number;
  b: number;
}
interface Graph {
  leaves: { shape: readonly number[]; data: number[] }[];
  nodes: Node[];
  /** Weight of each node in the loss; that of the last is 1. */
  weights: number[];
}

const shapes = [[2, 3], [3], [2, 1], [1]] as const;
const leaf = fc.constantFrom(...shapes).chain((shape) =>
  fc.record({
    shape: fc.constant(shape as readonly number[]),
    data: fc.array(fc.double({ min: -1.2, max: 1.2, noNaN: true }), {
      minLength: shape.reduce<number>((a, b) => a * b, 1),
      maxLength: shape.reduce<number>((a, b) => a * b, 1),
    }),
  }),
);
const node = fc.record({
  op: fc.constantFrom(...(Object.keys(unary) as Unary[]), ...(Object.keys(binary) as Binary[]), "add", "mul"),
  a: fc.nat(30),
  b: fc.nat(30),
}) as fc.Arbitrary<Node>;
const graph: fc.Arbitrary<Graph> = fc.record({
  leaves: fc.array(leaf, { minLength: 1, maxLength: 3 }),
  nodes: fc.array(node, { minLength: 5, maxLength: 12 }),
  weights: fc.array(fc.constantFrom(0, 0, 1, -0.5), { minLength: 12, maxLength: 12 }),
});

const isUnary = (op: Node["op"]): op is Unary => Object.hasOwn(unary, op);
/** Late nodes are asked for more often than early ones, so that graphs are deep. */
const placeOf = (wanted: number, made: number) => made - 1 - (wanted % made);
const SHRINK = 0.7; // of every node, so that squares of squares stay small

function onGpu({ nodes, weights }: Graph, leaves: readonly Tensor[]): Tensor {
  const made = [...leaves];
  for (const { op, a, b } of nodes) {
    const [x, y] = [made[placeOf(a, made.length)], made[placeOf(b, made.length)]];
    made.push(scale(isUnary(op) ? ops[op](x) : ops[op](x, y), SHRINK));
  }
  const terms = nodes.flatMap((_, i) => {
    const weight = i === nodes.length - 1 ? 1 : weights[i];
    return weight === 0 ? [] : [scale(sum(made[leaves.length + i]), weight)];
  });
  return terms.reduce((total, term) => add(total, term));
}

/** Values as [2, 3], with what broadcasts repeated, and how many elements of them there really are. */
interface Whole {
  data: Float64Array;
  shape: readonly number[];
}
const spread = (data: ArrayLike<number>, [rows, columns]: readonly number[]): Float64Array =>
  Float64Array.from(
    { length: 6 },
    (_, i) => data[(rows === 1 ? 0 : Math.floor(i / 3)) * columns + (columns === 1 ? 0 : i % 3)],
  );
const padded = (shape: readonly number[]) => [...Array(2 - shape.length).fill(1), ...shape] as number[];

function inFloat64({ leaves, nodes, weights }: Graph, data: readonly Float64Array[]): number {
  const made: Whole[] = leaves.map(({ shape }, i) => ({ data: spread(data[i], padded(shape)), shape: padded(shape) }));
  for (const { op, a, b } of nodes) {
    const [x, y] = [made[placeOf(a, made.length)], made[placeOf(b, made.length)]];
    const value = isUnary(op) ? (i: number) => unary[op](x.data[i]) : (i: number) => binary[op](x.data[i], y.data[i]);
    const shape = isUnary(op) ? x.shape : x.shape.map((n, i) => Math.max(n, y.shape[i]));
    made.push({ data: Float64Array.from({ length: 6 }, (_, i) => SHRINK * value(i)), shape });
  }
  // Repeated elements count once.
  const total = ({ data, shape }: Whole) => (data.reduce((s, v) => s + v, 0) * shape[0] * shape[1]) / 6;
  return nodes.reduce(
    (loss, _, i) => loss + (i === nodes.length - 1 ? 1 : weights[i]) * total(made[leaves.length + i]),
    0,
  );
}

function differences(g: Graph): number[][] {
  const h = 1e-5;
  const data = g.leaves.map((leaf) => Float64Array.from(Float32Array.from(leaf.data)));
  return data.map((values) =>
    Array.from(values, (v, i) => {
      values[i] = v + h;
      const up = inFloat64(g, data);
      values[i] = v - h;
      const down = inFloat64(g, data);
      values[i] = v;
      return (up - down) / (2 * h);
    }),
  );
}

it("have the gradients that differences in float64 give", async () => {
  await fc.assert(
    fc.asyncProperty(graph, async (g) => {
      const leaves = g.leaves.map(({ shape, data }) => tensor(data, shape));
      const [loss, gradients] = scope(() =>
        valueAndGrad(
          (...args: Tensor[]) => onGpu(g, args),
          leaves.map((_, i) => i),
        )(...leaves),
      );
      const found = await Promise.all(gradients.map((t) => t.read()));
      for (const t of [loss, ...leaves, ...gradients]) t.free("test");
      for (const [k, expected] of differences(g).entries()) {
        const size = Math.max(1, ...expected.map(Math.abs));
        expected.forEach((v, i) => {
          expect(Math.abs(found[k][i] - v) / size, `gradient of leaf ${k}, element ${i}`).toBeLessThan(1e-4);
        });
      }
    }),
    { numRuns: 150, seed: 7 },
  );
}, 120_000);
