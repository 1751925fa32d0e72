import type { Tokenizer } from "../../data/tokenizer.ts";
import type { CausalLM, Model } from "../../nn/models.ts";
import { levelsOf, type OffloadLevel } from "../../rlhf/offload.ts";
import { ppo, trainPpo } from "../../rlhf/ppo.ts";
import { sameTokenizer } from "../../rlhf/reward/foreign.ts";
import { model } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import { group, spelled } from "../../settings/index.ts";
import { openDataset } from "../datasets.ts";
import { environmentIn } from "../environments.ts";
import type { RunSurroundings } from "../method.ts";
import type { ModelOpener } from "../opener.ts";
import { goldOf, isWeightless, openRewards } from "../rewards.ts";
import * as named from "../settings.ts";
import { drawnBy } from "./drawn.ts";
import { summaries } from "./names.ts";
import { onDataset, openPolicy } from "./on-dataset.ts";

const ppoNames = {
  ...named.actingSettings,
  valueModelPath: model.path(
    null,
    "Critic to start from; default: the reward model, or the policy where that has no single score head of its own",
    { aka: ["critic_model_name_or_path", "reward_critic_model_name_or_path"] },
  ),
  rewardEndToken: group("PPO").choice(
    ["as-generated", "always"],
    "as-generated",
    "A reward model with another tokenizer sees an end token where the response has one, or always (PaddleNLP)",
  ),
  ...named.heldOutSettings,
  ...named.ptxSettings,
  ...named.serverSettings,
};

/** PPO, by names. */
const ppoMethod = onDataset(
  ppo,
  ppoNames,
  {
    summary: summaries.ppo,
    examples: [
      "webrlhf ppo --model_name_or_path out/sft --reward_model_path out/reward --output_dir out/ppo",
      "webrlhf ppo --config ppo.yaml --kl_coef 0.1 --dialect trl",
      "webrlhf ppo --config ppo.yaml --ptx_dataset_name sft.jsonl --ptx_coef 16",
    ],
  },
  async (o, opener, around) => {
    const { modelNameOrPath, rewardModelPath: rewardPath } = o;
    const path = modelNameOrPath as string;
    const { rewards: own, ...acting } = await environmentIn(o);
    const { policy, tokenizer } = await openPolicy(opener, path);
    const average = o.emaBeta === null ? undefined : await opener.policy(path, "moving average");
    const reference = await opener.frozenPolicy(path);
    const judges = await openRewards(rewardPath ?? [], {
      ...o,
      opener,
      policyTokenizer: tokenizer,
      end: o.rewardEndToken,
      ...(o.normalizeReward && o.rewardNormalizer === "model" && { normalize: true }),
    });
    // Models that wait for their turn wait on the host from the start; the base of adapters has no turns.
    const levels = levelsOf(o);
    const aside = async (level: OffloadLevel, ...models: readonly (Model | undefined)[]) => {
      if (!levels.includes(level) || policy.baseModel) return;
      for (const one of models) await one?.store.resident.evict();
    };
    await aside("freeze_model", reference);
    await aside("train_model", policy, average);
    const critic = await opener.scorer(await criticPath(o, opener, tokenizer), "critic");
    const beside = await ptxData(o, around, tokenizer, policy);
    const drawn = await drawnBy(o, around, { policy, tokenizer }, o.maxSteps);
    const gold = acting.environment ? undefined : goldOf(o.datasetName);
    const rewards = [...own, ...judges];
    return { policy, reference, critic, rewards, tokenizer, average, gold, ...acting, ...drawn, beside };
  },
  ({ beside, data, ...models }, dataset, o, run) => trainPpo(models, Object.assign(data ?? dataset, beside), o, run),
  {
    check(o, name) {
      if (o.environment !== null && o.normalizeReward && o.rewardNormalizer === "model") {
        throw new UserError(
          `${name("environment")} has no statistics to normalise its rewards by: set ${name("rewardNormalizer")} running`,
        );
      }
      if (o.evalDatasetName === null || o.evalSteps > 0 || o.evalStrategy !== "steps") return;
      const [what, when] = [name("evalDatasetName"), name("evalSteps")];
      throw new UserError(`${what} is for evaluations, which ${when} 0 leaves out: set ${when}, or leave it out`);
    },
  },
);

/** The critic reads the policy's tokens, so its tokenizer must be the policy's. */
async function criticPath(
  o: { valueModelPath: string | null; rewardModelPath: string | null; modelNameOrPath: string | null },
  opener: ModelOpener,
  tokenizer: Tokenizer,
): Promise<string> {
  const { rewardModelPath: reward } = o;
  const start = o.modelNameOrPath as string;
  const model = reward !== null && !isWeightless(reward) && !(await opener.isMultiObjective(reward)) ? reward : start;
  const path = o.valueModelPath ?? model;
  const own = await opener.tokenizerBeside(path);
  if (own === null || sameTokenizer(own, tokenizer)) return path;
  throw new UserError(
    `${path} has another tokenizer than the policy, so it cannot be the critic, which reads the policy's tokens: name ` +
      `one with ${spelled(o, "valueModelPath")}, such as ${start}`,
  );
}

/** Sequences to learn beside PPO, and held-out ones to see what is forgotten. */
async function ptxData(
  o: { ptxDatasetName: string | null; maxPtxSamples: number | null; maxPtxLength: number | null },
  around: RunSurroundings,
  tokenizer: Tokenizer,
  { config }: CausalLM,
) {
  if (o.ptxDatasetName === null) return {};
  const choice = { maxTrainSamples: o.maxPtxSamples, evalDatasetName: null, datasetTestSplit: null };
  const dataset = openDataset(o.ptxDatasetName, { ...o, ...choice, ...around });
  const maxLength = o.maxPtxLength ?? config.maxPositions;
  const { train, eval: held } = await dataset.sequences(tokenizer, { maxLength, conversations: "assistant" });
  return { ptx: train, ptxEval: held };
}

/** Methods with a critic. */
export const criticMethods = { ppo: ppoMethod };
