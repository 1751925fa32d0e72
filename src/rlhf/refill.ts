/**
 * Dynamic sampling (Yu et al. 2025, DAPO): where all responses of a group are worth the same nothing is learned of it, and a group
 * to another prompt is drawn in its place.
 */
import { withoutSpread } from "./advantages.ts";
import type { PromptOrder } from "./prompts.ts";
import type { Rollout } from "./rollout.ts";

/** Responses of a rollout, with what losses take of them. */
export type Drawn = Pick<
  Rollout,
  "responses" | "scores" | "parts" | "failures" | "oldLogProbs" | "refLogProbs" | "importance" | "rewards"
>;

/** Several as one, whose prompts are numbered through. */
export function joined(rollouts: readonly Drawn[], size: number): Drawn {
  const flat = <K extends "scores" | "oldLogProbs" | "refLogProbs" | "rewards">(key: K) =>
    rollouts.flatMap((one) => one[key] as Drawn[K][number][]) as Drawn[K];
  let prompts = 0;
  const responses = rollouts.flatMap((one) => {
    const before = prompts;
    prompts += one.responses.length / size;
    // Those of the first stay the objects that they are: whoever watches the rollout knows them by that.
    return before === 0 ? one.responses : one.responses.map((r) => ({ ...r, prompt: before + r.prompt }));
  });
  const weighed = rollouts.every(({ importance }) => importance !== null);
  return {
    responses,
    scores: flat("scores"),
    failures: rollouts.flatMap(({ failures }) => failures),
    parts: rollouts[0].parts.map((_, k) => rollouts.flatMap(({ parts }) => parts[k])),
    oldLogProbs: flat("oldLogProbs"),
    refLogProbs: flat("refLogProbs"),
    rewards: flat("rewards"),
    importance: weighed ? rollouts.flatMap(({ importance }) => importance as number[][]) : null,
  };
}

/** How groups are replaced. */
export interface RefillOptions {
  /** Responses of a group. */
  size: number;
  /** Draws of a rollout at most, the first one among them. */
  draws: number;
  /** Prompts in another order than that of the first draws; each rollout has a stretch of its own. */
  order: PromptOrder;
  /** Rollouts before this one. */
  step: number;
  /** Draws a group to each of these prompts; the iteration has drawn for `after` before. */
  draw(chosen: readonly number[], after: readonly number[]): Promise<Drawn>;
}

/**
 * Draws until there are as many groups to learn from as were drawn at first, or as often as it may.
 * @param chosen the prompts of the first draw
 * @returns all draws, the first one first
 */
export async function refilled<D extends Drawn>(
  first: D,
  chosen: readonly number[],
  { size, draws, order, step, draw }: RefillOptions,
): Promise<readonly [D, ...Drawn[]]> {
  const all: [D, ...Drawn[]] = [first];
  const drawn = [...chosen];
  const useful = ({ scores }: Drawn) => withoutSpread(scores, size).filter((same) => !same).length;
  let found = useful(first);
  while (found < chosen.length && all.length < draws) {
    // As many as are missing, and more by how few are of use; never more than a rollout has.
    const rate = Math.max(found, 1) / drawn.length;
    const wanted = Math.min(chosen.length, Math.ceil((chosen.length - found) / rate));
    const place = (step * (draws - 1) + all.length - 1) * chosen.length;
    const stretch = order.take(place, chosen.length + drawn.length);
    const fresh = stretch.filter((prompt) => !drawn.includes(prompt));
    const next = (fresh.length > 0 ? fresh : stretch).slice(0, wanted); // few prompts are asked again
    const more = await draw(next, drawn);
    all.push(more);
    drawn.push(...next);
    found += useful(more);
  }
  return all;
}
