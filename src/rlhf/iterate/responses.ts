/** Responses as an iteration's rows keep them; episodes with who wrote which token. */

import type { SampledEpisode } from "../../data/sampled-episodes.ts";
import type { SampledRow } from "../../data/scored-rows.ts";
import type { Turn } from "../environment/turn.ts";
import type { PairExample } from "../pairs.ts";
import { fromPrompt, type Prompt, type Response } from "../sampler.ts";
import type { RowPair } from "./pairs.ts";

/** What a row keeps of a response that is an episode; null for any other. */
export function episodeOf({ promptText, promptLength, ids, turns, messages }: Response): SampledEpisode | null {
  if (!turns) return null;
  return {
    prompt: promptText,
    promptIds: Array.from(ids.subarray(0, promptLength)),
    turns: turns.map((turn) => ({ ...turn })),
    ...(messages && { messages: [...messages] }),
  };
}

/** A row's response as it was sampled. */
export function responseOf(prompt: Prompt, row: SampledRow, sample: number): Response {
  const episode = row.episodes?.[sample];
  const first = episode?.promptIds ?? prompt.ids;
  const ids = Uint32Array.from([...first, ...(row.tokenIds as number[][])[sample]]);
  const drawn = { ids, promptLength: first.length, prompt: 0, sample, ended: (row.ended as boolean[])[sample] };
  const text = row.responses[sample];
  if (!episode) return { ...drawn, ...fromPrompt(prompt, text) };
  const learned = new Uint8Array(ids.length);
  for (const { start, end } of episode.turns) learned.fill(1, start, end);
  const { target, row: columns } = prompt;
  return {
    ...drawn,
    learned,
    turns: episode.turns as Turn[],
    promptText: episode.prompt,
    text,
    ...(target !== undefined && { target }),
    ...(columns && { row: columns }),
    ...(episode.messages && { messages: episode.messages }),
  };
}

/** How many tokens of a row's response the policy wrote. */
export const writtenTokens = ({ tokenIds = [], episodes }: SampledRow, sample: number): number =>
  episodes ? episodes[sample].turns.reduce((n, { start, end }) => n + end - start, 0) : tokenIds[sample].length;

/** The pairs whose answers follow the same tokens, and what there is to say of the others: they say nothing of each other. */
export function comparable(pairs: readonly RowPair[]): { pairs: RowPair[]; left: string | null } {
  const alike = pairs.filter(beginsAlike);
  const others = pairs.length - alike.length;
  const left = `${others} of ${pairs.length} pairs are left out: their episodes begin differently`;
  return { pairs: alike, left: others > 0 ? left : null };
}

function beginsAlike({ row: { episodes }, chosen, rejected }: RowPair): boolean {
  if (!episodes) return true;
  const [one, other] = [episodes[chosen].promptIds, episodes[rejected].promptIds];
  return one.length === other.length && one.every((id, t) => id === other[t]);
}

/**
 * A pair as token ids, as they were sampled: what was cut off has no end token, and none is learned. Of episodes only what the policy
 * wrote counts, to it and to the reference.
 */
export function exampleOf(prompt: Prompt, { row, chosen, rejected, margin }: RowPair): PairExample {
  const [better, worse] = [chosen, rejected].map((sample) => responseOf(prompt, row, sample));
  return {
    chosen: better.ids,
    rejected: worse.ids,
    promptLength: better.promptLength,
    margin,
    ...(better.learned && worse.learned && { learned: { chosen: better.learned, rejected: worse.learned } }),
  };
}
