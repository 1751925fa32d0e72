/** Rotary positions in config.json: `rope_parameters`, or `rope_theta` and `rope_scaling` as files had it before. */
import type { DecoderConfig, RopeScaling } from "../config.ts";
import type { ConfigReader } from "./reader.ts";

export interface RopeDefaults {
  theta: number;
  /** Where else the base may stand. Default "rope_theta". */
  thetaKey?: string;
  maxPositions: number;
}

type Rope = Pick<DecoderConfig, "ropeTheta" | "ropeScaling">;

/** Base and scaling for all layers. */
export function readRope(json: ConfigReader, defaults: RopeDefaults): Rope & { fraction: number | null } {
  const theta = json.optional(defaults.thetaKey ?? "rope_theta", defaults.theta);
  if (defaults.thetaKey) json.only("rope_theta", theta);
  const readings = ["rope_parameters", "rope_scaling"]
    .filter((key) => Object.keys(json.object(key) ?? {}).length > 0)
    .map((key) => readOne(json.inside(key, json.object(key) ?? {}), theta, defaults.maxPositions));
  const [one = readOne(json.inside("rope_parameters", {}), theta, defaults.maxPositions), other = one] = readings;
  if (JSON.stringify(one) !== JSON.stringify(other)) json.contradiction("rope_parameters", "rope_scaling");
  return one;
}

function readOne(p: ConfigReader, theta: number, maxPositions: number): Rope & { fraction: number | null } {
  return {
    ropeTheta: p.optional("rope_theta", theta),
    ropeScaling: readScaling(p, maxPositions),
    fraction: p.optional("partial_rotary_factor", null),
  };
}

/** As `readRope`, for families that rotate whole heads. */
export function readWholeRope(json: ConfigReader, defaults: RopeDefaults): Rope {
  json.only("partial_rotary_factor", 1);
  const { fraction, ...rope } = readRope(json, defaults);
  if (fraction !== null && fraction !== 1) {
    json.fail(`rope_parameters: partial_rotary_factor = ${fraction} is not supported (only 1)`);
  }
  return rope;
}

/** What such an object may hold, of whatever type; some of it counts for some types only. */
const FIELDS = new Set(
  (
    "rope_type type factor low_freq_factor high_freq_factor original_max_position_embeddings beta_fast beta_slow mscale " +
    "mscale_all_dim attention_factor truncate rope_theta partial_rotary_factor finetuned"
  ).split(" "),
);

/** The scaling that an object like `rope_scaling` describes. */
export function readScaling(p: ConfigReader, maxPositions: number): RopeScaling | null {
  const scaling = readType(p, maxPositions);
  p.refuseUnread((key) => FIELDS.has(key));
  return scaling;
}

function readType(p: ConfigReader, maxPositions: number): RopeScaling | null {
  const type = (p.json.rope_type ?? p.json.type ?? "default") as RopeScaling["type"] | "default";
  switch (type) {
    case "default":
      return null;
    case "linear":
    case "dynamic":
      return { type, factor: p.number("factor") };
    case "llama3":
      return {
        type,
        factor: p.number("factor"),
        lowFreqFactor: p.number("low_freq_factor"),
        highFreqFactor: p.number("high_freq_factor"),
        originalMaxPositions: p.number("original_max_position_embeddings"),
      };
    case "yarn":
      return readYarn(p, maxPositions);
    default:
      return p.fail(
        `rope_type ${JSON.stringify(type)} is not supported (only "default", "linear", "dynamic", "llama3", "yarn")`,
      );
  }
}

function readYarn(p: ConfigReader, maxPositions: number): RopeScaling {
  const originalMaxPositions = p.optional("original_max_position_embeddings", maxPositions);
  const factor = p.optional("factor", maxPositions / originalMaxPositions);
  const growth = (mscale: number) => (factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1);
  const [mscale, all] = [p.optional("mscale", 0), p.optional("mscale_all_dim", 0)];
  const attentionFactor = mscale && all ? growth(mscale) / growth(all) : growth(1);
  return {
    type: "yarn",
    factor,
    originalMaxPositions,
    betaFast: p.optional("beta_fast", 32) || 32,
    betaSlow: p.optional("beta_slow", 1) || 1,
    attentionFactor: p.optional("attention_factor", attentionFactor),
    truncate: p.flag("truncate", true),
  };
}

/** `rope_parameters`, and the two fields that older readers look for. */
export function writeRope({ ropeTheta, ropeScaling }: Rope): Record<string, unknown> {
  const scaling = writeScaling(ropeScaling);
  return {
    rope_theta: ropeTheta,
    ...(ropeScaling && { rope_scaling: scaling }),
    rope_parameters: { ...scaling, rope_theta: ropeTheta },
  };
}

export function writeScaling(scaling: RopeScaling | null): Record<string, unknown> {
  if (!scaling) return { rope_type: "default" };
  switch (scaling.type) {
    case "llama3":
      return {
        rope_type: scaling.type,
        factor: scaling.factor,
        low_freq_factor: scaling.lowFreqFactor,
        high_freq_factor: scaling.highFreqFactor,
        original_max_position_embeddings: scaling.originalMaxPositions,
      };
    case "yarn":
      return {
        rope_type: scaling.type,
        factor: scaling.factor,
        original_max_position_embeddings: scaling.originalMaxPositions,
        beta_fast: scaling.betaFast,
        beta_slow: scaling.betaSlow,
        attention_factor: scaling.attentionFactor,
        truncate: scaling.truncate,
      };
    default:
      return { rope_type: scaling.type, factor: scaling.factor };
  }
}
