/**
 * Watches for tokens whose frequency and reward rise together, as '#' did when RAFT found that its reward model liked it:
 * an iteration's responses are compared with those of the first, before anything was learned.
 *
 * For each token two tests, both on how many responses contain it (a token that is repeated counts once):
 * - its share of the responses now against the share then: z of two proportions, pooled variance;
 * - rewards of the responses with it against those without: z of Welch's two means. Where a prompt has several responses,
 *   each reward is taken relative to its prompt's mean, so that easy prompts do not speak for the words in their answers.
 * A token is flagged when both z exceed the threshold and its share rose by `minRise`. The tests say that a token and the
 * reward go together, not that the reward is wrong: a right answer's words rise as well. Thousands of tokens are tested, so
 * the threshold is far above the usual 2.
 */
import type { TextTokenizer } from "../../nn/text-tokenizer.ts";
import type { Sequence } from "../batch.ts";
import type { TrainEvent } from "../events.ts";

/** How many responses there were, and how many contained each token. */
export interface TokenCounts {
  responses: number;
  counts: Record<string, number>;
}

/** Options of `monitorTokens`. */
export interface MonitorOptions {
  /** Both z must exceed it. Default 4. */
  threshold?: number;
  /** Share of responses by which a flagged token must have become more frequent. Default 0.05. */
  minRise?: number;
  /** Tokens to report per iteration; flagged ones are always reported. Default 10. */
  rows?: number;
}

/** A token's rise in frequency and the reward that goes with it, with z scores of both. */
export interface TokenReport {
  token: string;
  /** Share of responses with the token now, and in the first iteration. */
  frequency: number;
  first_frequency: number;
  /** The first less the second. */
  frequency_change: number;
  /** z of two proportions, pooled variance. */
  frequency_z: number;
  /** Mean reward of responses with the token less that of the others (each relative to its prompt's mean). */
  reward_difference: number;
  /** z of Welch's two means. */
  reward_z: number;
  /** The same difference in the true reward, where there is one. */
  gold_difference?: number;
  /** Both z exceed the threshold, and the share rose by `minRise`. */
  flagged: boolean;
}

/** Responses to be monitored: of each its different tokens, its reward, and the number of the prompt that it answers. */
export interface MonitoredResponses {
  tokens: readonly ReadonlySet<string>[];
  rewards: readonly number[];
  prompts: readonly number[];
  gold?: readonly number[] | null;
}

/** The different tokens of each response that are learned, as text; an end token is none. */
export function tokensIn(responses: readonly Sequence[], tokenizer: TextTokenizer): Set<string>[] {
  const texts = new Map<number, string>();
  const textOf = (id: number): string => {
    let text = texts.get(id);
    if (text === undefined) {
      text = tokenizer.decode([id], { continued: true });
      texts.set(id, text);
    }
    return text;
  };
  return responses.map(({ ids, promptLength, learned }) => {
    const own = ids.subarray(promptLength).filter((_, t) => learned?.[promptLength + t] !== 0);
    const tokens = new Set(Array.from(own, textOf));
    tokens.delete("");
    return tokens;
  });
}

/** What an iteration's reports come to after its step: rows of the table "monitor", and a warning. */
export function monitorEvents(
  iteration: number,
  found: MonitoredResponses,
  first: TokenCounts,
  options: MonitorOptions,
): TrainEvent[] {
  const reports = monitorTokens(found, first, options);
  const text = monitorWarning(reports);
  const rows = reports.map((report) => ({ iteration, ...report }));
  const step = iteration + 1;
  return [
    ...(rows.length > 0 ? [{ type: "rows" as const, step, table: "monitor", rows }] : []),
    ...(text === null ? [] : [{ type: "warning" as const, step, text }]),
  ];
}

/** Counts the responses that contain each token, sorted by token. */
export function countTokens(tokens: readonly ReadonlySet<string>[]): TokenCounts {
  const counts = new Map<string, number>();
  for (const set of tokens) for (const token of set) counts.set(token, (counts.get(token) ?? 0) + 1);
  return { responses: tokens.length, counts: Object.fromEntries([...counts].sort(([a], [b]) => (a < b ? -1 : 1))) };
}

