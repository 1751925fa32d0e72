/** Every training method by names: which models and data its settings name, and the trainer that takes them. */

import type { Dataset, DatasetOptions } from "../data/dataset.ts";
import { WORLD } from "../data/made.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { decoderConfig } from "../nn/decoder-config.ts";
import { CausalLM, type Model } from "../nn/models.ts";
import { ODIN_LABELS, plainScoring, type ScoreType } from "../nn/scoring.ts";
import { cpo, trainCpo } from "../rlhf/cpo.ts";
import { dpo, trainDpo } from "../rlhf/dpo.ts";
import type { TrainEvent } from "../rlhf/events.ts";
import { grpo, trainGrpo } from "../rlhf/grpo.ts";
import { iterate, trainIteratively } from "../rlhf/iterate.ts";
import { kto, trainKto } from "../rlhf/kto.ts";
import type { RunOptions } from "../rlhf/loop.ts";
import { levelsOf, type OffloadLevel } from "../rlhf/offload.ts";
import { orpo, trainOrpo } from "../rlhf/orpo.ts";
import { pairFiles } from "../rlhf/pairwise/folder.ts";
import { PairWriter, pairTemplates } from "../rlhf/pairwise/template.ts";
import { pairwise, trainPairwise } from "../rlhf/pairwise/train.ts";
import { ppo, trainPpo } from "../rlhf/ppo.ts";
import { raft, trainRaft } from "../rlhf/raft.ts";
import { reinforce, trainReinforce } from "../rlhf/reinforce.ts";
import { sameTokenizer } from "../rlhf/reward/foreign.ts";
import { cost, reward, trainCost, trainReward } from "../rlhf/reward.ts";
import { rloo, trainRloo } from "../rlhf/rloo.ts";
import * as shared from "../rlhf/settings.ts";
import { sft, trainSft } from "../rlhf/sft.ts";
import { UserError } from "../runtime/errors.ts";
import { basename } from "../runtime/paths.ts";
import { group, type ResolvedSettings, type Settings, type SettingsTable, spelled } from "../settings/index.ts";
import { openDataset } from "./datasets.ts";
import { openJudge } from "./judge.ts";
import { defineMethod, type Method, type RunSurroundings } from "./method.ts";
import { multiObjectiveMethod } from "./multi-objective.ts";
import type { ModelOpener } from "./opener.ts";
import { refuseTraining } from "./precision.ts";
import { goldOf, isWeightless, openRewards } from "./rewards.ts";
import { serverSampler } from "./servers.ts";
import * as named from "./settings.ts";
import { filesOf } from "./surroundings.ts";
import { openTokenizer, tokenizerFiles } from "./tokenizer.ts";

const { data, model } = shared;

/** What a method opens besides its dataset. */
type Opened<M> = M & { tokenizer: Tokenizer };

/** A method whose trainer takes models, the dataset that `datasetName` names, and its settings. */
function onDataset<N extends SettingsTable & typeof named.datasetSettings, T extends SettingsTable, M>(
  record: Settings<T>,
  names: N,
  words: { summary: string; examples: readonly string[] },
  models: (o: ResolvedSettings<N & T>, opener: ModelOpener, around: RunSurroundings) => Promise<Opened<M>>,
  train: (models: Opened<M>, data: Dataset, o: ResolvedSettings<T>, run?: RunOptions) => AsyncGenerator<TrainEvent>,
  more: {
    check?: (o: ResolvedSettings<N & T>, spell: (key: string) => string) => void;
    /** What the dataset is opened with besides the settings. */
    dataset?: (o: ResolvedSettings<N & T>, models: Opened<M>) => DatasetOptions;
    /** Files beside the model, besides the tokenizer's. */
    besides?: (models: Opened<M>) => Record<string, string>;
  } = {},
): Method {
  const open = async (o: ResolvedSettings<N & T>, opener: ModelOpener, around: RunSurroundings) => {
    const opened = await models(o, opener, around);
    const settings = o as unknown as { datasetName: string };
    const dataset = openDataset(settings.datasetName, { ...settings, ...more.dataset?.(o, opened), ...around });
    return {
      besides: { ...tokenizerFiles(opened.tokenizer), ...more.besides?.(opened) },
      train: (run?: RunOptions) => train(opened, dataset, record.pick(o), run),
    };
  };
  return defineMethod(record, names, { ...words, open }, more.check);
}

