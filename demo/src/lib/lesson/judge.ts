/** A judge for lessons: a reward model that learns from the world's noisy preferences. */
import { preferenceExample, type Tokenizer, worldPreferences } from "webrlhf/data";
import { loadScoreModel, type ScoreModel } from "webrlhf/nn";
import { reward, trainReward } from "webrlhf/rlhf";
import { JUDGE_TEST_PAIRS, judgeSettings } from "./judge-size.ts";
import type { LessonEvent, ProgramContext } from "./types.ts";
import { kept, type Models, trained } from "./work.ts";

/**
 * Trains a judge on so many pairs, once over; its events are of the stage "judge". It lies in the run's folder `judge`, where a
 * critic can start from it.
 */
export async function* trainJudge(
  context: ProgramContext,
  models: Models,
  tokenizer: Tokenizer,
  { pairs, seed }: { pairs: number; seed: number },
): AsyncGenerator<LessonEvent, ScoreModel> {
  const { start, signal } = context;
  const model = models.keep(await loadScoreModel(start.files, start.folder, "judge", seed));
  const { maxPositions: maxLength } = model.config;
  const examples = (n: number, split: "train" | "test") =>
    worldPreferences(n, seed, { split }).map((record) => preferenceExample(record, tokenizer, { maxLength }));
  const data = { train: examples(pairs, "train"), eval: examples(JUDGE_TEST_PAIRS, "test") };
  const settings = reward(judgeSettings(seed));
  yield* trained("judge", trainReward({ model }, data, settings, kept(context, "judge")), signal);
  return model;
}

/** A critic that starts as a copy of the run's judge. */
export const criticFrom = async ({ files, folder }: ProgramContext, models: Models): Promise<ScoreModel> =>
  models.keep(await loadScoreModel(files, `${folder}/judge`, "critic"));
