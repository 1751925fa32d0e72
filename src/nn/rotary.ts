/** Rotary frequencies: how fast each pair of columns turns with the position. Formulas as in transformers' rope utilities. */
import type { DecoderConfig, RopeScaling } from "./config.ts";
import { rotaryDim } from "./config.ts";

export interface Rotary {
  /** Radians per position of each rotated pair, f32 [rotary columns / 2]. */
  frequencies: Float32Array;
  /** Factor on the rotated columns. */
  magnitude: number;
}

type RopeConfig = Pick<
  DecoderConfig,
  | "positions"
  | "headDim"
  | "ropeFraction"
  | "ropeTheta"
  | "ropeScaling"
  | "localRopeTheta"
  | "ropeLayers"
  | "slidingLayers"
>;

const made = new Map<string, Rotary>();

/** What layer `layer` rotates its queries and keys by; null where it does not. Equal models share the same object. */
export function rotaryOf(config: RopeConfig, layer: number): Rotary | null {
  if (config.positions !== "rotary" || !config.ropeLayers[layer]) return null;
  const local = config.slidingLayers[layer] && config.localRopeTheta !== null;
  const theta = local ? (config.localRopeTheta as number) : config.ropeTheta;
  const scaling = local ? null : config.ropeScaling;
  const columns = rotaryDim(config);
  const key = JSON.stringify([columns, theta, scaling]);
  const rotary = made.get(key) ?? rotaryFrequencies(columns, theta, scaling);
  made.set(key, rotary);
  return rotary;
}

/** Frequencies of `columns` rotated columns. Computed in float64 and kept in f32, as transformers keeps them. */
export function rotaryFrequencies(columns: number, theta: number, scaling: RopeScaling | null): Rotary {
  const half = columns / 2;
  const plain = Float32Array.from({ length: half }, (_, i) => theta ** (-i / half));
  switch (scaling?.type) {
    case "linear":
      return { frequencies: plain.map((f) => f / scaling.factor), magnitude: 1 };
    case "llama3":
      return { frequencies: plain.map((f) => llama3(f, scaling)), magnitude: 1 };
    case "yarn":
      return { frequencies: yarn(plain, theta, scaling), magnitude: scaling.attentionFactor };
    default: // "dynamic" scales nothing within maxPositions
      return { frequencies: plain, magnitude: 1 };
  }
}

/** Short waves stay, long waves are stretched, those between are mixed. */
function llama3(frequency: number, s: Extract<RopeScaling, { type: "llama3" }>): number {
  const wave = (2 * Math.PI) / frequency;
  if (wave < s.originalMaxPositions / s.highFreqFactor) return frequency;
  if (wave > s.originalMaxPositions / s.lowFreqFactor) return frequency / s.factor;
  const smooth = (s.originalMaxPositions / wave - s.lowFreqFactor) / (s.highFreqFactor - s.lowFreqFactor);
  return ((1 - smooth) * frequency) / s.factor + smooth * frequency;
}

/** As above, with a ramp over the dimensions that turn `betaFast` to `betaSlow` times within the original context. */
function yarn(plain: Float32Array, theta: number, s: Extract<RopeScaling, { type: "yarn" }>): Float32Array {
  const columns = plain.length * 2;
  const dimension = (turns: number) =>
    (columns * Math.log(s.originalMaxPositions / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [first, last] = [dimension(s.betaFast), dimension(s.betaSlow)];
  const low = Math.max(s.truncate ? Math.floor(first) : first, 0);
  const high = Math.min(s.truncate ? Math.ceil(last) : last, columns - 1);
  const width = high === low ? 0.001 : high - low;
  return plain.map((f, i) => {
    const stretched = Math.min(Math.max((i - low) / width, 0), 1);
    return (f / s.factor) * stretched + f * (1 - stretched);
  });
}
