/**
 * Preference pairs from scored responses: which two of a prompt's K responses are shown to DPO, which one is the better,
 * and by how much. The rules and their names are Online-RLHF's (`choose_type`); "lmflow" changes what LMFlow's iterative
 * DPO does differently. Of K responses the place counts from 0; of equal rewards the first is the best and the first is
 * the worst, as NumPy's argmax and argmin have it, but for max_max the last ones are the best, as its argsort has it.
 */
import type { ScoredRow } from "../../data/scored-rows.ts";
import { UserError } from "../../runtime/errors.ts";
import { randomInt, streamId } from "../../runtime/rng.ts";
import { group, type SettingValues } from "../../settings/index.ts";

/**
 * random: the first two responses; max_random: the best and the first of the others; max_min: the best and the worst;
 * max_max: the best and the second best; max_min_p: max_min of reward - length penalty x characters.
 */
export const pairRules = ["random", "max_random", "max_min", "max_max", "max_min_p"] as const;
/** A rule by which two of a prompt's scored responses become a pair. */
export type PairRule = (typeof pairRules)[number];

const pairing = group("Pairs");

/** How preference pairs are chosen among scored responses; names are Online-RLHF's where it has one. */
export const pairSettings = {
  chooseType: pairing.choice(
    pairRules,
    "max_min",
    "The two of a prompt's responses: the first two, best and another, best and worst, best two, by penalised reward",
  ),
  pairDialect: pairing.choice(
    ["online-rlhf", "lmflow"],
    "online-rlhf",
    "LMFlow draws at random, goes by the penalised reward in everything, and keeps ties",
  ),
  useFast: pairing.bool(false, "With lmflow: fixed responses instead of drawn ones"),
  lengthPenalty: pairing.float(0, "Taken off the reward for each character; Online-RLHF: only by max_min_p"),
  marginScale: pairing.float(1, "Margins are multiplied by this"),
  dropEmpty: pairing.bool(false, "Leave out responses without a visible character"),
  dropTruncated: pairing.bool(false, "Leave out responses that did not end by themselves"),
  dropIdentical: pairing.bool(false, "Drop pairs of equal texts"),
  minMargin: pairing.float(0, "Drop pairs whose rewards differ by less, before scaling", { min: 0 }),
};

/**
 * The rule of a pair. "online-rlhf": `random` and `max_random` take fixed places; the penalty chooses the pair and the raw reward
 * says which one is better; ties are dropped. "lmflow": they are drawn (unless `useFast`); selection, direction and margin all
 * follow the penalised reward, under every rule; ties stay, the one chosen first as the better, so that K equal rewards give a
 * pair of a response with itself.
 */
export type PairOptions = SettingValues<typeof pairSettings> & {
  /** For the rules that draw; with the row's `id` it decides the draw. */
  seed: number;
};

/** Throws `UserError` for settings that would not be looked at. */
export function checkPairs(
  o: SettingValues<typeof pairSettings>,
  name: (key: "useFast" | "pairDialect" | "lengthPenalty" | "chooseType") => string,
): void {
  if (o.pairDialect !== "online-rlhf") return;
  if (o.useFast) {
    throw new UserError(
      `${name("useFast")} goes with ${name("pairDialect")} lmflow; online-rlhf takes fixed places anyway`,
    );
  }
  if (o.lengthPenalty === 0 || o.chooseType === "max_min_p") return;
  throw new UserError(
    `${name("lengthPenalty")} does not apply to ${name("chooseType")} ${o.chooseType} of online-rlhf: use max_min_p, or ` +
      `${name("pairDialect")} lmflow`,
  );
}

/** Why a prompt gives no pair. */
export type Drop = "few" | "tie" | "identical" | "margin";

/** Places of the two responses, and the difference of their rewards, scaled. */
export interface Choice {
  chosen: number;
  rejected: number;
  margin: number;
}

/**
 * The pair of one prompt.
 * @param row at least as many rewards as responses; `ended` where truncated ones are to be left out
 * @param key names the row's draws; the same key draws the same pair
 */
export function choosePair(row: ScoredRow, options: PairOptions, key: number): Choice | { dropped: Drop } {
  const { responses, rewards } = row;
  const { pairDialect: dialect, lengthPenalty, marginScale, minMargin } = options;
  const usable = responses.flatMap((text, i) => (isUsable(row, text, i, options) ? [i] : []));
  if (usable.length < 2) return { dropped: "few" };
  const penalised = rewards.map((r, i) => r - lengthPenalty * (lengthPenalty === 0 ? 0 : [...responses[i]].length));
  const selects = dialect === "lmflow" || options.chooseType === "max_min_p" ? penalised : rewards;
  const [a, b] = places(
    usable.map((i) => selects[i]),
    options,
    key,
  ).map((place) => usable[place]);
  const judges = dialect === "lmflow" ? penalised : rewards;
  if (judges[a] === judges[b] && dialect === "online-rlhf") return { dropped: "tie" };
  const [chosen, rejected] = judges[b] > judges[a] ? [b, a] : [a, b];
  if (options.dropIdentical && responses[chosen] === responses[rejected]) return { dropped: "identical" };
  const difference = judges[chosen] - judges[rejected];
  if (difference < minMargin) return { dropped: "margin" };
  return { chosen, rejected, margin: difference * marginScale };
}

