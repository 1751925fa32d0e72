/**
 * Every number that a trainer publishes, computed again in float64 by plain formulas from the logits and scores that the
 * models have before the step. Nothing here calls a loss, a mean or a metric of the library.
 */
import { expect } from "vitest";
import {
  memoryFiles,
  noGrad,
  type Packing,
  type ParameterStore,
  packing,
  parseSafetensors,
  scope,
  type Tensor,
  tensor,
} from "webrlhf";
import { CausalLM, decoderConfig, type Ids, type ScoreHead, ScoreModel, type Scoring } from "webrlhf/nn";
import type { RunOptions, TrainEvent } from "webrlhf/rlhf";
import { normal, permutation, uint32 } from "../../../src/runtime/rng.ts";
import { readChunks, writeChunks } from "../../../src/tensor/params.ts";

export type Metrics = Record<string, number>;

// Data and models ------------------------------------------------------------------------------------------------------

const VOCAB = 24;

/** Token ids without a meaning: the same for the same key. */
export const words = (length: number, ...key: number[]): Uint32Array =>
  Uint32Array.from({ length }, (_, i) => uint32(11, ...key, i) % VOCAB);

export const joined = (...parts: Uint32Array[]): Uint32Array => Uint32Array.from(parts.flatMap((part) => [...part]));

const config = () =>
  decoderConfig({
    family: "llama",
    vocabSize: VOCAB,
    hiddenSize: 16,
    layers: 1,
    heads: 2,
    intermediateSize: 24,
    maxPositions: 32,
    tieEmbeddings: false,
  });

/** Weights that are large enough for models to differ in what they say. */
function strengthen(store: ParameterStore, seed: number, deviation: number): void {
  store.parameters.forEach((parameter, p) => {
    if (parameter.shape.length < 2) return;
    parameter.value.write(Float32Array.from({ length: parameter.size }, (_, i) => deviation * normal(seed, p, i)));
  });
}

export function languageModel(seed: number, deviation = 0.25): CausalLM {
  const model = new CausalLM(config()).initialize(seed);
  strengthen(model.store, seed, deviation);
  return model;
}

export function scorer(seed: number, head: Partial<ScoreHead> & { scoring?: Scoring } = {}): ScoreModel {
  const model = new ScoreModel(config(), "scorer", "float32", head).initialize(seed);
  strengthen(model.store, seed, 0.25);
  return model;
}

// What models say ------------------------------------------------------------------------------------------------------

/** Reads what a model makes of sequences, [tokens, width], as rows of each sequence. */
async function rowsOf(
  sequences: readonly Uint32Array[],
  forward: (ids: Ids, layout: Packing) => Tensor,
  pads?: readonly number[],
): Promise<number[][][]> {
  const host = joined(...sequences);
  const lengths = sequences.map((ids) => ids.length);
  const out = scope(() =>
    noGrad(() => forward({ gpu: tensor(host), host }, packing(lengths, undefined, undefined, pads))),
  );
  const values = await out.read();
  out.free("the reference");
  const width = values.length / host.length;
  let row = 0;
  return sequences.map((ids) => Array.from(ids, () => Array.from(values.subarray(row * width, ++row * width))));
}

/** The logits at every place of every sequence: [sequence][place][token]. */
export const logitsOf = (model: CausalLM, sequences: readonly Uint32Array[]): Promise<number[][][]> =>
  rowsOf(sequences, (ids, layout) => model.logits(model.decoder.forward(ids, { packing: layout })));

/**
 * The numbers of the head at every place of every sequence: [sequence][place][output].
 * @param pads how many of each sequence's last tokens are padding
 */
export const outputsOf = (
  model: ScoreModel,
  sequences: readonly Uint32Array[],
  pads: readonly number[] = sequences.map(() => 0),
): Promise<number[][][]> =>
  rowsOf(
    sequences,
    (ids, layout) =>
      model.outputs(
        ids,
        layout,
        Uint32Array.from({ length: layout.rows }, (_, i) => i),
      ),
    pads,
  );

