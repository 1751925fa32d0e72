/**
 * How often one policy's answers are preferred to another's, as it is and with the difference in length taken out: judges like
 * long answers (Dubois et al. 2024, "Length-Controlled AlpacaEval", arXiv:2404.04475).
 */
import { randomInt, streamId } from "../runtime/rng.ts";
import { percentileInterval } from "./bootstrap.ts";
import { average } from "./stats.ts";

/** A number with the ends of its 95 % interval; null where there is none. */
export interface Estimate {
  value: number;
  low: number | null;
  high: number | null;
}

/** A comparison of two answers to a prompt. */
export interface PairedOutcome {
  /** 1 where the first policy's answer is preferred, 0 where the other one is, 1/2 for a tie. */
  outcome: number;
  /** Lengths of both answers, in whatever unit. */
  length: number;
  otherLength: number;
}

/** Options of `winRates`. */
export interface WinRateOptions {
  /** Resamples of the bootstrap; 0 gives the length-controlled rate no interval. Default 1000. */
  resamples?: number;
  seed?: number;
}

/** Win rates of one policy against another. */
export interface WinRates {
  /** Prompts. */
  n: number;
  wins: number;
  ties: number;
  losses: number;
  /** The mean outcome, ties as 1/2. Wilson's interval: with ties it is wider than it need be. */
  win_rate: Estimate;
  /** The same at equal lengths. The interval is the bootstrap's, over prompts. Null where all outcomes are alike. */
  length_controlled: Estimate | null;
  /** phi of the fit: how much the judge likes the first policy's answer for being longer. Null as above, and where all lengths agree. */
  length_effect: number | null;
  mean_length: number;
  other_mean_length: number;
}

/** Raw and length-controlled win rates. Throws an Error where there is no comparison. */
export function winRates(comparisons: readonly PairedOutcome[], options: WinRateOptions = {}): WinRates {
  const n = comparisons.length;
  if (n === 0) throw new Error("there are no comparisons");
  const outcomes = comparisons.map(({ outcome }) => outcome);
  const value = average(outcomes);
  const controlled = lengthControlled(comparisons, options);
  const count = (wanted: (outcome: number) => boolean) => outcomes.filter(wanted).length;
  return {
    n,
    wins: count((outcome) => outcome > 0.5),
    ties: count((outcome) => outcome === 0.5),
    losses: count((outcome) => outcome < 0.5),
    win_rate: { value, ...wilson(value, n) },
    length_controlled: controlled && { value: controlled.value, low: controlled.low, high: controlled.high },
    length_effect: controlled?.effect ?? null,
    mean_length: average(comparisons.map(({ length }) => length)),
    other_mean_length: average(comparisons.map(({ otherLength }) => otherLength)),
  };
}

/** The normal distribution's 97.5 % quantile. */
const Z = 1.959963984540054;

/** Wilson's 95 % interval of a proportion (Wilson 1927). */
export function wilson(proportion: number, n: number): { low: number; high: number } {
  const z2 = Z * Z;
  const middle = (proportion + z2 / (2 * n)) / (1 + z2 / n);
  const half = (Z / (1 + z2 / n)) * Math.sqrt((proportion * (1 - proportion)) / n + z2 / (4 * n * n));
  return { low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

/** Of the penalty on phi, which keeps the fit finite where length explains every outcome. */
const RIDGE = 0.1;

/**
 * Fits logit P(first preferred) = theta + phi x, where x = tanh((length - otherLength) / s) and s is the standard deviation (over n)
 * of all differences: it minimises the cross-entropy of the outcomes (ties count 1/2) plus 0.05 phi^2. The rate is 1 / (1 + e^-theta):
 * what the judge would say at equal lengths.
 */
function lengthControlled(
  comparisons: readonly PairedOutcome[],
  { resamples = 1000, seed = 0 }: WinRateOptions,
): (Estimate & { effect: number | null }) | null {
  const n = comparisons.length;
  const outcomes = comparisons.map(({ outcome }) => outcome);
  if (allAlike(outcomes)) return null;
  const differences = comparisons.map(({ length, otherLength }) => length - otherLength);
  const x = lengthFeature(differences);
  const fit = fitLogistic(x, outcomes);
  const rates: number[] = [];
  const stream = streamId("bootstrap win rate");
  for (let r = 0; r < resamples; r++) {
    const drawn = outcomes.map((_, i) => randomInt(n, seed, i, r, stream));
    const own = drawn.map((i) => outcomes[i]);
    if (allAlike(own)) {
      rates.push(own[0]);
      continue;
    }
    const feature = lengthFeature(drawn.map((i) => differences[i]));
    rates.push(sigmoid(fitLogistic(feature, own, fit).theta));
  }
  return { value: sigmoid(fit.theta), ...percentileInterval(rates), effect: allAlike(x) ? null : fit.phi };
}

/** With ties alone, as with wins alone, nothing tells length from worth. */
const allAlike = (values: readonly number[]): boolean => values.every((value) => value === values[0]);

/** tanh of the differences in units of their standard deviation; zeros where they do not differ. */
function lengthFeature(differences: readonly number[]): number[] {
  const mean = average(differences);
  const deviation = Math.sqrt(average(differences.map((d) => (d - mean) ** 2)));
  return differences.map((d) => (deviation > 0 ? Math.tanh(d / deviation) : 0));
}

const sigmoid = (z: number): number => 1 / (1 + Math.exp(-z));

/** Newton's method, its step halved until the loss falls: the loss is convex, and strictly so in phi. */
function fitLogistic(
  x: readonly number[],
  y: readonly number[],
  start = { theta: 0, phi: 0 },
): { theta: number; phi: number } {
  const loss = (theta: number, phi: number) => {
    let sum = 0.5 * RIDGE * phi * phi;
    for (let i = 0; i < x.length; i++) {
      const z = theta + phi * x[i];
      sum += Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z))) - y[i] * z;
    }
    return sum;
  };
  let { theta, phi } = start;
  let now = loss(theta, phi);
  for (let step = 0; step < 100; step++) {
    let [g0, g1, h00, h01, h11] = [0, RIDGE * phi, 0, 0, RIDGE];
    for (let i = 0; i < x.length; i++) {
      const p = sigmoid(theta + phi * x[i]);
      const w = p * (1 - p);
      g0 += p - y[i];
      g1 += (p - y[i]) * x[i];
      h00 += w;
      h01 += w * x[i];
      h11 += w * x[i] * x[i];
    }
    const det = h00 * h11 - h01 * h01;
    if (!(det > 0)) break;
    const [d0, d1] = [(h11 * g0 - h01 * g1) / det, (h00 * g1 - h01 * g0) / det];
    let scale = 1;
    let next = loss(theta - d0, phi - d1);
    while (next > now && scale > 1e-6) {
      scale /= 2;
      next = loss(theta - scale * d0, phi - scale * d1);
    }
    if (next > now) break;
    theta -= scale * d0;
    phi -= scale * d1;
    now = next;
    if (Math.abs(d0) + Math.abs(d1) < 1e-10) break;
  }
  return { theta, phi };
}
