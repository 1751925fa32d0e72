/** The knobs: their ranges, and how they stand in the page's address. */
import type { Knobs } from "./protocol.ts";

export type NumberKnob = Exclude<keyof Knobs, "algorithm">;

export interface NumberSpec {
  readonly key: NumberKnob;
  /** Name in the address; the command line's option of the same meaning where there is one. */
  readonly param: string;
  readonly label: string;
  readonly help: string;
  readonly min: number;
  readonly max: number;
  /** Of the input's arrows; values between are allowed unless `whole`. */
  readonly step: number;
  readonly whole: boolean;
  /** A question changes what the run shows; a size, how long it takes and how clearly it shows it. */
  readonly role: "question" | "size";
}

export const defaultKnobs: Knobs = {
  algorithm: "ppo",
  seed: 42,
  klCoef: 0.1,
  learningRate: 1.2e-3,
  rolloutSize: 64,
  steps: 12,
  rewardPairs: 2048,
};

export const numberSpecs: readonly NumberSpec[] = [
  {
    key: "klCoef",
    param: "kl_coef",
    label: "KL penalty",
    help: "How much it costs to leave the start. 0 lets the policy run free.",
    min: 0,
    max: 1,
    step: 0.01,
    whole: false,
    role: "question",
  },
  {
    key: "learningRate",
    param: "learning_rate",
    label: "Learning rate",
    help: "The size of each step of the policy.",
    min: 1e-5,
    max: 1e-2,
    step: 1e-4,
    whole: false,
    role: "question",
  },
  {
    key: "rolloutSize",
    param: "rollout_batch_size",
    label: "Responses per step",
    help: "Sampled, scored and learned from.",
    min: 4,
    max: 256,
    step: 4,
    whole: true,
    role: "size",
  },
  {
    key: "steps",
    param: "max_steps",
    label: "Steps",
    help: "How long the policy learns.",
    min: 1,
    max: 500,
    step: 1,
    whole: true,
    role: "size",
  },
  {
    key: "rewardPairs",
    param: "reward_pairs",
    label: "Preference pairs",
    help: "That the reward model learns from. Fewer make a worse judge.",
    min: 32,
    max: 4096,
    step: 32,
    whole: true,
    role: "size",
  },
  {
    key: "seed",
    param: "seed",
    label: "Seed",
    help: "The same seed gives the same run.",
    min: 0,
    max: 999999,
    step: 1,
    whole: true,
    role: "question",
  },
];

/** Sizes at most, on an adapter that computes on the CPU. */
const small: Partial<Record<NumberKnob, number>> = { rolloutSize: 16, steps: 12, rewardPairs: 256 };

/** The same question in sizes that a CPU can take. What is smaller already stays. */
export function smaller(knobs: Knobs): Knobs {
  const sizes = numberSpecs.filter(({ role }) => role === "size");
  return {
    ...knobs,
    ...Object.fromEntries(sizes.map(({ key }) => [key, Math.min(knobs[key], small[key] ?? Infinity)])),
  };
}

/** A value that the knob can take: clamped, rounded; the fallback where it is no number. */
export function fitKnob(spec: NumberSpec, value: number, fallback: number): number {
  if (!Number.isFinite(value)) return fallback;
  const clamped = Math.min(spec.max, Math.max(spec.min, value));
  return spec.whole ? Math.round(clamped) : clamped;
}

/** The algorithm's name in the address. */
export const algorithmParam = "algorithm";

/** "#algorithm=ppo&kl_coef=0.05…" as knobs. What is missing or wrong takes its default. */
export function knobsFromHash(hash: string, defaults: Knobs = defaultKnobs): Knobs {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const algorithm = given.get(algorithmParam);
  const knobs: Knobs = { ...defaults };
  if (algorithm === "ppo" || algorithm === "raft") knobs.algorithm = algorithm;
  for (const spec of numberSpecs) {
    const text = given.get(spec.param)?.trim();
    if (text) knobs[spec.key] = fitKnob(spec, Number(text), defaults[spec.key]);
  }
  return knobs;
}

/** The whole state, so that a link does not change its meaning when defaults do. */
export function knobsToHash(knobs: Knobs): string {
  const out = new URLSearchParams({ [algorithmParam]: knobs.algorithm });
  for (const spec of numberSpecs) out.set(spec.param, String(knobs[spec.key]));
  return `#${out}`;
}

export const sameKnobs = (a: Knobs, b: Knobs): boolean => knobsToHash(a) === knobsToHash(b);
