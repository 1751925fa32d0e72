/** From comparisons of two to a ranking of many: what a pair-preference model says of all responses to a prompt. */
import { UserError } from "../../runtime/errors.ts";
import { average } from "../stats.ts";
import type { PreferenceModel } from "./model.ts";
import type { Conversation } from "./template.ts";

/** Rewards that comparisons of responses gave, one per response, prompt by prompt. */
export interface Ranking {
  /** Index of the best response to each prompt. */
  winners: number[];
  /** [prompts][responses] */
  rewards: number[][];
}

/**
 * A linear tournament: the first response meets the second, the winner the third, and so on; who holds the field keeps it
 * on a tie. n - 1 comparisons for n responses. A response's reward is the part of the rounds that it was not out: 1 for the
 * winner, 0 for who loses the first round.
 * @throws UserError where the model's answers are no probabilities, as those of a model that has come to NaN
 */
export async function tournament(
  model: PreferenceModel,
  prompts: readonly Conversation[],
  responses: readonly (readonly string[])[],
): Promise<Ranking> {
  checkShape(prompts, responses);
  const winners = responses.map(() => 0);
  const rewards = responses.map((list) => list.map(() => 1));
  const most = Math.max(0, ...responses.map((list) => list.length));
  for (let round = 1; round < most; round++) {
    const playing = responses.flatMap((list, p) => (round < list.length ? [p] : []));
    const chances = await chancesOf(
      model,
      playing.map((p) => prompts[p]),
      playing.map((p) => responses[p][winners[p]]),
      playing.map((p) => responses[p][round]),
    );
    for (const [i, p] of playing.entries()) {
      const challengerWins = chances[i] < 0.5;
      rewards[p][challengerWins ? winners[p] : round] = (round - 1) / (responses[p].length - 1);
      if (challengerWins) winners[p] = round;
    }
  }
  return { winners, rewards };
}

/**
 * Everybody against everybody: a response's reward is the mean chance with which it is preferred to another one of the
 * same prompt, so rewards of a prompt average 1/2. n (n - 1) / 2 comparisons. The winner is the first with most.
 */
export async function roundRobin(
  model: PreferenceModel,
  prompts: readonly Conversation[],
  responses: readonly (readonly string[])[],
): Promise<Ranking> {
  checkShape(prompts, responses);
  const games = responses.flatMap((list, p) =>
    list.flatMap((_, i) => list.slice(i + 1).map((_, k) => ({ p, i, j: i + 1 + k }))),
  );
  const chances = await chancesOf(
    model,
    games.map(({ p }) => prompts[p]),
    games.map(({ p, i }) => responses[p][i]),
    games.map(({ p, j }) => responses[p][j]),
  );
  const won = responses.map((list) => list.map((): number[] => []));
  for (const [g, { p, i, j }] of games.entries()) {
    won[p][i].push(chances[g]);
    won[p][j].push(1 - chances[g]);
  }
  const rewards = won.map((list) =>
    list.map((chancesOfOne) => (chancesOfOne.length > 0 ? average(chancesOfOne) : 0.5)),
  );
  return { winners: rewards.map((list) => list.indexOf(Math.max(...list))), rewards };
}

/** What the model says; it must be a probability for each question. */
async function chancesOf(model: PreferenceModel, ...[prompts, a, b]: Parameters<PreferenceModel["prefer"]>) {
  const chances = await model.prefer(prompts, a, b);
  if (chances.length !== prompts.length) {
    throw new UserError(`the preference model answered ${chances.length} of ${prompts.length} questions`);
  }
  const bad = chances.findIndex((chance) => !(chance >= 0 && chance <= 1));
  if (bad < 0) return chances;
  throw new UserError(
    `the preference model gave a chance of ${chances[bad]} for ${JSON.stringify(a[bad])} against ${JSON.stringify(b[bad])}: ` +
      "it must be between 0 and 1",
  );
}

function checkShape(prompts: readonly Conversation[], responses: readonly (readonly string[])[]): void {
  if (prompts.length !== responses.length) {
    throw new Error(`${prompts.length} prompts with ${responses.length} lists of responses`);
  }
  const empty = responses.findIndex((list) => list.length === 0);
  if (empty >= 0) throw new UserError(`prompt ${empty + 1} has no responses to compare`);
}