/** The tokens that rose most surely in frequency and reward together, surest first. */
export function monitorTokens(
  found: MonitoredResponses,
  first: TokenCounts,
  { threshold = 4, minRise = 0.05, rows = 10 }: MonitorOptions = {},
): TokenReport[] {
  const now = countTokens(found.tokens);
  const rewards = withinPrompts(found.rewards, found.prompts);
  const gold = found.gold ? withinPrompts(found.gold, found.prompts) : null;
  const reports: TokenReport[] = [];
  for (const [token, count] of Object.entries(now.counts)) {
    const frequency = count / now.responses;
    const before = (Object.hasOwn(first.counts, token) ? first.counts[token] : 0) / Math.max(1, first.responses);
    if (frequency <= before) continue;
    const frequencyZ = twoProportions(frequency, now.responses, before, first.responses);
    const has = found.tokens.map((set) => set.has(token));
    const reward = twoMeans(rewards, has);
    const flagged = frequencyZ > threshold && reward.z > threshold && frequency - before >= minRise;
    reports.push({
      token,
      frequency,
      first_frequency: before,
      frequency_change: frequency - before,
      frequency_z: frequencyZ,
      reward_difference: reward.difference,
      reward_z: reward.z,
      ...(gold && { gold_difference: twoMeans(gold, has).difference }),
      flagged,
    });
  }
  const surety = (r: TokenReport) => Math.min(r.frequency_z, r.reward_z);
  reports.sort((a, b) => surety(b) - surety(a) || (a.token < b.token ? -1 : 1));
  return reports.filter((r, i) => r.flagged || (i < rows && surety(r) > 0));
}

/**
 * A sentence on the flagged tokens, the surest few; null when there are none. Where the true reward is known, a token that
 * goes with more of it is no exploit and stays unmentioned.
 */
export function monitorWarning(reports: readonly TokenReport[], most = 3): string | null {
  const flagged = reports.filter((r) => r.flagged && !((r.gold_difference ?? 0) > 0));
  if (flagged.length === 0) return null;
  const shown = flagged.slice(0, most).map((r) => {
    const percent = (share: number) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`;
    const truth = r.gold_difference === undefined ? "" : `, true reward ${signed(r.gold_difference)}`;
    return (
      `${JSON.stringify(r.token)} in ${percent(r.frequency)} of the responses, ${percent(r.first_frequency)} at first ` +
      `(z ${r.frequency_z.toFixed(0)}), reward ${signed(r.reward_difference)} (z ${r.reward_z.toFixed(0)})${truth}`
    );
  });
  const more = flagged.length > most ? `; and ${flagged.length - most} more in monitor.jsonl` : "";
  return `tokens that rise together with the reward: ${shown.join("; ")}${more}`;
}

const signed = (x: number) => `${x < 0 ? "" : "+"}${x.toFixed(2)}`;

/** Values less the mean of their prompt's; as they are where every prompt has only one. */
function withinPrompts(values: readonly number[], prompts: readonly number[]): number[] {
  const sums = new Map<number, { total: number; count: number }>();
  prompts.forEach((prompt, i) => {
    const { total, count } = sums.get(prompt) ?? { total: 0, count: 0 };
    sums.set(prompt, { total: total + values[i], count: count + 1 });
  });
  if (sums.size === values.length) return [...values];
  return values.map((value, i) => {
    const { total, count } = sums.get(prompts[i]) as { total: number; count: number };
    return value - total / count;
  });
}

/** z of the difference of two proportions with pooled variance; 0 where nothing varies. */
function twoProportions(p: number, n: number, q: number, m: number): number {
  if (n === 0 || m === 0) return 0;
  const pooled = (p * n + q * m) / (n + m);
  const error = Math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m));
  return error > 0 ? (p - q) / error : 0;
}

/** Beyond this a z says nothing more; two groups of constants have no error at all. */
const LARGEST_Z = 1000;

/** Mean of the values where `has` is true less that of the others, and its z; 0 with fewer than two of either. */
function twoMeans(values: readonly number[], has: readonly boolean[]): { difference: number; z: number } {
  const mine = spread(values.filter((_, i) => has[i]));
  const others = spread(values.filter((_, i) => !has[i]));
  if (mine.n < 2 || others.n < 2) return { difference: 0, z: 0 };
  const difference = mine.mean - others.mean;
  const error = Math.sqrt(mine.variance / mine.n + others.variance / others.n);
  if (difference === 0) return { difference, z: 0 };
  return { difference, z: Math.max(-LARGEST_Z, Math.min(LARGEST_Z, difference / error)) };
}

/** Mean and unbiased variance. */
function spread(values: readonly number[]): { n: number; mean: number; variance: number } {
  const n = values.length;
  const mean = values.reduce((a, b) => a + b, 0) / Math.max(1, n);
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return { n, mean, variance: squares / Math.max(1, n - 1) };
}
