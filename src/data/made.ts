/** Datasets that are made by seed instead of read: the built-in world, pairs in circles, and answers rated in domains. */
import type { Rated } from "./rated.ts";
import type { DataRecord, Preference } from "./records.ts";
import { cyclePreferences } from "./world/cycle.ts";
import { DOMAIN_ATTRIBUTES, domainPreferences, domainRatings } from "./world/domains.ts";
import { worldRuleNamed } from "./world/rule-names.ts";
import {
  type WorldQuality,
  type WorldRule,
  type WorldSplit,
  worldJudges,
  worldPart,
  worldPreferences,
  worldPrompts,
  worldQualities,
  worldSftRecords,
} from "./world.ts";

/** The built-in world's name: data, tokenizer and reward that need no file. */
export const WORLD = "builtin:world";
/** Whether data are of the built-in world, whoever judges them: its tokenizer and its true reward fit. */
export const isWorld = (name: unknown): boolean =>
  name === WORLD || (typeof name === "string" && variantNamed(name) !== null);

/** The name of pairs whose judge prefers in a circle. */
export const CYCLE = "builtin:cycle";
/** The name of answers that are rated, and preferred by the prompt's domain. */
export const DOMAINS = "builtin:domains";

/** A part of made-up data; no record is in both. */
export type MadeSplit = WorldSplit;

type Make<R> = (n: number, seed: number, split: MadeSplit) => R[];

/** What made-up data can give: n of each for a seed. */
export interface MadeDataset {
  prompts: Make<string>;
  pairs: Make<Preference>;
  /** Answers to learn, where those are not the pairs' better ones. */
  answers?: Make<DataRecord>;
  rated?: { attributes: readonly string[]; rows(n: number, seed: number): Rated[] };
}

/** Records that made-up data have as made when nobody says how many. */
export const MADE_RECORDS = 2048;

const prompts: Make<string> = (n, seed, split) => worldPrompts(n, seed, split);

const world: MadeDataset = {
  prompts,
  pairs: (n, seed, split) => worldPreferences(n, seed, { split }),
  answers: (n, seed, split) => worldSftRecords(n, seed, split),
};

/** The best so many of more: as many are made as leave n. */
const partOfWorld =
  (part: WorldQuality): Make<DataRecord> =>
  (n, seed, split) => {
    const [from, to] = worldQualities[part];
    return worldPart(worldSftRecords(Math.round(n / (to - from)), seed, split), part).slice(0, n);
  };

const judgedBy = (judge: WorldRule): MadeDataset => ({
  ...world,
  pairs: (n, seed, split) => worldPreferences(n, seed, { split, judge }),
});

/** The world as its judges label it, and parts of its stories by what they are truly worth. */
const variants: Record<string, MadeDataset> = Object.fromEntries([
  ...Object.entries(worldJudges).map(([name, judge]): [string, MadeDataset] => [`${WORLD}/${name}`, judgedBy(judge)]),
  ...Object.keys(worldQualities).map((part): [string, MadeDataset] => [
    `${WORLD}/${part}`,
    { ...world, answers: partOfWorld(part as WorldQuality) },
  ]),
]);

/** A variant by its name, or as a rule that the name says labels it: `builtin:world/length=-0.15+noise=0.1`. */
function variantNamed(name: string): MadeDataset | null {
  if (Object.hasOwn(variants, name)) return variants[name];
  const rule = name.startsWith(`${WORLD}/`) ? worldRuleNamed(name.slice(WORLD.length + 1)) : null;
  return rule && judgedBy(rule);
}

const datasets: Readonly<Record<string, MadeDataset>> = {
  [WORLD]: world,
  ...variants,
  [CYCLE]: { prompts, pairs: cyclePreferences },
  [DOMAINS]: {
    prompts,
    pairs: domainPreferences,
    rated: { attributes: DOMAIN_ATTRIBUTES, rows: (n, seed) => domainRatings(n, seed) },
  },
};

/** The names of all made-up data. */
export const madeNames = (): string[] => Object.keys(datasets);

/** The made-up data of a name, or null for data that are read. */
export const madeDataset = (name: string): MadeDataset | null =>
  Object.hasOwn(datasets, name) ? datasets[name] : variantNamed(name);

/**
 * Made-up data as records of one kind, to look at and to write: prompts, answers to learn, pairs' better answers, or
 * pairs.
 *
 * @param n records to make; default 2048
 */
export function madeRecords(
  made: MadeDataset,
  kind: "prompt" | "supervised" | "chosen" | "preference",
  { n = MADE_RECORDS, seed, split = "train" }: { n?: number; seed: number; split?: MadeSplit },
): DataRecord[] {
  if (kind === "prompt") return made.prompts(n, seed, split).map((prompt) => ({ kind, prompt }));
  if (kind === "supervised" && made.answers) return made.answers(n, seed, split);
  const pairs = made.pairs(n, seed, split);
  if (kind === "preference") return pairs;
  return pairs.map(({ prompt, chosen }) => ({ kind: "prompt_completion", prompt, completion: chosen }));
}
