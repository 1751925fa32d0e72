/** Every training method by names: what it opens of the settings, and the run that comes of it. */
import type { Dataset } from "../data/dataset.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { decoderConfig } from "../nn/decoder-config.ts";
import type { Family } from "../nn/families/table.ts";
import { CausalLM, type Model } from "../nn/models.ts";
import { levelsOf, type OffloadLevel } from "../rlhf/offload.ts";
import { ppo, trainPpo } from "../rlhf/ppo.ts";
import { sameTokenizer } from "../rlhf/reward/foreign.ts";
import * as shared from "../rlhf/settings.ts";
import { sft, trainSft } from "../rlhf/sft.ts";
import { UserError } from "../runtime/errors.ts";
import { basename } from "../runtime/paths.ts";
import { group, type Resolved, spelled } from "../settings/index.ts";
import { openDataset } from "./datasets.ts";
import { defineMethod, type Method } from "./method.ts";
import type { ModelOpener } from "./opener.ts";
import { refuseTraining } from "./precision.ts";
import { goldOf, isWeightless, openRewards } from "./rewards.ts";
import * as named from "./settings.ts";
import { openTokenizer, tokenizerFiles, WORLD } from "./tokenizer.ts";

const { data, model } = shared;
const learned = { ...named.datasetSettings, ...named.heldOutSettings };

/** The policy that a run trains, with its tokenizer. */
async function openPolicy(opener: ModelOpener, name: string): Promise<{ policy: CausalLM; tokenizer: Tokenizer }> {
  const tokenizer = await opener.trainingTokenizer(name);
  const policy = await opener.policy(name);
  tokenizer.checkFits(policy.config.vocabSize);
  policy.tokenizer = tokenizer;
  return { policy, tokenizer };
}

const sftNames = {
  ...named.startSettings(0.05, "Model folder to start from; default: from scratch"),
  modelNameOrPath: model.path(null, "Model folder to start from; default: from scratch"),
  ...named.shapeSettings,
  ...learned,
};

const sftMethod = defineMethod(sft, sftNames, {
  summary: "Train a language model on prompts with completions, or on text",
  examples: [
    "webrlhf sft --output_dir out/sft --max_steps 200 --learning_rate 1e-3",
    "webrlhf sft --model_name_or_path my-model --dataset_name train.jsonl.gz --num_train_epochs 2",
  ],
  async open(o, opener, around) {
    const start = o.modelNameOrPath;
    const { policy, tokenizer } = start === null ? await fromScratch(o, opener) : await openPolicy(opener, start);
    const dataset = openDataset(o.datasetName, { ...o, ...around });
    return {
      besides: tokenizerFiles(tokenizer),
      train: (run) => trainSft({ policy, tokenizer }, dataset, sft.pick(o), run),
    };
  },
});

/** A fresh model of the shape that the settings describe. */
async function fromScratch(o: Resolved<typeof sftNames & typeof sft.table>, opener: ModelOpener) {
  if (o.usePeft) {
    const [adapter, start] = [spelled(o, "usePeft"), spelled(o, "modelNameOrPath")];
    throw new UserError(`${adapter} needs ${start}: an adapter stands on a trained model`);
  }
  refuseTraining(o, "a model from scratch");
  const path = o.tokenizerNameOrPath ?? (o.datasetName === WORLD ? WORLD : null);
  if (path === null) {
    throw new UserError(
      `a model from scratch needs ${spelled(o, "tokenizerNameOrPath")}; make one with: webrlhf tokenizer train`,
    );
  }
  const { options } = opener;
  const tokenizer = await openTokenizer(path, options);
  const config = decoderConfig({
    family: o.modelType as Family,
    vocabSize: tokenizer.vocabSize,
    hiddenSize: o.hiddenSize,
    layers: o.numHiddenLayers,
    heads: o.numAttentionHeads,
    maxPositions: o.maxPositionEmbeddings,
    tieEmbeddings: o.tieWordEmbeddings,
    bosId: tokenizer.bosId ?? null,
    eosId: tokenizer.eosId ?? null,
    padId: tokenizer.padId ?? null,
    ...(o.numKeyValueHeads !== null && { kvHeads: o.numKeyValueHeads }),
    ...(o.intermediateSize !== null && { intermediateSize: o.intermediateSize }),
  });
  const policy = new CausalLM(config, basename((options as { outputDir?: string }).outputDir ?? "model"));
  opener.opened.push(policy);
  return { policy: policy.initialize(o.seed), tokenizer };
}

