/**
 * What the tests of reported numbers share: a tiny Llama in float64, a record of a run's forward passes with the weights
 * that each of them had, scripted responses, and what every rollout reports. Nothing here calls the trainers' arithmetic.
 */
import { expect } from "vitest";
import type { ParameterStore } from "webrlhf";
import { AdamW, CausalLM, decoderConfig, type Model, ScoreModel, type TextTokenizer } from "webrlhf/nn";
import type { Prompt, Response, Sampler, TrainEvent } from "webrlhf/rlhf";
import { createBuffer } from "../../../src/gpu/pool.ts";
import { copy, destroyBuffers, download, upload } from "../../../src/gpu/stream.ts";
import { normal, uint32 } from "../../../src/runtime/rng.ts";

// The models.

const VOCAB = 24;
const EOS = 1;
const [HIDDEN, HEADS] = [8, 2];
const config = decoderConfig({
  family: "llama",
  vocabSize: VOCAB,
  hiddenSize: HIDDEN,
  layers: 1,
  heads: HEADS,
  maxPositions: 32,
  tieEmbeddings: false,
  eosId: EOS,
  padId: 0,
});

/** Weights so large that the predictions of two seeds differ well. */
function withWeights<M extends Model>(model: M, seed: number): M {
  model.store.parameters.forEach(({ shape, size, value }, i) => {
    if (shape.length > 1) value.write(Float32Array.from({ length: size }, (_, k) => 0.35 * normal(seed, i, k)));
    else value.write(Float32Array.from({ length: size }, (_, k) => 1 + 0.1 * normal(seed, i, k)));
  });
  return model;
}

export const languageModel = (seed: number, label: string): CausalLM => withWeights(new CausalLM(config, label), seed);
export const scoreModel = (seed: number, label: string): ScoreModel => withWeights(new ScoreModel(config, label), seed);

type Weights = ReadonlyMap<string, ArrayLike<number>>;

const dot = (a: ArrayLike<number>, b: ArrayLike<number>, bFirst = 0): number => {
  let total = 0;
  for (let i = 0; i < a.length; i++) total += a[i] * b[bFirst + i];
  return total;
};

/** W x, for W [rows, columns]. */
function times(weights: ArrayLike<number>, x: readonly number[]): number[] {
  return Array.from({ length: weights.length / x.length }, (_, row) => dot(x, weights, row * x.length));
}

const rmsNorm = (x: readonly number[], weight: ArrayLike<number>): number[] => {
  const scale = 1 / Math.sqrt(dot(x, x) / x.length + config.normEps);
  return x.map((v, i) => v * scale * weight[i]);
};

const softmax = (x: readonly number[]): number[] => {
  const most = Math.max(...x);
  const powers = x.map((v) => Math.exp(v - most));
  const total = sum(powers);
  return powers.map((v) => v / total);
};

/** Column i of a head turns with column i + half. */
function rotate(x: readonly number[], position: number): number[] {
  const size = HIDDEN / HEADS;
  const half = size / 2;
  return x.map((v, column) => {
    const i = column % size;
    const angle = position * config.ropeTheta ** (-(2 * (i % half)) / size);
    const other = i < half ? -x[column + half] : x[column - half];
    return v * Math.cos(angle) + other * Math.sin(angle);
  });
}

/** The last hidden state of every token. */
function hiddenStates(weights: Weights, ids: ArrayLike<number>): number[][] {
  const get = (name: string) => {
    const found = weights.get(name);
    if (!found) throw new Error(`no ${name} among ${[...weights.keys()].join(", ")}`);
    return found;
  };
  const block = (name: string) => get(`decoder.blocks.0.${name}.weight`);
  const size = HIDDEN / HEADS;
  const embed = Array.from(get("decoder.embed.weight"));
  const x = Array.from(ids, (id) => embed.slice(id * HIDDEN, (id + 1) * HIDDEN));
  const qkv = x.map((v) => times(block("attention.qkv"), rmsNorm(v, block("norm1"))));
  const queries = qkv.map((v, t) => rotate(v.slice(0, HIDDEN), t));
  const keys = qkv.map((v, t) => rotate(v.slice(HIDDEN, 2 * HIDDEN), t));
  const values = qkv.map((v) => v.slice(2 * HIDDEN));
  return x.map((own, t) => {
    const mixed: number[] = [];
    for (let head = 0; head < HEADS; head++) {
      const part = (v: readonly number[]) => v.slice(head * size, (head + 1) * size);
      const shares = softmax(keys.slice(0, t + 1).map((k) => dot(part(queries[t]), part(k)) / Math.sqrt(size)));
      for (let i = 0; i < size; i++) mixed.push(sum(shares.map((p, s) => p * part(values[s])[i])));
    }
    const h = times(block("attention.out"), mixed).map((v, i) => v + own[i]);
    const gateUp = times(block("mlp.up"), rmsNorm(h, block("norm2")));
    const half = gateUp.length / 2;
    const inner = gateUp.slice(0, half).map((g, i) => (g / (1 + Math.exp(-g))) * gateUp[half + i]);
    const out = times(block("mlp.down"), inner).map((v, i) => v + h[i]);
    return rmsNorm(out, get("decoder.norm.weight"));
  });
}

