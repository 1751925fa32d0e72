/** Which of RAFT's responses are learned from. */

/** Indices of each prompt's best allowed response; the first on ties. Prompts whose responses are all discarded drop out. */
export function bestOfEach(rewards: ArrayLike<number>, allowed: readonly boolean[], samples: number): number[] {
  const kept: number[] = [];
  for (let first = 0; first < rewards.length; first += samples) {
    let best = -1;
    for (let i = first; i < first + samples; i++) {
      if (allowed[i] && (best < 0 || rewards[i] > rewards[best])) best = i;
    }
    if (best >= 0) kept.push(best);
  }
  return kept;
}

/** Indices of the `count` best allowed responses, best first; the later on ties, as a stable argsort read backwards has it. */
export function bestOfAll(rewards: ArrayLike<number>, allowed: readonly boolean[], count: number): number[] {
  const ranked = Array.from(rewards, (_, i) => i).filter((i) => allowed[i]);
  return ranked.sort((a, b) => rewards[b] - rewards[a] || b - a).slice(0, count);
}

/** How many responses the share `alpha` of `count` is; floating point may put it just below a whole number. */
export const shareOf = (count: number, alpha: number): number => Math.floor(count * alpha + 1e-9);

/**
 * Rewards less `beta` times the log-ratio of the policy to the model it started from, both summed over the response: what
 * the paper ranks by when it holds the policy near its start (Dong et al. 2023, section 3.3).
 * @param logProbs per response, the policy's log-probability of each of its tokens; `reference` likewise
 */
export function klAdjusted(
  rewards: readonly number[],
  logProbs: readonly ArrayLike<number>[],
  reference: readonly ArrayLike<number>[],
  beta: number,
): number[] {
  return rewards.map((reward, i) => {
    let ratio = 0;
    for (let t = 0; t < logProbs[i].length; t++) ratio += logProbs[i][t] - reference[i][t];
    return reward - beta * ratio;
  });
}
