import { UserError } from "../runtime/errors.ts";
import type { RewardFunction } from "./rewards.ts";

/**
 * DAPO's soft penalty for responses that come near the longest length (Yu et al. 2025), as a reward of its own: 0 up to
 * `longest - buffer` tokens, falling in a straight line to -factor at `longest`.
 */
export function overlongPenalty(longest: number, buffer: number, factor = 1): RewardFunction {
  if (buffer > longest) {
    throw new UserError(`overlong_buffer_len ${buffer} is more than max_completion_length ${longest}`);
  }
  return async (responses) =>
    responses.map(({ ids, promptLength }) => {
      const exceeding = ids.length - promptLength - (longest - buffer);
      return exceeding > 0 ? (-Math.min(exceeding, buffer) / buffer) * factor : 0;
    });
}