export const sum = (values: readonly number[]): number => values.reduce((total, x) => total + x, 0);
export const mean = (values: readonly number[]): number => sum(values) / values.length;
export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
export const logSigmoid = (x: number): number => -Math.log1p(Math.exp(-x));

export function logSoftmax(row: readonly number[]): number[] {
  const most = Math.max(...row);
  const total = Math.log(sum(row.map((z) => Math.exp(z - most))));
  return row.map((z) => z - most - total);
}

export const entropyOf = (row: readonly number[]): number => -sum(logSoftmax(row).map((l) => Math.exp(l) * l));

/** A predicted token. */
export interface Predicted {
  logProb: number;
  entropy: number;
  /** No token is more probable. */
  first: boolean;
  /** Mean of the logits that predict it. */
  logit: number;
  /** log of the sum of the squared probabilities that predict it. */
  logSumSquares: number;
}

/** Every token of each sequence from its `first` on, as the tokens before it predict it. */
export async function predictedBy(
  model: CausalLM,
  sequences: readonly { ids: Uint32Array; first: number }[],
): Promise<Predicted[][]> {
  const logits = await logitsOf(
    model,
    sequences.map(({ ids }) => ids),
  );
  return sequences.map(({ ids, first }, i) =>
    Array.from(ids.subarray(first), (id, t) => {
      const row = logits[i][first + t - 1];
      const all = logSoftmax(row);
      const logSumSquares = Math.log(sum(all.map((l) => Math.exp(2 * l))));
      return {
        logProb: all[id],
        entropy: entropyOf(row),
        first: row[id] === Math.max(...row),
        logit: mean(row),
        logSumSquares,
      };
    }),
  );
}

// The order of examples ------------------------------------------------------------------------------------------------

/** The micro-batches of a step (0-based), where a step takes `batch * accumulation` examples and an epoch begins anew. */
export function microBatches<E>(
  examples: readonly E[],
  step: number,
  { seed, batch, accumulation }: { seed: number; batch: number; accumulation: number },
): E[][] {
  const perEpoch = Math.ceil(examples.length / (batch * accumulation));
  const order = [...permutation(examples.length, seed, Math.floor(step / perEpoch))];
  const first = (step % perEpoch) * batch * accumulation;
  return slices(
    order.slice(first, first + batch * accumulation).map((i) => examples[i]),
    batch,
  );
}

export const slices = <E>(list: readonly E[], size: number): E[][] =>
  Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size));

/** The same metrics as an evaluation names them. */
export const evaluated = (metrics: Metrics): Metrics =>
  Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`eval_${name}`, value]));

// Following a run ------------------------------------------------------------------------------------------------------

/** What a step must publish. */
export interface Expected {
  /** All metrics but the optimizer's. */
  metrics: Metrics;
  tokens: number;
  /** The loss of this step's examples for the weights of now; what gets no gradient stays as it was. */
  loss(): Promise<number>;
}

/** How a trainer is followed. */
export interface Followed {
  /** Trains with what it is given besides its own settings, and `adamBeta1` 0. */
  start(run: RunOptions, every: { saveSteps: 1; evalSteps: 1; adamBeta1: 0 }): AsyncGenerator<TrainEvent>;
  /** The trained parameters. */
  store: ParameterStore;
  steps: number;
  stepsPerEpoch?: number;
  /** The learning rate of a step (0-based). */
  rate(step: number): number;
  /** What a step (0-based) must publish, by the models' weights of now. */
  step(step: number): Promise<Expected>;
  /** What an evaluation must publish, by the models' weights of now. */
  evaluate(): Promise<Metrics>;
  /** Names of accuracies, which must be neither 0 nor 1 in any step, so that a wrong one shows. */
  undecided: readonly string[];
}

/**
 * Runs a trainer and compares all that it publishes: every metric of every event, and no other. The gradient norm is
 * compared with the slope of the reference's loss along the gradient, which the optimizer's first moments tell.
 */