/** Log-probability, entropy and mean logit of every token from `first` on. */
export function predicted(weights: Weights, ids: ArrayLike<number>, first: number, temperature = 1) {
  const head = weights.get("head") as ArrayLike<number>;
  const rows = hiddenStates(weights, ids).slice(first - 1, -1);
  const logits = rows.map((h) => times(head, h));
  const probabilities = logits.map((row) => softmax(row.map((v) => v / temperature)));
  return {
    logProbs: probabilities.map((p, t) => Math.log(p[ids[first + t]])),
    entropy: probabilities.map((p) => -sum(p.map((q) => q * Math.log(q)))),
    meanLogits: logits.map(mean),
  };
}

/** The score at each of the given places. */
export function scored(weights: Weights, ids: ArrayLike<number>, places: readonly number[]): number[] {
  const rows = hiddenStates(weights, ids);
  return places.map((t) => dot(rows[t], weights.get("score") as ArrayLike<number>));
}

// Plain statistics.

export const sum = (x: readonly number[]): number => x.reduce((a, b) => a + b, 0);
export const mean = (x: readonly number[]): number => sum(x) / x.length;
/** Unbiased. */
export const variance = (x: readonly number[]): number => sum(x.map((v) => (v - mean(x)) ** 2)) / (x.length - 1);
export const deviation = (x: readonly number[]): number => Math.sqrt(variance(x));
export const bounded = (x: number, low: number, high: number): number => (x < low ? low : x > high ? high : x);
export const share = <T>(all: readonly T[], test: (one: T) => boolean): number => all.filter(test).length / all.length;

/** White-space words. */
export const words = (text: string): string[] => text.split(" ").filter((word) => word !== "");

const grams = (texts: readonly string[], n: number): string[] =>
  texts.flatMap((text) => {
    const own = words(text);
    return own.slice(0, Math.max(0, own.length - n + 1)).map((_, i) => own.slice(i, i + n).join(" "));
  });

/** Different n-grams of words over all n-grams. */
export const distinct = (texts: readonly string[], n: number): number =>
  new Set(grams(texts, n)).size / grams(texts, n).length;

/** N-grams that there are only once. */
export const unique = (texts: readonly string[], n: number): number => {
  const all = grams(texts, n);
  return all.filter((gram) => all.indexOf(gram) === all.lastIndexOf(gram)).length;
};

// A record of a run.

/** One forward pass: the tokens of each sequence, and how many optimizer steps the model had taken before. */
export interface Pass {
  model: string;
  kind: "hidden" | "logProbs" | "scores";
  sequences: number[][];
  steps: number;
}

/** One optimizer step. */
interface Step {
  rate: number;
  gradNorm: number;
  weights: Weights;
}

/**
 * Watches the forward passes and optimizer steps of some models, until `close`. Models are named by their labels. Passes of
 * a rollout are those since `mark`.
 */
export class Recorder {
  private readonly passes: Pass[] = [];
  private readonly marks: number[] = [];
  private readonly taken = new Map<string, number>();
  private readonly copies = new Map<
    string,
    { rate: number; store: ParameterStore; buffers: ReturnType<typeof createBuffer>[] }[]
  >();
  private readonly undo: (() => void)[] = [];
  private readonly models: readonly Model[];

  /** @param spoiled steps whose gradient is made infinite, by model */
  constructor(models: readonly Model[], spoiled: Record<string, readonly number[]> = {}) {
    this.models = models;
    const note = (
      kind: Pass["kind"],
      model: Model,
      { lengths, starts }: { lengths: readonly number[]; starts: readonly number[] },
      host: Uint32Array,
    ) => {
      const { label } = model.store;
      const sequences = lengths.map((n, i) => [...host.subarray(starts[i], starts[i] + n)]);
      this.passes.push({ model: label, kind, sequences, steps: this.taken.get(label) ?? 0 });
    };
    for (const model of models) {
      this.taken.set(model.store.label, 0);
      this.copies.set(model.store.label, []);
      if (model instanceof CausalLM) {
        const { hidden, logProbs } = model;
        model.hidden = (ids, packing, rows) => {
          note("hidden", model, packing, ids.host);
          return hidden.call(model, ids, packing, rows);
        };
        model.logProbs = (ids, packing, ...others) => {
          note("logProbs", model, packing, ids.host);
          return logProbs.call(model, ids, packing, ...others);
        };
      } else if (model instanceof ScoreModel) {
        const { scores } = model;
        model.scores = (ids, packing, rows) => {
          note("scores", model, packing, ids.host);
          return scores.call(model, ids, packing, rows);
        };
      }
    }
    const { step } = AdamW.prototype;
    const recorder = this;
    AdamW.prototype.step = function (this: AdamW, rate: number, ...others: []) {
      const { store } = this as unknown as { store: ParameterStore };
      const { label } = store;
      const done = recorder.taken.get(label);
      if (done === undefined) throw new Error(`nobody watches ${label}`);
      recorder.taken.set(label, done + 1);
      const gradients = store.gradients ?? [];
      if (spoiled[label]?.includes(done)) upload(gradients[0], Float32Array.of(Number.POSITIVE_INFINITY));
      const buffers = [...store.chunks.map(({ values }) => values), ...gradients].map((view) => {
        const buffer = createBuffer(view.size, "a record");
        copy(view, buffer, view.size);
        return buffer;
      });
      recorder.copies.get(label)?.push({ rate, store, buffers });
      return step.call(this, rate, ...others);
    };
    this.undo.push(() => {
      AdamW.prototype.step = step;
    });
  }

