/** The playground: one run with all the knobs, or a race of all methods on an equal budget. It is run as a lesson is. */
import * as v from "valibot";
import type { Address } from "../lib/lesson/address.ts";
import { judgeSteps } from "../lib/lesson/judge-size.ts";
import type { Lesson, LessonEvent, Size } from "../lib/lesson/types.ts";
import { choices, type KnobSpec, type Knobs, ofMethod, specs } from "./knobs.ts";
import { type Preset, presets } from "./presets.ts";

/** Sizes alone: the question stays the same in each of them. */
const sizes: Readonly<Record<Size, Pick<Knobs, "responses" | "pairs" | "budget">>> = {
  S: { responses: 32, pairs: 256, budget: 12_000 },
  M: { responses: 64, pairs: 1024, budget: 40_000 },
  L: { responses: 128, pairs: 2048, budget: 120_000 },
};

const input = (size: Size, seed: number): Knobs => ({
  method: "ppo",
  klCoef: 0.1,
  beta: 0.1,
  temperature: 1,
  ...ofMethod.ppo,
  ...sizes[size],
  seed,
});

const bounded = ({ min, max, whole }: KnobSpec): v.GenericSchema<number> => {
  const within = v.pipe(v.number(), v.minValue(min), v.maxValue(max));
  return whole ? v.pipe(within, v.integer()) : within;
};
const numbers = Object.fromEntries(specs.map((spec) => [spec.key, bounded(spec)]));
const schema = v.strictObject({
  method: v.picklist(choices),
  ...numbers,
  seed: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(999_999_999)),
});

export const presetKnobs = ({ seed = 42, asks, size = "S" }: Preset): Knobs => ({ ...input(size, seed), ...asks });

/** Where a run is asked for again: what differs from the small size is named, so that it stays when sizes change. */
export function addressOfKnobs(knobs: Knobs): Address {
  const base = input("S", knobs.seed);
  const asked = Object.entries(knobs).filter(([key, value]) => value !== base[key as keyof Knobs]);
  return { size: "S", seed: knobs.seed, asked: Object.fromEntries(asked) };
}

/** What figures show of a look at the held-out prompts. */
const LOOKED = /^(gold|reward)(_se|_std|_change|_change_se)?$|^(kl|mean_length|tokens|prompts)$/;
const pick = (values: Record<string, number>, names: RegExp) =>
  Object.fromEntries(Object.entries(values).filter(([name]) => names.test(name)));

function keep(event: LessonEvent): LessonEvent | null {
  if (event.type === "measured") return { ...event, values: pick(event.values, LOOKED) };
  if (event.type !== "train") return event.type === "enter" ? null : event;
  const { event: told, stage } = event;
  // Of the policies the looks tell.
  if (told.type === "eval") return { ...event, event: { ...told, metrics: pick(told.metrics, /^eval_accuracy$/) } };
  if (told.type !== "step") return null;
  if (stage !== "judge") return null;
  return { ...event, event: { ...told, tokens: 0, seconds: 0, usage: {}, metrics: pick(told.metrics, /^loss$/) } };
}

/** What an answer is long, about: only for the progress bar. */
const LENGTH = 16;

export const lesson: Lesson<Knobs> = {
  slug: "playground",
  number: 0,
  title: { en: "Playground", zh: "实验场" },
  aha: {
    en: "A small language model learns what a judge likes, here in this tab. Does it agree with the truth?",
    zh: "一个小语言模型就在这个标签页里学着讨好评判。评判所喜欢的,与真实质量一致吗?",
  },
  input,
  // Nothing is claimed here, so nothing can fail.
  wrong: input,
  parse: (value) => v.parse(schema, value) as Knobs,
  addressOf: addressOfKnobs,
  predictions: [],
  checks: [],
  recorded: presets.map((preset) => ({ name: preset.name, input: presetKnobs(preset) })),
  keep,
  steps: ({ method, pairs, steps, responses, budget }) =>
    judgeSteps(pairs) +
    (method === "race" ? Math.round((3.5 * budget) / (LENGTH * responses)) : method === "best-of-n" ? 0 : steps),
};
