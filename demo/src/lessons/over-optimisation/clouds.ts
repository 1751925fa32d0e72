/** Answers as points in the judge's hidden space. Reading it draws nothing by lot: what is trained does not know of it. */
import { goldReward, sftExample, type Tokenizer, worldPreferences } from "webrlhf/data";
import type { ScoreModel } from "webrlhf/nn";
import { type Sample, scoreWithHidden } from "webrlhf/rlhf";
import type { SpacePoint } from "../../lib/figures/space.ts";
import { fitBasis, inBasis } from "../../lib/pca.ts";
import type { Ground } from "./space.ts";

/** Stories that fix the directions, of them shown, and shown of each look: a recording stays small. */
const FITTED = 128;
const SHOWN = 48;
const OF_A_LOOK = 32;

interface Told {
  prompt: string;
  completion: string;
}

export interface JudgeSpace {
  ground: Ground;
  cloudOf(samples: readonly Sample[]): Promise<SpacePoint[]>;
}

/** Fixes the directions by stories that the judge learned from: what leaves them is seen to leave them. */
export async function judgeSpace(judge: ScoreModel, tokenizer: Tokenizer, seed: number): Promise<JudgeSpace> {
  const { maxPositions: maxLength } = judge.config;
  const seen = (stories: readonly Told[]) =>
    scoreWithHidden(
      judge,
      stories.map((story) => sftExample({ kind: "prompt_completion", ...story }, tokenizer, { maxLength })),
    );
  const stories = worldPreferences(FITTED / 2, seed, { split: "train" }).flatMap(({ prompt, chosen, rejected }) =>
    [chosen, rejected].map((completion): Told => ({ prompt, completion })),
  );
  const known = await seen(stories);
  const basis = fitBasis(known.hidden, known.width, 2);
  const points = (hidden: Float32Array, of: readonly Told[], scores: ArrayLike<number>): SpacePoint[] =>
    inBasis(basis, hidden).map(([x, y], i) => [
      short(x),
      short(y),
      short(scores[i]),
      short(goldReward(of[i].prompt, of[i].completion)),
    ]);
  return {
    ground: {
      explained: basis.explained.map(short),
      points: points(known.hidden, stories, known.scores).slice(0, SHOWN),
    },
    async cloudOf(samples) {
      const shown = samples.slice(0, OF_A_LOOK);
      const answers = shown.map(({ prompt, response }): Told => ({ prompt, completion: response }));
      const { hidden, scores } = await seen(answers);
      // The height is the score that the other figures show.
      return points(
        hidden,
        answers,
        shown.map(({ reward }, i) => reward ?? scores[i]),
      );
    },
  };
}

const short = (value: number): number => Number(value.toPrecision(3));