  /** Begins a rollout. */
  mark(): void {
    this.marks.push(this.passes.length);
  }

  /** A model's passes of each rollout. */
  rollouts(model: string): Pass[][] {
    return this.marks.map((first, i) =>
      this.passes.slice(first, this.marks[i + 1]).filter((pass) => pass.model === model),
    );
  }

  /** A model's optimizer steps with the weights before each, and one more entry with the weights after the last. */
  async steps(label: string): Promise<Step[]> {
    const steps: Step[] = [];
    for (const { rate, store, buffers } of this.copies.get(label) ?? []) {
      const read = await Promise.all(buffers.map(async (view) => new Float32Array(await download(view, view.size))));
      const n = store.chunks.length;
      const gradients = read.slice(n).flatMap((chunk) => [...chunk]);
      const gradNorm = Math.sqrt(sum(gradients.map((g) => g * g)));
      steps.push({ rate, gradNorm, weights: store.split(read.slice(0, n)) });
    }
    const model = this.models.find(({ store }) => store.label === label) as Model;
    return [...steps, { rate: Number.NaN, gradNorm: Number.NaN, weights: await model.store.read() }];
  }

  close(): void {
    for (const undo of this.undo) undo();
    for (const all of this.copies.values()) for (const { buffers } of all) destroyBuffers(buffers);
    for (const model of this.models) model.destroy();
  }
}

/** The passes of each optimizer step. */
export const grouped = <T extends Pick<Pass, "steps">>(passes: readonly T[]): T[][] =>
  [...new Set(passes.map(({ steps }) => steps))].map((step) => passes.filter(({ steps }) => steps === step));

/** The passes' sequences by their places in the rollout; those that are not in it are supervised ones. */
export function located(passes: readonly Pass[], responses: readonly Response[]) {
  const places = new Map(responses.map(({ ids }, i) => [ids.join(), i]));
  const found = passes.map((pass) => ({ ...pass, places: pass.sequences.map((ids) => places.get(ids.join()) ?? -1) }));
  return {
    own: found.filter(({ places }) => places[0] >= 0),
    beside: found.filter(({ places }) => places[0] < 0),
  };
}

/** Mean negative log-likelihood of a token. */
export function nll(weights: Weights, sequences: readonly { ids: ArrayLike<number>; promptLength: number }[]) {
  return mean(
    sequences.flatMap(({ ids, promptLength }) => predicted(weights, ids, promptLength).logProbs.map((p) => -p)),
  );
}

// Responses.

const textOf = (ids: readonly number[]): string =>
  ids
    .filter((id) => id !== EOS)
    .map((id) => `w${id}`)
    .join(" ");

/** Every id but the end is a word. */
export const wordTokenizer: TextTokenizer = {
  vocabSize: VOCAB,
  eosId: EOS,
  bosId: undefined,
  padId: 0,
  encode: (text) => words(text).map((word) => Number(word.slice(1))),
  decode: (ids) => textOf(Array.from(ids)),
  checkFits: () => {},
};

/** Prompts of different lengths. */
export const prompts = (count: number): Prompt[] =>
  Array.from({ length: count }, (_, i) => {
    const ids = Uint32Array.from({ length: 2 + (i % 4) }, (_, t) => 3 + (uint32(7, i, t) % (VOCAB - 3)));
    return { text: `prompt ${i}`, ids };
  });

/**
 * Draws responses of scripted lengths, of which those marked end by themselves; all different.
 * @param shapes tokens of the next response, with the end token, negative where it is cut off; in a circle
 */
