/** Muon against float64, on whole stores: which matrices it trains, what it keeps, and what it does not go with. */
import { beforeAll, describe, expect, it } from "vitest";
import { Parameter, ParameterStore } from "webrlhf";
import { AdamW, CausalLM, decoderConfig } from "webrlhf/nn";
import { normal } from "../../src/runtime/rng.ts";
import { expectClose, gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

type Matrix = number[][];
const times = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => b[0].map((_, j) => row.reduce((sum, v, k) => sum + v * b[k][j], 0)));
const turned = (a: Matrix): Matrix => a[0].map((_, j) => a.map((row) => row[j]));
const plus = (a: Matrix, x: number, b: Matrix, y: number): Matrix =>
  a.map((row, i) => row.map((v, j) => x * v + y * b[i][j]));

/** Five Newton-Schulz iterations, as Jordan et al. write them. */
function orthogonal(g: Matrix): Matrix {
  if (g.length > g[0].length) return turned(orthogonal(turned(g)));
  const size = Math.max(1e-7, Math.sqrt(g.flat().reduce((sum, v) => sum + v * v, 0)));
  let x = plus(g, 1 / size, g, 0);
  for (let k = 0; k < 5; k++) {
    const a = times(x, turned(x));
    x = plus(x, 3.4445, times(plus(a, -4.775, times(a, a), 2.0315), x), 1);
  }
  return x;
}

const STEPS = 4;
const gradient = (rows: number, cols: number, ...key: number[]): Matrix =>
  Array.from({ length: rows }, (_, i) => Array.from({ length: cols }, (_, j) => 0.3 * normal(5, ...key, i * cols + j)));

/** The weights after some steps of Muon, in float64. */
function reference(start: Matrix, grads: readonly Matrix[], lr: number, decay: number): Matrix {
  const [rows, cols] = [start.length, start[0].length];
  let [w, m] = [start, start.map((row) => row.map(() => 0))];
  for (const g of grads) {
    m = plus(m, 0.95, g, 0.05);
    const update = orthogonal(plus(g, 0.05, m, 0.95));
    w = plus(w, 1 - lr * decay, update, -lr * 0.2 * Math.sqrt(Math.max(rows, cols)));
  }
  return w;
}

/** A wide and a tall matrix, one that is two, an embedding and a vector. */
function parameters(): Record<"wide" | "tall" | "both" | "table" | "bias", Parameter> {
  const shapes = { wide: [5, 12], tall: [20, 6], both: [9, 7], table: [10, 6], bias: [6] };
  const made = Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => {
      const parameter = new Parameter(shape, { normal: 0.1 });
      parameter.name = name;
      return [name, parameter];
    }),
  ) as ReturnType<typeof parameters>;
  made.wide.maps = [[0, 5]];
  made.tall.maps = [[0, 20]];
  made.both.maps = [
    [0, 4],
    [4, 9],
  ];
  return made;
}

const matrix = (values: ArrayLike<number>, cols: number): Matrix =>
  Array.from({ length: values.length / cols }, (_, i) => Array.from({ length: cols }, (_, j) => values[i * cols + j]));

/** Takes steps on fixed gradients; `from` gives the weights and the optimizer's state to go on from. */
async function train(options: object, first: number, last: number, from?: { store: ParameterStore; optimizer: AdamW }) {
  const own = parameters();
  const { table, wide, bias, tall, both } = own;
  const store = new ParameterStore([table, wide, bias, tall, both], "test").initialize(1);
  const optimizer = new AdamW(store, { maxGradNorm: 0, weightDecay: 0.1, ...options });
  if (from) {
    const values = await from.store.read();
    for (const p of store.parameters) p.value.write(values.get(p.name) as Float32Array);
    optimizer.load(await from.optimizer.state());
  }
  for (let step = first; step < last; step++) {
    for (const [k, p] of Object.values(own).entries()) {
      p.value.grad?.write(Float32Array.from(gradient(p.size, 1, step, k).flat()));
    }
    optimizer.step(0.02);
  }
  return { own, store, optimizer, values: await store.read() };
}

