/** How TRL 0.x and Online-RLHF shorten a preference pair: the prompt first, to a length of its own, then the answers. */

/** Two answers behind one prompt, as whole sequences of token ids. */
interface TokenPair {
  chosen: Uint32Array;
  rejected: Uint32Array;
  promptLength: number;
}

export interface PairLimits {
  /** Longest prompt plus answer, in tokens. */
  maxLength: number;
  /** What the prompt is cut to where the longer answer does not fit behind it. */
  maxPromptLength: number;
  /** "left" keeps the prompt's end (keep_end), "right" its start (keep_start). Answers lose their ends. */
  side: "left" | "right";
  /** Tokens at the prompt's start that are never cut: the one that begins every text. Default 0. */
  kept?: number;
}

/**
 * The pair within the limits: unchanged where the longer answer fits. Else the prompt is cut to `maxPromptLength`; where
 * that is not enough, each answer to `maxLength - maxPromptLength`.
 */
export function shortenPair<P extends TokenPair>(pair: P, limits: PairLimits): P {
  const { maxLength, maxPromptLength, side, kept = 0 } = limits;
  const { promptLength } = pair;
  const longest = Math.max(pair.chosen.length, pair.rejected.length) - promptLength;
  if (promptLength + longest <= maxLength) return pair;
  const prompt = pair.chosen.subarray(0, promptLength);
  const cut = promptLength <= maxPromptLength ? prompt : shorter(prompt, maxPromptLength, side, kept);
  const room = cut.length + longest > maxLength ? maxLength - maxPromptLength : longest;
  const answer = (ids: Uint32Array) => Uint32Array.from([...cut, ...ids.subarray(promptLength, promptLength + room)]);
  return { ...pair, chosen: answer(pair.chosen), rejected: answer(pair.rejected), promptLength: cut.length };
}

function shorter(prompt: Uint32Array, length: number, side: "left" | "right", kept: number): Uint32Array {
  if (side === "right") return prompt.subarray(0, length);
  const head = Math.min(kept, length);
  return Uint32Array.from([...prompt.subarray(0, head), ...prompt.subarray(prompt.length - (length - head))]);
}