export function scripted(shapes: readonly number[], begins: (iteration: number) => void = () => {}): Sampler {
  return async (prompts, _, { samples = 1, iteration, onResponses }) => {
    begins(iteration);
    const responses = prompts.flatMap(({ text: promptText, ids: given }, prompt) =>
      Array.from({ length: samples }, (_, sample): Response => {
        const at = prompt * samples + sample;
        const shape = shapes[(iteration * 5 + at) % shapes.length];
        const own = Array.from({ length: Math.abs(shape) }, (_, t) => 3 + (uint32(11, iteration, at, t) % (VOCAB - 3)));
        if (shape > 0) own[own.length - 1] = EOS;
        const ids = Uint32Array.from([...given, ...own]);
        return { ids, promptLength: given.length, prompt, sample, promptText, text: textOf(own), ended: shape > 0 };
      }),
    );
    await onResponses?.(responses);
    return responses;
  };
}

/** Tokens of a response. */
export const responseTokens = ({ ids, promptLength }: Response): number[] => [...ids.subarray(promptLength)];

/** Three things to tell responses by. */
export const longer = (r: Response): number => 0.3 * responseTokens(r).length - 1;
export const evener = (r: Response): number => share(responseTokens(r), (id) => id % 2 === 0);
export const richer = (r: Response): number => new Set(responseTokens(r)).size / 2;

// What every rollout reports.

/** What a rollout's numbers follow from; arrays by response, then by response token. */
export interface RolloutFacts {
  responses: readonly Response[];
  /** Each reward's numbers, with its weight. */
  parts: Readonly<Record<string, { weight: number; of: (response: Response) => number }>>;
  gold: (response: Response) => number;
  logProbs: readonly number[][];
  /** Null where there is no reference. */
  refLogProbs: readonly number[][] | null;
  entropy: readonly number[][];
  /** Estimates the KL of a token from its log-ratio. */
  estimate: (d: number) => number;
  klCoef: number;
  klInReward: boolean;
}

/** Each response's reward, and each token's KL. */
export function rolloutNumbers({ responses, parts, logProbs, refLogProbs, estimate }: RolloutFacts) {
  const scores = responses.map((r) => sum(Object.values(parts).map(({ weight, of }) => weight * of(r))));
  const kl = logProbs.map((own, i) => own.map((p, t) => (refLogProbs ? estimate(p - refLogProbs[i][t]) : 0)));
  return { scores, kl };
}

/**
 * The metrics of a rollout.
 * @param rewards of each token as they are after the KL penalty, before they are whitened
 */
export function rolloutMetrics(facts: RolloutFacts, rewards: readonly number[][]): Record<string, number> {
  const { responses, parts, gold, logProbs, refLogProbs, entropy, klCoef, klInReward } = facts;
  const { scores, kl } = rolloutNumbers(facts);
  const lengths = responses.map((r) => responseTokens(r).length);
  const texts = responses.map(({ text }) => text);
  const metrics: Record<string, number> = {
    reward: mean(scores),
    gold: mean(responses.map(gold)),
    reward_with_kl_penalty: mean(rewards.map(sum)),
    entropy: mean(entropy.map(mean)),
    sampled_entropy: mean(logProbs.map((l) => -sum(l))),
    mean_length: mean(lengths),
    max_length: Math.max(...lengths),
    min_length: Math.min(...lengths),
    num_eos_tokens: responses.filter((r) => responseTokens(r).at(-1) === EOS).length,
    eos_rate: share(responses, (r) => responseTokens(r).at(-1) === EOS),
    distinct_1: distinct(texts, 1),
    distinct_2: distinct(texts, 2),
    kl_coef: klCoef,
  };
  for (const [name, { of }] of Object.entries(parts)) metrics[`rewards/${name}`] = mean(responses.map(of));
  if (refLogProbs) {
    metrics.kl = mean(kl.map(sum));
    metrics.kl_per_token = mean(kl.flat());
    metrics.kl_reward = klInReward ? -klCoef * mean(kl.map(sum)) : 0;
  }
  return metrics;
}

// Comparing.

/** Fails where a metric is missing, is one too many, or is off. Numbers are f32 on the GPU. */
export function expectMetrics(found: Record<string, number>, expected: Record<string, number>, where: string): void {
  expect(Object.keys(found).sort(), `${where}: the names of the metrics`).toEqual(Object.keys(expected).sort());
  const wrong = Object.entries(expected).filter(
    ([name, value]) =>
      found[name] !== value &&
      !(Math.abs(found[name] - value) <= 2e-5 * (1 + Math.abs(value)) && Number.isFinite(value)),
  );
  expect(
    wrong.map(([name, value]) => `${name} is ${found[name]}, not ${value}`),
    where,
  ).toEqual([]);
}

/** The events of one kind. */
export const eventsOf = <T extends TrainEvent["type"]>(events: readonly TrainEvent[], type: T) =>
  events.filter((event): event is TrainEvent & { type: T } => event.type === type);
