/** RAFT's verb: the training verb, and what LMFlow leaves of a run besides the model: mean rewards, and their curves. */
import { join } from "node:path";
import { methodLoaders } from "../../open/methods/load.ts";
import type { ChartPoint } from "../../report/chart.ts";
import { figureOf } from "../../report/figure.ts";
import type { TrainEvent } from "../../rlhf/events.ts";
import { logging } from "../../rlhf/settings.ts";
import { diskFiles, type Files } from "../../runtime/files.ts";
import { readJsonLines } from "../../runtime/json-files.ts";
import { trainingVerb } from "../train.ts";
import type { Verb } from "../verb.ts";

/** The verb `raft`. */
export const raftVerb = async (): Promise<Verb> =>
  trainingVerb(await methodLoaders.raft(), {
    settings: {
      outputRewardPath: logging.path(
        null,
        "File of mean rewards, a line per round; default: rewards.txt in output_dir",
      ),
    },
    async *also(events, o) {
      yield* keepRewards(events, await diskFiles(), o.outputDir as string, o.outputRewardPath as string | null);
    },
  });

interface Round {
  step: number;
  mean_reward: number;
  /** Missing where nothing was kept. */
  train_reward?: number;
}

/**
 * Passes a trainer's events on and brings both files up to date after every iteration; with a resumed run they go on from
 * the rows of raft.jsonl up to its checkpoint.
 * @param rewardPath the file of rewards; a folder where it ends in a slash; null: the run's own
 */
async function* keepRewards(
  events: AsyncGenerator<TrainEvent>,
  files: Files,
  folder: string,
  rewardPath: string | null,
): AsyncGenerator<TrainEvent> {
  const wanted = rewardPath ?? `${folder}/`;
  const path = /[/\\]$/.test(wanted) ? join(wanted, "rewards.txt") : wanted;
  let rounds: Round[] = [];
  for await (const event of events) {
    if (event.type === "start" && event.step > 0) {
      const before = await readJsonLines<Round>(files, join(folder, "raft.jsonl"));
      rounds = before.filter(({ step }) => step <= event.step);
    }
    yield event;
    if (event.type !== "rows" || event.table !== "raft") continue;
    for (const row of event.rows) rounds.push({ step: event.step, ...row } as unknown as Round);
    await files.writeFile(path, rounds.map(rewardLine).join(""));
    await files.writeFile(join(folder, "training_reward.svg"), rewardCurve(rounds));
  }
}

/** LMFlow's line, its missing space included, and "nan" for the mean of nothing. */
const rewardLine = ({ mean_reward, train_reward }: Round): string =>
  `mean reward: ${mean_reward}mean reward in training set: ${train_reward ?? "nan"}\n`;

function rewardCurve(rounds: readonly Round[]): string {
  const points = (of: (round: Round) => number | undefined) =>
    rounds.map((round): ChartPoint => [round.step, of(round) ?? Number.NaN]);
  const series = [
    { name: "model", points: points((r) => r.mean_reward) },
    { name: "training set", points: points((r) => r.train_reward) },
  ];
  const chart = { id: "training-reward", title: "Mean reward", xLabel: "iteration", yLabel: "reward", series };
  return figureOf("Reward of the model and of what it learned from", [chart]);
}
