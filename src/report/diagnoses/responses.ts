/** What can go wrong with responses: their ends, their lengths, their variety, their scores. */

import { maxOf } from "../../runtime/extremes.ts";
import { showNumber } from "../text.ts";
import { course, type Diagnosis, type Evidence, mean, percent, type SeenResponse } from "./evidence.ts";

/** The responses of the newest step that shows some. */
function newest({ rollouts = [] }: Evidence): readonly SeenResponse[] {
  const last = rollouts.at(-1)?.step;
  return rollouts.filter(({ step }) => step === last);
}

/** Groups of responses to one prompt, of two and more. */
function groups(rows: readonly SeenResponse[]): SeenResponse[][] {
  const found = new Map<string, SeenResponse[]>();
  for (const row of rows) found.set(row.prompt, [...(found.get(row.prompt) ?? []), row]);
  return [...found.values()].filter((group) => group.length > 1);
}

export const responses: readonly Diagnosis[] = [
  {
    id: "groups-without-variance",
    title: "Groups without variance",
    when: "Above half of the groups: responses of equal reward have no advantage, and their sampling is spent for nothing.",
    advice: "Prompts that are neither always nor never solved; more samples per prompt; a reward with finer steps.",
    look({ steps }) {
      const zero = course(steps, "frac_reward_zero_std", 3);
      return zero && zero.last > 0.5 ? `${percent(zero.last)} of the groups have no variance.` : null;
    },
  },
  {
    id: "never-ends",
    title: "No response ends by itself",
    when: "When none of the last fifth did: even a bad policy ends now and then, if it can.",
    advice:
      "See whether the end token is the one that the model was trained with (eos_token, the chat template's end of turn), and whether " +
      "its fine-tuning learned from ends: where pad is end, its mask may have hidden them.",
    look({ steps }) {
      const ends = course(steps, "eos_rate", 3);
      return ends && ends.last === 0 ? "No response ends by itself." : null;
    },
  },
  {
    id: "truncated",
    title: "Responses are cut off",
    when: "Above half of them: their reward is of a fragment, and nothing teaches them to end.",
    advice: "Raise response_length, or set missing_eos_penalty (mask_truncated_completions with GRPO).",
    look({ steps }) {
      const ends = course(steps, "eos_rate", 3);
      if (!ends || ends.last === 0 || ends.last >= 0.5) return null;
      return `${percent(1 - ends.last)} of the responses are cut off at the longest length.`;
    },
  },
  {
    id: "ends-at-once",
    title: "Responses shrink away",
    when: "Below a quarter of their first length and below 5 tokens.",
    advice:
      "A penalty that ends sooner than it pays (a KL sum, a cost per token) is cheapest with nothing said; look at the reward of short answers.",
    look({ steps }) {
      const length = course(steps, "length");
      if (!length || length.last >= 5 || length.last >= 0.25 * length.first) return null;
      return `Responses shrank from ${showNumber(length.first)} to ${showNumber(length.last)} tokens.`;
    },
  },
  {
    id: "repetitive",
    title: "Responses become all alike",
    when: "When the part of pairs of words that differ has halved.",
    advice:
      "The policy has found one phrase that the reward likes: read it. A higher KL weight or an earlier checkpoint keeps variety.",
    look({ steps }) {
      const pairs = course(steps, "distinct2");
      if (!pairs || pairs.first <= 0 || pairs.last >= 0.5 * pairs.first) return null;
      return `distinct_2 fell from ${showNumber(pairs.first)} to ${showNumber(pairs.last)}.`;
    },
  },
  {
    id: "one-answer",
    title: "One answer to every prompt",
    when: "When more than half of the shown responses, of six or more to different prompts, are one text.",
    advice:
      "The reward does not look at the prompt, or the policy never sees it: read the prompt as the model is given it.",
    look(run) {
      const rows = newest(run);
      if (new Set(rows.map(({ prompt }) => prompt)).size < 6) return null;
      const counts = new Map<string, number>();
      for (const { response } of rows) counts.set(response, (counts.get(response) ?? 0) + 1);
      const share = maxOf(counts.values()) / rows.length;
      return share > 0.5 ? `${percent(share)} of the shown responses are the same text.` : null;
    },
  },
  {
    id: "one-score",
    title: "Every response has the same score",
    when: "When four or more different responses have one score to all digits: a model's scores of different texts differ.",
    advice:
      "A reward model that reads its score at a padded place sees the pad token instead of the end: look at its pad and end tokens. A " +
      "function of one's own may look for what never comes.",
    look(run) {
      const rows = newest(run);
      const [texts, scores] = [new Set(rows.map((row) => row.response)), new Set(rows.map(({ score }) => score))];
      if (texts.size < 4 || scores.size > 1) return null;
      return `${texts.size} different responses all have the score ${showNumber(rows[0].score)}.`;
    },
  },
  {
    id: "same-samples",
    title: "Samples of a prompt are copies",
    when: "When in most shown groups all responses are one text: nothing is compared then.",
    advice: "Raise temperature; see whether the entropy is gone, or a server ignores the seed.",
    look(run) {
      const all = groups(newest(run));
      const share = mean(all.map((group) => Number(new Set(group.map(({ response }) => response)).size === 1)));
      return all.length > 0 && share > 0.5 ? `In ${percent(share)} of the shown groups all responses are equal.` : null;
    },
  },
  {
    id: "kl-in-few-tokens",
    title: "One token carries the KL",
    when: "When in most shown responses of ten or more tokens one token has over 80 % of a KL above 1 nat: usually the end token or the first.",
    advice: "Look at that token: a forced end, a template's mark, or a token that the reference cannot know.",
    look(run) {
      const rows = newest(run).filter(({ kl }) => kl && kl.length >= 10);
      const heavy = rows.filter(({ kl = [] }) => {
        const total = kl.reduce((sum, term) => sum + Math.max(0, term), 0);
        return total > 1 && maxOf(kl) > 0.8 * total;
      });
      if (rows.length < 4 || heavy.length <= rows.length / 2) return null;
      return `In ${percent(heavy.length / rows.length)} of the shown responses one token has over 80 % of the KL.`;
    },
  },
];