const ptxSettings = {
  ptxDatasetName: data.mixture(null, "Prompts with completions, or texts, to learn beside PPO", {
    aka: ["ptx_datasets"],
  }),
  maxPtxSamples: data.int(null, "Use this many records of the ptx data", { min: 1 }),
  maxPtxLength: data.int(null, "Cut ptx sequences to this many tokens; default: the model's context", { min: 2 }),
};

const ppoMethod = defineMethod(
  ppo,
  {
    ...named.alignmentSettings,
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
    ...ptxSettings,
  },
  {
    summary: "Train a policy against a reward model with PPO",
    examples: [
      "webrlhf ppo --model_name_or_path out/sft --reward_model_path out/reward --output_dir out/ppo",
      "webrlhf ppo --config ppo.yaml --kl_coef 0.1 --dialect trl",
      "webrlhf ppo --config ppo.yaml --ptx_dataset_name sft.jsonl --ptx_coef 16",
    ],
    async open(o, opener, around) {
      const path = o.modelNameOrPath as string;
      const rewardPath = o.rewardModelPath as string;
      const { policy, tokenizer } = await openPolicy(opener, path);
      const average = o.emaBeta === null ? undefined : await opener.policy(path, "moving average");
      const reference = await opener.frozenPolicy(path);
      const rewards = await openRewards(rewardPath, {
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
      const dataset = openDataset(o.datasetName, { ...o, ...around });
      const held = await ptxData(o, dataset, tokenizer, policy);
      const gold = goldOf(o.datasetName);
      const { sampler } = around;
      const models = { policy, reference, critic, rewards, tokenizer, ...(average && { average }), gold, sampler };
      return {
        besides: tokenizerFiles(tokenizer),
        train: (run) => trainPpo(models, Object.assign(dataset, held), ppo.pick(o), run),
      };
    },
  },
  (o, name) => {
    if (o.evalDatasetName === null || o.evalSteps > 0) return;
    throw new UserError(
      `${name("evalDatasetName")} is for evaluations, which ${name("evalSteps")} 0 leaves out: set the one, or leave out the other`,
    );
  },
);

/** The critic reads the policy's tokens, so its tokenizer must be the policy's. */
async function criticPath(
  o: { valueModelPath: string | null; rewardModelPath: string | null; modelNameOrPath: string | null },
  opener: ModelOpener,
  tokenizer: Tokenizer,
): Promise<string> {
  const [reward, start] = [o.rewardModelPath as string, o.modelNameOrPath as string];
  const noModel = isWeightless(reward) || (await opener.isMultiObjective(reward));
  const path = o.valueModelPath ?? (noModel ? start : reward);
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
  dataset: Dataset,
  tokenizer: Tokenizer,
  { config }: CausalLM,
) {
  if (o.ptxDatasetName === null) return {};
  const choice = { maxTrainSamples: o.maxPtxSamples, evalDatasetName: null, datasetTestSplit: null };
  const beside = dataset.with(choice, o.ptxDatasetName);
  const { train, eval: held } = await beside.sequences(tokenizer, { maxLength: o.maxPtxLength ?? config.maxPositions });
  return { ptx: train, ptxEval: held };
}

/** The methods by their names, which are the verbs'. */
export const methods = { sft: sftMethod, ppo: ppoMethod } as const satisfies Record<string, Method>;