describe("Muon", () => {
  it("moves hidden matrices as float64 does, each map by itself, and the rest as AdamW", async () => {
    const start = await train({ muon: true }, 0, 0);
    const found = await train({ muon: true }, 0, STEPS);
    const plain = await train({}, 0, STEPS);
    for (const name of ["wide", "tall", "both"] as const) {
      const p = found.own[name];
      const [rows, cols] = p.shape;
      const k = Object.keys(found.own).indexOf(name);
      const grads = Array.from({ length: STEPS }, (_, step) => matrix(gradient(p.size, 1, step, k).flat(), cols));
      const first = matrix(start.values.get(name) as Float32Array, cols);
      const parts = p.maps ?? [[0, rows]];
      const wanted = parts.flatMap(([from, to]) =>
        reference(
          first.slice(from, to),
          grads.map((g) => g.slice(from, to)),
          0.02,
          0.1,
        ),
      );
      expectClose(found.values.get(name) as Float32Array, wanted.flat(), 2e-5, 2e-6, name);
      expect([...(found.values.get(name) as Float32Array)]).not.toEqual([...(plain.values.get(name) as Float32Array)]);
    }
    for (const name of ["table", "bias"]) expect(found.values.get(name)).toEqual(plain.values.get(name));
    for (const { store, optimizer } of [start, found, plain]) for (const one of [optimizer, store]) one.destroy();
  });

  it("goes on from its state bit for bit, with no second moments of maps, and refuses another optimizer's", async () => {
    const straight = await train({ muon: true }, 0, 5);
    const half = await train({ muon: true }, 0, 3);
    const rest = await train({ muon: true }, 3, 5, half);
    expect(rest.values).toEqual(straight.values);
    const plain = await train({}, 0, 1);
    const [state, whole] = [await half.optimizer.state(), await plain.optimizer.state()];
    const floats = (arrays: readonly { length: number }[]) => arrays.reduce((sum, { length }) => sum + length, 0);
    expect(floats(state.m)).toBe(floats(whole.m));
    expect(floats(state.v)).toBe(64 + 64); // of 60 and 6 values
    expect(() => half.optimizer.load(whole)).toThrow(/a run with optim adamw_torch, and this one has muon/);
    expect(() => plain.optimizer.load(state)).toThrow(/a run with optim muon, and this one has adamw_torch/);
    const codes = await train({ eightBit: true }, 0, 1);
    expect(() => codes.optimizer.load(state)).toThrow(/a run with optim muon, and this one has adamw_8bit/);
    expect(() => codes.optimizer.load(whole)).toThrow(/a run with optim adamw_torch, and this one has adamw_8bit/);
    for (const { store, optimizer } of [straight, half, rest, plain, codes])
      for (const one of [optimizer, store]) one.destroy();
  });

  it("does nothing with gradients that are not finite", async () => {
    const { own, store, optimizer } = await train({ muon: true }, 0, 1);
    const before = [await store.read(), await optimizer.state()];
    own.wide.value.grad?.write(new Float32Array(60).fill(Number.NaN));
    optimizer.step(0.02);
    const [values, state] = [await store.read(), await optimizer.state()];
    expect(values).toEqual(before[0]);
    expect({ m: state.m, v: state.v }).toEqual({ m: (before[1] as typeof state).m, v: (before[1] as typeof state).v });
    for (const one of [optimizer, store]) one.destroy();
  });

  it("trains the linear layers of models and adapters by Hugging Face's modules, and refuses stores without any", () => {
    const config = decoderConfig({
      ...{ family: "llama", vocabSize: 20, hiddenSize: 16, layers: 1, heads: 4, kvHeads: 2, maxPositions: 8 },
      ...{ intermediateSize: 24, tieEmbeddings: false, eosId: 1 },
    } as const);
    const model = new CausalLM(config);
    const maps = Object.fromEntries(model.store.parameters.flatMap(({ name, maps }) => (maps ? [[name, maps]] : [])));
    expect(Object.values(maps)).toEqual(
      expect.arrayContaining([
        [
          [0, 16],
          [16, 24],
          [24, 32],
        ],
        [[0, 16]],
        [
          [0, 24],
          [24, 48],
        ],
      ]),
    );
    expect(Object.keys(maps)).toHaveLength(4);
    const adapted = new CausalLM({ base: model, lora: { rank: 3, alpha: 6, targets: ["q_proj", "v_proj"] } });
    expect(adapted.store.parameters.map(({ shape, maps }) => [shape, maps])).toEqual([
      [
        [6, 16],
        [
          [0, 3],
          [3, 6],
        ],
      ],
      [[16, 3], [[0, 16]]],
      [[8, 3], [[0, 8]]],
    ]);
    const vectors = new ParameterStore([new Parameter([4], { constant: 0 })], "critic");
    expect(() => new AdamW(vectors, { muon: true })).toThrow(/optim muon: critic has no hidden matrix/);
    expect(() => new AdamW(vectors, { muon: true, eightBit: true })).toThrow(/do not go together/);
    for (const one of [adapted, model, vectors]) one.destroy();
  });
});
