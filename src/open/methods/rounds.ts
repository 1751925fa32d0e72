/** Methods in rounds of sampling and learning, by names; a server may sample. */
import type { Dataset } from "../../data/dataset.ts";
import { isWorld } from "../../data/made.ts";
import type { Tokenizer } from "../../data/tokenizer.ts";
import { iterate } from "../../rlhf/iterate/settings.ts";
import { type IterateModels, trainIteratively } from "../../rlhf/iterate.ts";
import { raft } from "../../rlhf/raft/settings.ts";
import { trainRaft } from "../../rlhf/raft.ts";
import { type ResolvedSettings, without } from "../../settings/index.ts";
import { environmentIn } from "../environments.ts";
import { openJudge } from "../judge.ts";
import type { ModelOpener } from "../opener.ts";
import { goldOf, openRewards } from "../rewards.ts";
import * as named from "../settings.ts";
import { openAligned } from "./aligned.ts";
import { drawnBy } from "./drawn.ts";
import { summaries } from "./names.ts";
import { onDataset, openPolicy } from "./on-dataset.ts";

/** RAFT, by names. */
const raftMethod = onDataset(
  raft,
  { ...named.actingSettings, ...named.heldOutSettings, ...named.adapterSettings(0.05), ...named.serverSettings },
  {
    summary: summaries.raft,
    examples: [
      "webrlhf raft --model_name_or_path out/sft --reward_model_path out/reward --output_dir out/raft",
      "webrlhf raft --use_peft --model_name_or_path base --reward_model_path out/reward --server http://127.0.0.1:8000",
      "webrlhf raft --model_name_or_path out/sft --environment ./my-environment.ts --max_turns 4",
      "webrlhf raft --config raft.yaml --collection_strategy top --top_reward_percentage 0.125",
    ],
  },
  async (o, opener, around) => {
    const { rewards: own, ...acting } = await environmentIn(o);
    const { rewards, gold, ...opened } = await openAligned(o, opener);
    const judged = { rewards: [...own, ...rewards], gold: acting.environment ? undefined : gold };
    return { ...opened, ...judged, ...acting, ...(await drawnBy(o, around, opened, o.maxSteps)) };
  },
  (models, dataset, o, run) => trainRaft(models, models.data ?? dataset, o, run),
  {
    // What leaves no room for a response is too long for `maxPromptLength` as well, where that is the stricter limit.
    dataset: (o, { policy }) =>
      o.maxPromptLength <= policy.config.maxPositions - o.responseLength ? { longPrompts: "skip" } : {},
  },
);

const iterateNames = {
  ...named.actingSettings,
  ...named.judgeSettings,
  rewardModelPath: { ...named.judgeSettings.rewardModelPath, unless: "environment" },
  preferenceRanking: { ...named.judgeSettings.preferenceRanking, effect: without("environment") },
  ...named.heldOutSettings,
  ...named.adapterSettings(0.05),
  ...named.serverSettings,
};

/** Online iterative DPO, by names. */
const iterateMethod = onDataset(
  iterate,
  iterateNames,
  {
    summary: summaries.iterate,
    examples: [
      "webrlhf iterate --model_name_or_path out/sft --reward_model_path out/reward --iterations 3 --output_dir out/iterate",
      "webrlhf iterate --model_name_or_path out/sft --reward_model_path out/pairwise --reference initial --k 4",
      "webrlhf iterate --model_name_or_path out/sft --environment ./my-environment.ts --max_turns 4",
      "webrlhf iterate --use_peft --model_name_or_path base --reward_model_path out/reward --server http://127.0.0.1:8000",
    ],
  },
  async (o, opener, around) => {
    const path = o.modelNameOrPath as string;
    const { rewards: own, ...acting } = await environmentIn(o);
    const { policy, tokenizer } = await openPolicy(opener, path);
    const initial = await opener.frozenPolicy(path);
    const { judge, rewards } = acting.environment
      ? {
          judge: undefined,
          rewards: [
            ...own,
            ...(await openRewards(o.rewardModelPath ?? [], { ...o, opener, policyTokenizer: tokenizer })),
          ],
        }
      : await judgeIn(o, opener, tokenizer);
    const drawn = await drawnBy(o, around, { policy, tokenizer }, o.iterations);
    const held = isWorld(o.datasetName) || o.testSize > 0 || o.evalDatasetName !== null || o.datasetTestSplit !== null;
    const gold = acting.environment ? undefined : goldOf(o.datasetName);
    return { policy, initial, judge, rewards, tokenizer, ...acting, ...drawn, gold, held, around };
  },
  ({ held, around, data: made, ...models }, dataset, o, run = {}) => {
    if (!run.folder) throw new Error("iterate needs a folder to keep its iterations in");
    const data = made
      ? made
      : held
        ? dataset
        : {
            prompts: async (...asked: Parameters<Dataset["prompts"]>) => ({
              ...(await dataset.prompts(...asked)),
              eval: [],
            }),
          };
    const tell = (iteration: number, stage: string, done: number, total: number) =>
      around.work?.(`iteration ${iteration}, ${stage}`, done, total);
    return trainIteratively(models, data, o, { ...run, folder: run.folder, progress: tell });
  },
);

/** Who scores an iteration's responses, where there is no environment. */
async function judgeIn(
  o: ResolvedSettings<typeof named.judgeSettings>,
  opener: ModelOpener,
  policyTokenizer: Tokenizer,
): Promise<Pick<IterateModels, "judge" | "rewards">> {
  const how = { ...o, ranking: o.preferenceRanking, policyTokenizer };
  const { judge, reward } = await openJudge(opener, o.rewardModelPath as string, how);
  return { judge, rewards: reward ?? undefined };
}

/** Methods that sample and train in rounds. */
export const roundMethods = { raft: raftMethod, iterate: iterateMethod };
