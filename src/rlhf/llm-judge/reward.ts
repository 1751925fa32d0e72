/** An LLM judge as a reward: a number per criterion, of which the reward is the weighted mean. */
import { UserError } from "../../runtime/errors.ts";
import type { RewardFunction } from "../rewards.ts";
import type { Response } from "../sampler.ts";
import { readScores, weightedMean } from "./answers.ts";
import type { JudgeCalls } from "./calls.ts";
import type { JudgeQuestion } from "./questions.ts";

/**
 * Scores responses by a judge of single answers; on the scale of its file.
 * @throws UserError for a judge of pairs. The reward throws one where the server fails or an answer cannot be read: nothing counts as 0
 */
export function judgeReward(calls: JudgeCalls, name: string): RewardFunction {
  const judge = answerScorer(calls, name);
  const score: RewardFunction = (responses) =>
    judge(responses.map((response) => ({ prompt: promptOf(response), completion: response.text, row: response.row })));
  score.remote = true;
  return score;
}

/** An answer to grade. */
export interface GradedAnswer extends Pick<JudgeQuestion, "prompt" | "row"> {
  completion: string;
}

/**
 * Grades answers by a judge of single answers, on the scale of its file.
 * @throws UserError for a judge of pairs; what is returned throws one where the server fails or an answer cannot be read
 */
export function answerScorer(calls: JudgeCalls, name: string): (answers: readonly GradedAnswer[]) => Promise<number[]> {
  const { spec } = calls;
  if (spec.mode === "pairwise") {
    throw new UserError(
      `${name} compares two answers (mode: pairwise), and here each answer needs a number: annotate, iterate and evaluate take ` +
        "such a judge; for a reward set mode: pointwise in its file",
    );
  }
  return (answers) =>
    calls.ask(
      answers.map(({ prompt, completion, row }) => ({ prompt, answers: [completion.trim()], row })),
      (text) => weightedMean(readScores(text, spec), spec),
    );
}

/** A response's prompt: the conversation before it where there is one. */
const promptOf = ({ messages, promptText }: Pick<Response, "messages" | "promptText">) =>
  messages && messages.length > 1 ? messages.slice(0, -1) : promptText;