/** The policy that a run trains, with its tokenizer. */
async function openPolicy(opener: ModelOpener, name: string): Promise<{ policy: CausalLM; tokenizer: Tokenizer }> {
  const tokenizer = await opener.trainingTokenizer(name);
  const policy = await opener.policy(name);
  tokenizer.checkFits(policy.config.vocabSize);
  policy.tokenizer = tokenizer;
  return { policy, tokenizer };
}

const learned = { ...named.datasetSettings, ...named.heldOutSettings };
const sftNames = {
  ...named.startSettings(0.05, "Model folder to start from; default: from scratch"),
  modelNameOrPath: model.path(null, "Model folder to start from; default: from scratch"),
  ...named.shapeSettings,
  ...learned,
};

const sftMethod = onDataset(
  sft,
  sftNames,
  {
    summary: "Train a language model on prompts with completions, or on text",
    examples: [
      "webrlhf sft --output_dir out/sft --max_steps 200 --learning_rate 1e-3",
      "webrlhf sft --model_name_or_path my-model --dataset_name train.jsonl.gz --num_train_epochs 2",
    ],
  },
  (o, opener, around) =>
    o.modelNameOrPath === null ? fromScratch(o, opener, around) : openPolicy(opener, o.modelNameOrPath),
  trainSft,
);