export async function follow(run: Followed): Promise<void> {
  const { store, steps, stepsPerEpoch = 1 } = run;
  const files = memoryFiles();
  const views = store.chunks.map(({ values }) => values);
  let at = 0;
  let expected = {} as Expected;
  let before: Float32Array[] = [];
  let gradNorm = 0;
  let last: Metrics = {};
  const seen = new Set<string>();
  const prepare = async () => {
    if (at === steps) return;
    expected = await run.step(at);
    before = await readChunks(views);
  };
  const events = run.start({ folder: { files, path: "run" } }, { saveSteps: 1, evalSteps: 1, adamBeta1: 0 });
  for await (const event of events) {
    seen.add(event.type);
    if (event.type === "start") await prepare();
    if (event.type === "step") {
      const { grad_norm, ...metrics } = event.metrics;
      const optimizer = { learning_rate: run.rate(at), skipped_steps: 0 };
      const where = `step ${at + 1}`;
      compare(metrics, { ...expected.metrics, ...optimizer }, where);
      expect(event.tokens, `${where}: tokens`).toBe(expected.tokens);
      expect(event.epoch, `${where}: epoch`).toBeCloseTo((at + 1) / stepsPerEpoch, 12);
      expect([event.step, event.maxSteps]).toEqual([at + 1, steps]);
      for (const name of run.undecided) {
        expect(metrics[name], `${where}: ${name}`).toBeGreaterThan(0);
        expect(metrics[name], `${where}: ${name}`).toBeLessThan(1);
      }
      gradNorm = grad_norm;
      last = event.metrics;
      at += 1;
    }
    if (event.type === "eval") {
      expect(event.step).toBe(at);
      compare(event.metrics, await run.evaluate(), `evaluation after step ${at}`);
      last = { ...last, ...event.metrics };
    }
    if (event.type === "checkpoint") {
      const state = await files.read(`run/checkpoint-${at}/training_state.safetensors`);
      const moments = parseSafetensors(state as Uint8Array, "moments");
      const gradient = views.map((_, i) => moments.get(`model.m.${i}`).data as Float32Array);
      const after = await readChunks(views);
      const slope = await slopeAlong(gradient, before, expected.loss, (weights) => writeChunks(views, weights));
      writeChunks(views, after);
      compare({ grad_norm: gradNorm }, { grad_norm: slope }, `step ${at}`, 5e-4);
      await prepare();
    }
    if (event.type === "end") expect(event.metrics).toEqual(last);
  }
  const kinds = ["checkpoint", "data", "end", "eval", "start", "step"];
  expect([...seen].filter((type) => type !== "note").sort()).toEqual(kinds);
  expect(at).toBe(steps);
}

/** The derivative of a loss at some weights along a direction, by differences of fourth order. */
async function slopeAlong(
  direction: readonly Float32Array[],
  weights: readonly Float32Array[],
  loss: () => Promise<number>,
  write: (weights: Float32Array[]) => void,
): Promise<number> {
  const length = Math.sqrt(sum(direction.map((part) => part.reduce((total, x) => total + x * x, 0))));
  const at = (distance: number): Promise<number> => {
    write(weights.map((part, i) => part.map((w, j) => w + (distance * direction[i][j]) / length)));
    return loss();
  };
  const h = 0.003;
  const near = (await at(h)) - (await at(-h));
  const far = (await at(2 * h)) - (await at(-2 * h));
  return (8 * near - far) / (12 * h);
}

/** Fails unless both have the same names and, but for rounding, the same numbers. */
export function compare(published: Metrics, expected: Metrics, where: string, tolerance = 1e-4): void {
  expect(Object.keys(published).sort(), `${where}: names`).toEqual(Object.keys(expected).sort());
  for (const [name, value] of Object.entries(expected)) {
    const difference = Math.abs(published[name] - value);
    const allowed = tolerance * Math.max(0.05, Math.abs(value));
    expect(difference, `${where}: ${name} is ${published[name]}, not ${value}`).toBeLessThan(allowed);
  }
}
