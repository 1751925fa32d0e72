/** Rewards that throw, take too long or give what is no number: the run stops and says for which prompt, or goes on without it. */
import { isUserError, UserError } from "../runtime/errors.ts";
import { group, type ResolvedSettings } from "../settings/index.ts";
import type { TrainEvent } from "./events.ts";
import { countedScores, type RewardFunction, type RewardParts, unusableScore, WrongCount } from "./rewards.ts";
import type { Response } from "./sampler.ts";

const rewards = group("Rewards");

/** Settings that say what becomes of prompts that a reward cannot judge. */
export const rewardFailureSettings = {
  onRewardError: rewards.choice(
    ["stop", "drop"],
    "stop",
    "Where a reward throws, takes too long or gives no finite number: stop, or leave the prompt's responses out of the step",
  ),
  rewardTimeout: rewards.float(null, "Seconds that a reward may take for all responses of a step; default: no limit", {
    min: 0,
    exclusiveMin: true,
  }),
};

/** The settings of rewards that fail, resolved. */
export type RewardFailureSettings = ResolvedSettings<typeof rewardFailureSettings>;

/** Throws a UserError where responses are to be shown before it is known which of them are learned from. */
export function checkFailures(
  { onRewardError, showRollouts = 0 }: RewardFailureSettings & { showRollouts?: number },
  name: (key: never) => string,
): void {
  const spell = name as unknown as (key: string) => string;
  if (onRewardError === "stop" || showRollouts === 0) return;
  throw new UserError(
    `${spell("showRollouts")} ${showRollouts} opens responses before they are judged, and ${spell("onRewardError")} drop may leave ` +
      `them out: set one of them to its default`,
  );
}

/** A prompt that was not judged. */
export interface RewardFailure {
  promptText: string;
  why: string;
}

/** The rewards of those responses that all rewards could judge. */
export interface Judged {
  /** Which those are, as places in the list. */
  kept: number[];
  /** The weighted sums, of each of these. */
  scores: number[];
  /** Each reward's own numbers, [functions][these]. */
  parts: number[][];
  /** The prompts whose responses are left out. */
  failures: RewardFailure[];
}

/** So many prompts that fail by themselves before one does not: then it is not the prompts. */
const HOPELESS = 3;

/**
 * Judges responses by several rewards.
 * @throws UserError naming the reward and the prompt where one fails and `onRewardError` is "stop"; where it fails for every prompt;
 * and for another number of scores than there are responses, whatever the settings say
 */
export async function judged(
  { names, functions, weights }: RewardParts,
  responses: readonly Response[],
  { onRewardError = "stop", rewardTimeout = null }: Partial<RewardFailureSettings> = {},
): Promise<Judged> {
  const failed = new Map<number, RewardFailure>();
  const all: number[][] = [];
  for (const [k, reward] of functions.entries()) {
    const judge = new Judge(names[k], reward, rewardTimeout);
    all.push(await judge.scores(responses, onRewardError === "drop" ? failed : null));
  }
  const kept = responses.map((_, i) => i).filter((i) => !failed.has(responses[i].prompt));
  const failures = [...failed.values()];
  if (kept.length === 0 && failures.length > 0) {
    throw new UserError(`${failures[0].why}; and none of the step's other prompts could be judged either`);
  }
  return {
    kept,
    scores: kept.map((i) => all.reduce((sum, own, k) => sum + weights[k] * own[i], 0)),
    parts: all.map((own) => kept.map((i) => own[i])),
    failures,
  };
}

/** One reward, and what is done where it fails. */
class Judge {
  private readonly name: string;
  private readonly reward: RewardFunction;
  private readonly timeout: number | null;

  constructor(name: string, reward: RewardFunction, timeout: number | null) {
    this.name = name;
    this.reward = reward;
    this.timeout = timeout;
  }

  /**
   * A number for each response; NaN for those to the prompts that failed.
   * @param failed knows the prompts that failed before, and takes those that this reward fails for; null stops at the first one
   */
  async scores(responses: readonly Response[], failed: Map<number, RewardFailure> | null): Promise<number[]> {
    const asked = responses.filter(({ prompt }) => !failed?.has(prompt));
    let found: number[];
    try {
      found = await this.call(asked);
    } catch (error) {
      const singly = !this.reward.models && (failed !== null || !this.reward.remote);
      if (!singly || !isUserError(error) || error instanceof WrongCount) throw error;
      found = await this.oneByOne(asked, failed, error);
    }
    for (const [k, response] of asked.entries()) {
      if (Number.isFinite(found[k]) || failed?.has(response.prompt)) continue;
      const error = unusableScore(found[k], response);
      if (!failed) throw error;
      failed.set(response.prompt, { promptText: response.promptText, why: error.message });
    }
    const byResponse = new Map(asked.map((response, k) => [response, found[k]]));
    return responses.map((response) => byResponse.get(response) ?? Number.NaN);
  }

  /** Finds out which prompts it fails for. */
  private async oneByOne(
    responses: readonly Response[],
    failed: Map<number, RewardFailure> | null,
    before: Error,
  ): Promise<number[]> {
    const found: number[] = [];
    let [good, bad] = [0, 0];
    const prompts = new Set(responses.map(({ prompt }) => prompt));
    for (const prompt of prompts) {
      const own = responses.filter((response) => response.prompt === prompt);
      try {
        found.push(...(await this.call(own)));
        good++;
      } catch (error) {
        const [{ promptText }] = own;
        const why = `${(error as Error).message} (at the prompt ${JSON.stringify(promptText.slice(0, 80))})`;
        if (!failed) throw new UserError(why, { cause: error });
        if (good === 0 && ++bad === HOPELESS)
          throw new UserError(`${why}; so it was for each of the first ${HOPELESS} prompts`);
        failed.set(prompt, { promptText, why });
        found.push(...own.map(() => Number.NaN));
      }
    }
    if (!failed) throw before; // it failed, though it does not fail again
    return found;
  }

  private async call(responses: readonly Response[]): Promise<number[]> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      if (this.timeout === null) return;
      const error = new UserError(
        `the reward ${this.name} has said nothing for ${this.timeout} s: set reward_timeout higher, or speed it up`,
      );
      timer = setTimeout(() => reject(error), this.timeout * 1000);
    });
    try {
      return await Promise.race([countedScores(this.reward, responses), late]);
    } catch (error) {
      const { name, message } = error instanceof Error ? error : new Error(String(error));
      if (this.reward.models || name === "AbortError" || name === "UserError") throw error;
      throw new UserError(`the reward ${this.name} failed: ${name}: ${message}`, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }
}

/** What is told of prompts that were left out of a step. */
export const failureWarnings = (step: number, failures: readonly RewardFailure[]): TrainEvent[] =>
  failures.length === 0
    ? []
    : [
        {
          type: "warning",
          step,
          text: `left ${failures.length} prompt${failures.length > 1 ? "s" : ""} out of step ${step}, which a reward could not judge: ${failures
            .slice(0, 3)
            .map(({ why }) => why)
            .join("; ")}${failures.length > 3 ? "; and others" : ""}`,
        },
      ];
