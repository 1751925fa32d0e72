/** The knobs: what they are called, how far they go, and which methods they do something for. */

export const methods = ["ppo", "grpo", "raft", "dpo", "best-of-n"] as const;
export type Method = (typeof methods)[number];
/** A single method, or all of them with an equal budget. */
export type Choice = Method | "race";
export const choices: readonly Choice[] = [...methods, "race"];

export interface Knobs {
  method: Choice;
  /** Pairs that the judge learns from. */
  pairs: number;
  klCoef: number;
  /** DPO's. */
  beta: number;
  learningRate: number;
  /** Different prompts that training draws from. */
  prompts: number;
  /** Answers to one prompt that compete with each other. */
  group: number;
  /** Answers in one step. */
  responses: number;
  temperature: number;
  steps: number;
  /** Generated tokens that each method of a race may spend. */
  budget: number;
  seed: number;
}

export type NumberKnob = Exclude<keyof Knobs, "method" | "seed">;

export interface KnobSpec {
  readonly key: NumberKnob;
  readonly min: number;
  readonly max: number;
  /** Of the input's arrows; values between are allowed unless `whole`. */
  readonly step: number;
  readonly whole: boolean;
  /** A question changes what the run shows; a size, how long it takes and how clearly it shows it. */
  readonly role: "question" | "size";
  /** Those that it does something for. */
  readonly of: readonly Choice[];
}

const sampled = ["ppo", "grpo", "raft"] as const;

export const specs: readonly KnobSpec[] = [
  { key: "klCoef", min: 0, max: 1, step: 0.05, whole: false, role: "question", of: ["ppo", "grpo", "race"] },
  { key: "beta", min: 0.01, max: 2, step: 0.05, whole: false, role: "question", of: ["dpo", "race"] },
  { key: "learningRate", min: 1e-5, max: 1e-2, step: 1e-4, whole: false, role: "question", of: [...sampled, "dpo"] },
  { key: "temperature", min: 0.2, max: 2, step: 0.05, whole: false, role: "question", of: [...sampled, "dpo", "race"] },
  { key: "group", min: 2, max: 32, step: 2, whole: true, role: "question", of: ["grpo", "raft", "dpo", "best-of-n"] },
  { key: "prompts", min: 16, max: 4096, step: 16, whole: true, role: "question", of: [...sampled, "dpo"] },
  { key: "responses", min: 8, max: 256, step: 8, whole: true, role: "size", of: [...sampled, "dpo", "race"] },
  { key: "steps", min: 1, max: 500, step: 1, whole: true, role: "question", of: [...sampled, "dpo"] },
  { key: "pairs", min: 32, max: 4096, step: 32, whole: true, role: "size", of: choices },
  { key: "budget", min: 2000, max: 500_000, step: 1000, whole: true, role: "size", of: ["race"] },
];

/** A value that the knob can take: clamped, rounded; the fallback where it is no number. */
export function fitted({ min, max, whole }: KnobSpec, value: number, fallback: number): number {
  if (!Number.isFinite(value)) return fallback;
  const clamped = Math.min(max, Math.max(min, value));
  return whole ? Math.round(clamped) : clamped;
}

/** What suits a method; choosing it sets these. */
export const ofMethod: Readonly<Record<Choice, Pick<Knobs, "learningRate" | "steps" | "group" | "prompts">>> = {
  ppo: { learningRate: 1.2e-3, steps: 16, group: 8, prompts: 4096 },
  grpo: { learningRate: 1.2e-3, steps: 16, group: 8, prompts: 4096 },
  raft: { learningRate: 6e-4, steps: 12, group: 8, prompts: 4096 },
  dpo: { learningRate: 7e-4, steps: 24, group: 4, prompts: 128 },
  "best-of-n": { learningRate: 1.2e-3, steps: 16, group: 16, prompts: 4096 },
  race: { learningRate: 1.2e-3, steps: 16, group: 8, prompts: 4096 },
};

/** What is the same run: knobs that the method does not turn are left out. */
export function effective(knobs: Knobs): Partial<Knobs> {
  const counts = specs.filter(({ of }) => of.includes(knobs.method)).map(({ key }) => [key, knobs[key]] as const);
  return { method: knobs.method, ...Object.fromEntries(counts), seed: knobs.seed };
}

export const sameRun = (a: Knobs, b: Knobs): boolean => JSON.stringify(effective(a)) === JSON.stringify(effective(b));