/** A fresh model of the shape that the settings describe. */
async function fromScratch(
  o: ResolvedSettings<typeof sftNames> & { seed: number },
  opener: ModelOpener,
  { outputDir = "model" }: RunSurroundings,
) {
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
  const tokenizer = await openTokenizer(path, opener.options);
  const config = decoderConfig({
    family: o.modelType,
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
  const policy = new CausalLM(config, basename(outputDir));
  opener.opened.push(policy);
  return { policy: policy.initialize(o.seed), tokenizer };
}

const scorerNames = {
  ...named.startSettings(0, "Model folder whose body the model starts from"),
  scoreBias: model.bool(false, "Give the score head a bias, as safe-rlhf does; a head that has one keeps it", {
    aka: ["bias"],
  }),
  ...learned,
};

/** The scorer that a run trains, with its tokenizer; a fresh head is as the settings say. */
async function openScorer(
  o: { modelNameOrPath: string | null; scoreBias: boolean; lossType?: string },
  opener: ModelOpener,
  type: ScoreType,
) {
  const name = o.modelNameOrPath as string;
  const odin = o.lossType === "odin";
  const tokenizer = await opener.trainingTokenizer(name);
  const scorer = await opener.scorer(name, `${type} model`, {
    ...(o.scoreBias && { bias: true }),
    ...(odin && { scoring: plainScoring(ODIN_LABELS) }),
  });
  tokenizer.checkFits(scorer.config.vocabSize);
  if (!odin && scorer.scoring.labels.length > 1) {
    throw new UserError(`${name} has a head for the length besides the reward: train it with loss_type odin`);
  }
  scorer.scoring.type = type;
  return { model: scorer, tokenizer };
}

const rewardMethod = onDataset(
  reward,
  scorerNames,
  {
    summary: "Train a reward model on pairs of a better and a worse answer",
    examples: [
      "webrlhf reward --model_name_or_path out/sft --output_dir out/reward",
      "webrlhf reward --model_name_or_path out/sft --dataset_name pairs.jsonl.gz --test_size 0.1",
      "webrlhf reward --model_name_or_path out/sft --dataset_name pairs.jsonl --loss_type odin",
    ],
  },
  (o, opener) => openScorer(o, opener, "reward"),
  trainReward,
);

const costMethod = onDataset(
  cost,
  scorerNames,
  {
    summary: "Train a cost model on pairs of a safer and a less safe answer, each labelled safe or not",
    examples: [
      "webrlhf cost --model_name_or_path out/sft --dataset_name PKU-SafeRLHF-30K/train --output_dir out/cost",
      "webrlhf cost --model_name_or_path out/sft --dataset_name safety.jsonl --test_size 0.1",
    ],
  },
  (o, opener) => openScorer(o, opener, "cost"),
  trainCost,
);

const POLICY = "Policy to start from: a model folder, usually made by sft";
const policyNames = { ...named.startSettings(0.05, POLICY), ...learned };
const comparedNames = { ...policyNames, ...named.referenceSettings };

interface ComparedNames {
  modelNameOrPath: string | null;
  refModelNameOrPath: string | null;
  usePeft: boolean;
}

/** The policy with its reference: a copy as it starts, its base where it is a new adapter, or another model. */
async function openCompared(o: ComparedNames, opener: ModelOpener) {
  const start = o.modelNameOrPath as string;
  return {
    ...(await openPolicy(opener, start)),
    reference: await opener.frozenPolicy(o.refModelNameOrPath ?? start),
  };
}

const dpoMethod = onDataset(
  dpo,
  comparedNames,
  {
    summary: "Train a policy on pairs of a better and a worse answer (DPO)",
    examples: [
      "webrlhf dpo --model_name_or_path out/sft --output_dir out/dpo",
      "webrlhf dpo --model_name_or_path out/sft --dataset_name pairs.jsonl --loss_type ipo --beta 0.05",
      "webrlhf dpo --model_name_or_path out/sft --use_peft --loss_type sigmoid,bco_pair,sft --loss_weights 0.8,0.2,1",
    ],
  },
  // What is computed before training is asked of the policy itself, unless the reference is another model.
  (o, opener) =>
    o.precomputeRefLogProbs && o.refModelNameOrPath === null && !o.usePeft
      ? openPolicy(opener, o.modelNameOrPath as string)
      : openCompared(o, opener),
  trainDpo,
);

const ktoMethod = onDataset(
  kto,
  comparedNames,
  {
    summary: "Train a policy on single answers labelled good or bad (KTO)",
    examples: [
      "webrlhf kto --model_name_or_path out/sft --dataset_name labelled.jsonl",
      "webrlhf kto --model_name_or_path out/sft --dataset_name pairs.jsonl --undesirable_weight 0.8",
    ],
  },
  openCompared,
  trainKto,
);

const orpoMethod = onDataset(
  orpo,
  policyNames,
  {
    summary: "Fine-tune on better answers and away from worse ones at once (ORPO)",
    examples: ["webrlhf orpo --model_name_or_path base --dataset_name pairs.jsonl --learning_rate 8e-6"],
  },
  (o, opener) => openPolicy(opener, o.modelNameOrPath as string),
  trainOrpo,
);

const cpoMethod = onDataset(
  cpo,
  policyNames,
  {
    summary: "Train a policy on pairs without a reference (CPO, SimPO)",
    examples: [
      "webrlhf cpo --model_name_or_path out/sft --dataset_name pairs.jsonl",
      "webrlhf cpo --model_name_or_path out/sft --loss_type simpo --cpo_alpha 0 --beta 2 --simpo_gamma 1",
    ],
  },
  (o, opener) => openPolicy(opener, o.modelNameOrPath as string),
  trainCpo,
);

const ppoNames = {
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
  ...named.ptxSettings,
};

const ppoMethod = onDataset(
  ppo,
  ppoNames,
  {
    summary: "Train a policy against a reward model with PPO",
    examples: [
      "webrlhf ppo --model_name_or_path out/sft --reward_model_path out/reward --output_dir out/ppo",
      "webrlhf ppo --config ppo.yaml --kl_coef 0.1 --dialect trl",
      "webrlhf ppo --config ppo.yaml --ptx_dataset_name sft.jsonl --ptx_coef 16",
    ],
  },
  async (o, opener, around) => {
    const [path, rewardPath] = [o.modelNameOrPath as string, o.rewardModelPath as string];
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
    const beside = await ptxData(o, around, tokenizer, policy);
    const { sampler } = around;
    return { policy, reference, critic, rewards, tokenizer, average, gold: goldOf(o.datasetName), sampler, beside };
  },
  ({ beside, ...models }, dataset, o, run) => trainPpo(models, Object.assign(dataset, beside), o, run),
  {
    check(o, name) {
      if (o.evalDatasetName === null || o.evalSteps > 0) return;
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
  const [rewardPath, start] = [o.rewardModelPath as string, o.modelNameOrPath as string];
  const noModel = isWeightless(rewardPath) || (await opener.isMultiObjective(rewardPath));
  const path = o.valueModelPath ?? (noModel ? start : rewardPath);
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
  const { train, eval: held } = await dataset.sequences(tokenizer, { maxLength });
  return { ptx: train, ptxEval: held };
}

const groupNames = { ...named.alignmentSettings, ...named.moreRewardSettings };

/** What methods without a critic open: without a KL penalty no second copy of the weights, unless it costs nothing. */
async function openGroup(
  o: ResolvedSettings<typeof groupNames> & { beta: number },
  opener: ModelOpener,
  { sampler }: RunSurroundings,
) {
  const path = o.modelNameOrPath as string;
  const { policy, tokenizer } = await openPolicy(opener, path);
  const compared = o.beta !== 0 || (o.usePeft && policy.adapter !== null);
  const reference = compared ? await opener.frozenPolicy(path) : undefined;
  const rewardPaths = [o.rewardModelPath as string, ...(o.rewardFuncs ?? [])];
  const rewards = await openRewards(rewardPaths, { ...o, opener, policyTokenizer: tokenizer });
  return { policy, reference, rewards, tokenizer, gold: goldOf(o.datasetName), sampler };
}

const grpoMethod = onDataset(
  grpo,
  groupNames,
  {
    summary: "Train a policy against a reward model by comparing responses in groups (GRPO)",
    examples: [
      "webrlhf grpo --model_name_or_path out/sft --reward_model_path out/reward --generation_batch_size 64",
      "webrlhf grpo --config grpo.yaml --epsilon_high 0.28 --dynamic_filtering --overlong_buffer_len 8",
    ],
  },
  openGroup,
  trainGrpo,
);

const rlooMethod = onDataset(
  rloo,
  groupNames,
  {
    summary: "Train a policy against a reward model with leave-one-out baselines (RLOO)",
    examples: [
      "webrlhf rloo --model_name_or_path out/sft --reward_model_path out/reward --num_generations 4",
      "webrlhf rloo --config rloo.yaml --beta 0.1",
    ],
  },
  openGroup,
  trainRloo,
);

const reinforceMethod = onDataset(
  reinforce,
  groupNames,
  {
    summary: "Train a policy against a reward model like PPO, but without a critic (REINFORCE++)",
    examples: [
      "webrlhf reinforce --model_name_or_path out/sft --reward_model_path out/reward --generation_batch_size 128",
      "webrlhf reinforce --config reinforce.yaml --gamma 0.99",
    ],
  },
  openGroup,
  trainReinforce,
);

const raftMethod = onDataset(
  raft,
  { ...named.alignmentSettings, ...named.adapterSettings(0.05), ...named.serverSettings },
  {
    summary: "Train a policy on its own best responses by a reward model (RAFT)",
    examples: [
      "webrlhf raft --model_name_or_path out/sft --reward_model_path out/reward --output_dir out/raft",
      "webrlhf raft --use_peft --model_name_or_path base --reward_model_path out/reward --server http://127.0.0.1:8000",
      "webrlhf raft --config raft.yaml --collection_strategy top --top_reward_percentage 0.125",
    ],
  },
  async (o, opener, around) => {
    const path = o.modelNameOrPath as string;
    const { policy, tokenizer } = await openPolicy(opener, path);
    const reference = await opener.frozenPolicy(path);
    const rewards = await openRewards(o.rewardModelPath as string, { ...o, opener, policyTokenizer: tokenizer });
    const sampler = around.sampler ?? (await samplerOn(o, around, { policy, tokenizer }, o.maxSteps));
    return { policy, reference, rewards, tokenizer, gold: goldOf(o.datasetName), sampler };
  },
  trainRaft,
  {
    // What leaves no room for a response is too long for `maxPromptLength` as well, where that is the stricter limit.
    dataset: (o, { policy }) =>
      o.maxPromptLength <= policy.config.maxPositions - o.responseLength ? { longPrompts: "skip" } : {},
  },
);

/** A sampler on the server that the settings name, or undefined. */
async function samplerOn(
  o: ResolvedSettings<typeof named.serverSettings>,
  around: RunSurroundings,
  { policy, tokenizer }: { policy: CausalLM; tokenizer: Tokenizer },
  iterations: number,
) {
  const { outputDir = "out", signal = new AbortController().signal } = around;
  const run = { model: policy, tokenizer, iterations, files: await filesOf(around), outputDir, signal };
  return (await serverSampler(o, run)) ?? undefined;
}

const iterateNames = {
  ...named.alignmentSettings,
  ...named.judgeSettings,
  ...named.heldOutSettings,
  ...named.adapterSettings(0.05),
  ...named.serverSettings,
};

const iterateMethod = onDataset(
  iterate,
  iterateNames,
  {
    summary: "Train a policy by online iterative DPO: sample, score, pair and train, round after round",
    examples: [
      "webrlhf iterate --model_name_or_path out/sft --reward_model_path out/reward --iterations 3 --output_dir out/iterate",
      "webrlhf iterate --model_name_or_path out/sft --reward_model_path out/pairwise --reference initial --k 4",
      "webrlhf iterate --use_peft --model_name_or_path base --reward_model_path out/reward --server http://127.0.0.1:8000",
    ],
  },
  async (o, opener, around) => {
    const path = o.modelNameOrPath as string;
    const { policy, tokenizer } = await openPolicy(opener, path);
    const initial = await opener.frozenPolicy(path);
    const { judge, reward: rewards } = await openJudge(opener, o.rewardModelPath as string, {
      ...o,
      ranking: o.preferenceRanking,
      policyTokenizer: tokenizer,
    });
    const sampler = around.sampler ?? (await samplerOn(o, around, { policy, tokenizer }, o.iterations));
    const held = o.datasetName === WORLD || o.testSize > 0 || o.evalDatasetName !== null || o.datasetTestSplit !== null;
    const gold = goldOf(o.datasetName);
    return { policy, initial, judge, rewards: rewards ?? undefined, tokenizer, sampler, gold, held, around };
  },
  ({ held, around, ...models }, dataset, o, run = {}) => {
    if (!run.folder) throw new Error("iterate needs a folder to keep its iterations in");
    const data = held
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

const pairwiseMethod = onDataset(
  pairwise,
  {
    ...named.startSettings(0, "Language model to start from"),
    ...learned,
    pairTemplate: data.choice(
      ["auto", ...pairTemplates],
      "auto",
      "How a question is written: within the chat template, plainly, or by letters alone for tiny vocabularies; auto " +
        "takes the first of these that the model can do",
    ),
    pairBos: data.bool(false, "Begin questions with the beginning-of-text token; RLHFlow reads without one"),
  },
  {
    summary: "Train a language model to say which of two answers is better",
    examples: [
      "webrlhf pairwise --model_name_or_path out/sft --dataset_name pairs.jsonl.gz --output_dir out/pairwise",
      "webrlhf pairwise --model_name_or_path my-chat-model --dataset_name pairs.jsonl --use_peft --rrm_augmentation",
    ],
  },
  async (o, opener) => {
    const opened = await openPolicy(opener, o.modelNameOrPath as string);
    const template = o.pairTemplate === "auto" ? null : o.pairTemplate;
    return { ...opened, writer: new PairWriter(opened.tokenizer, template, o.pairBos) };
  },
  trainPairwise,
  { besides: ({ writer }) => pairFiles(writer) },
);

/** The methods by purpose, and there by their names, which are the verbs'; in the order of lists. */
export const methodGroups = {
  "Train on examples": { sft: sftMethod },
  "Train rewards": {
    reward: rewardMethod,
    cost: costMethod,
    pairwise: pairwiseMethod,
    "multi-objective": multiObjectiveMethod,
  },
  "Train policies on rewards": {
    ppo: ppoMethod,
    grpo: grpoMethod,
    rloo: rlooMethod,
    reinforce: reinforceMethod,
    raft: raftMethod,
    iterate: iterateMethod,
  },
  "Train policies on preferences": { dpo: dpoMethod, kto: ktoMethod, orpo: orpoMethod, cpo: cpoMethod },
} as const satisfies Record<string, Record<string, Method>>;

/** The methods by their names, which are the verbs'. */
export const methods = {
  ...methodGroups["Train on examples"],
  ...methodGroups["Train rewards"],
  ...methodGroups["Train policies on rewards"],
  ...methodGroups["Train policies on preferences"],
} as const;