function isUsable(row: ScoredRow, text: string, i: number, { dropEmpty, dropTruncated }: PairOptions): boolean {
  if (dropEmpty && text.trim() === "") return false;
  if (!dropTruncated) return true;
  if (row.ended) return row.ended[i];
  throw new UserError(
    `${row.where ?? "a row"} does not say which responses ended ("ended"), so truncated ones are unknown`,
  );
}

const DRAW = streamId("pairs");

/** The rule's two places among values; with both dialects' ways to take "another one". */
function places(
  values: readonly number[],
  { chooseType, pairDialect: dialect, useFast, seed }: PairOptions,
  key: number,
): number[] {
  const n = values.length;
  const drawn = dialect === "lmflow" && !useFast;
  /** Any place but `not`. */
  const other = (not: number, draw: number) => {
    if (!drawn) return not === 0 ? 1 : 0;
    const place = randomInt(n - 1, seed, key, draw, DRAW);
    return place < not ? place : place + 1;
  };
  switch (chooseType) {
    case "random": {
      const first = drawn ? randomInt(n, seed, key, 0, DRAW) : 0;
      return [first, other(first, 1)];
    }
    case "max_random": {
      const best = extreme(values, (x, y) => x > y);
      return [best, other(best, 0)];
    }
    case "max_max": {
      const order = values.map((_, i) => i).sort((i, j) => values[i] - values[j] || i - j);
      return [order[n - 1], order[n - 2]];
    }
    default:
      return [extreme(values, (x, y) => x > y), extreme(values, (x, y) => x < y)];
  }
}

/** The first place whose value beats all before it. */
function extreme(values: readonly number[], beats: (x: number, y: number) => boolean): number {
  let found = 0;
  for (let i = 1; i < values.length; i++) if (beats(values[i], values[found])) found = i;
  return found;
}

/** A pair with the row that it comes from. */
export interface RowPair extends Choice {
  row: ScoredRow;
}

/** Counts of rows by what became of them. */
export interface PairCounts {
  /** Rows given. */
  total: number;
  /** Pairs made. */
  pairs: number;
  /** Rows with fewer than K responses, where those are left out. */
  short: number;
  /** Rows with fewer than two usable responses. */
  few: number;
  /** Rows whose two rewards are equal. */
  tie: number;
  /** Rows whose two responses are the same text. */
  identical: number;
  /** Rows whose two rewards are too close. */
  margin: number;
}

/** Options of `makePairs`: how a row's pair is chosen, and what becomes of rows with too few responses. */
export interface MakePairsOptions extends PairOptions {
  /** Responses that a row should have. Default: as many as the longest row has. */
  samples?: number | null;
  /** What becomes of rows with fewer: left out (default, as in Online-RLHF), used all the same, or an error. */
  shortRows?: "skip" | "use" | "error";
}

/**
 * The pairs of all rows, in their order.
 * @throws UserError where no row gives a pair, saying what became of them
 */
export function makePairs(
  rows: readonly ScoredRow[],
  options: MakePairsOptions,
): { pairs: RowPair[]; counts: PairCounts } {
  const made = findPairs(rows, options);
  if (made.pairs.length > 0) return made;
  throw new UserError(`there is no pair to learn from: ${describeCounts(made.counts)}`);
}

/** As `makePairs`, but that there may be none. */
export function findPairs(
  rows: readonly ScoredRow[],
  options: MakePairsOptions,
): { pairs: RowPair[]; counts: PairCounts } {
  const counts: PairCounts = { total: rows.length, pairs: 0, short: 0, few: 0, tie: 0, identical: 0, margin: 0 };
  const { shortRows = "skip" } = options;
  const k = options.samples ?? samplesPerRow(rows);
  const pairs: RowPair[] = [];
  rows.forEach((row, i) => {
    if (row.responses.length < k && shortRows !== "use") {
      if (shortRows === "error") {
        throw new UserError(`${row.where ?? `row ${i + 1}`} has ${row.responses.length} responses instead of ${k}`);
      }
      counts.short++;
      return;
    }
    const choice = choosePair(row, options, typeof row.id === "number" ? row.id : i);
    if ("dropped" in choice) counts[choice.dropped]++;
    else pairs.push({ ...choice, row });
  });
  counts.pairs = pairs.length;
  return { pairs, counts };
}

/** K: the most responses that any row has. */
export const samplesPerRow = (rows: readonly { responses: readonly string[] }[]): number =>
  rows.reduce((most, { responses }) => Math.max(most, responses.length), 0);

/** "90 pairs of 100 prompts (7 ties, 3 with fewer responses than the others)". */
export function describeCounts(c: PairCounts): string {
  const reasons = [
    c.tie > 0 && `${c.tie} with equal rewards`,
    c.short > 0 && `${c.short} with fewer responses than the others`,
    c.few > 0 && `${c.few} with fewer than two usable responses`,
    c.identical > 0 && `${c.identical} with equal texts`,
    c.margin > 0 && `${c.margin} with too small a margin`,
  ].filter(Boolean);
  return `${c.pairs} pairs of ${c.total} prompts${reasons.length > 0 ? ` (${reasons.join(", ")})` : ""}`;
}
