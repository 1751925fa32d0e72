/** Rewards by name: a model's, a server's, the built-in world's true one, or one's own code. */

import { isWorld, WORLD } from "../data/made.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { goldReward } from "../data/world.ts";
import { openDevice } from "../gpu/device.ts";
import { multiObjectiveReward } from "../rlhf/multi-objective/model.ts";
import { httpReward, type RewardFormat } from "../rlhf/reward/endpoint.ts";
import { type ForeignRewardOptions, foreignReward, sameTokenizer } from "../rlhf/reward/foreign.ts";
import { modelReward, type RewardFunction } from "../rlhf/rewards.ts";
import type { Response } from "../rlhf/sampler.ts";
import { BUILTIN, verifiableReward } from "../rlhf/verifiable/index.ts";
import { UserError } from "../runtime/errors.ts";
import { failed, importCode, isCode } from "../runtime/own-code.ts";
import { basename, isServer } from "../runtime/paths.ts";
import { spelled } from "../settings/index.ts";
import { labelOf } from "./hub.ts";
import { isLlmJudge, llmJudgeReward, openLlmJudge } from "./llm-judge.ts";
import { ModelOpener, type ModelOptions } from "./opener.ts";

/** How a reward server is asked; names are those of the program's options. */
export interface RewardServerOptions {
  /** "plain" is {prompts, responses} -> {rewards}, "paddle" PaddleNLP's {src, tgt, response} -> {score}. Default "plain". */
  rewardServerFormat?: RewardFormat | undefined;
  /** Responses in one request. Default 64. */
  rewardServerBatchSize?: number | undefined;
  /** Requests under way at once. Default 4. */
  rewardServerConcurrency?: number | undefined;
  /** Seconds to wait for an answer; then the run fails. Default 120. */
  rewardServerTimeout?: number | undefined;
  /** Tries after the first when the server is away, busy or broken. Default 4. */
  rewardServerRetries?: number | undefined;
  /** Key for the server, sent as a bearer token. Default: the variable REWARD_SERVER_API_KEY. */
  rewardServerApiKey?: string | null | undefined;
}

/** How a reward is opened. */
export interface RewardOptions extends RewardServerOptions, ModelOptions, ForeignRewardOptions {
  /** Opens the reward's models. Default: one of its own; a run's shares bases, and frees what it opened. */
  opener?: ModelOpener;
  /** The tokenizer that responses' ids come from. Default: the trainer says it, else the reward model's own. */
  policyTokenizer?: Tokenizer;
}

/** A reward as callers give it: a name, or a function. */
export type RewardLike = string | RewardFunction;

/** A reward with its name and weight, as a module may export it. */
export interface WeightedReward {
  score: RewardFunction;
  /** What it is called in metrics. Default: the function's own name. */
  name?: string;
  /** What it counts where several rewards are added. Default 1. */
  weight?: number;
}

/** Whether a name means a reward that has no weights here: the true one, a server, an LLM judge, or code. */
export const isWeightless = (name: string): boolean =>
  name.startsWith(BUILTIN) || isServer(name) || isLlmJudge(name) || isCode(name);

/** The true reward of the built-in world. */
export const worldGold = ({ promptText, text }: Response): number => goldReward(promptText, text);

/** The true reward, where the dataset of that name has one. */
export const goldOf = (dataset: string): ((response: Response) => number) | undefined =>
  isWorld(dataset) ? worldGold : undefined;

/**
 * Opens a reward. The function sees of each response its text, ids and messages, the prompt, and the whole row of the dataset.
 * @param reward a reward model's folder or `org/name` on the hub; builtin:world, the true reward; another `builtin:`, which is verified
 *   (see `verifiableRewards`); http://..., a server; judge:FILE, a language
 *   model on a server that grades by criteria; a module of one's own (.ts, .js, .mjs) whose `default` or `reward` export is the function; or a function
 * @throws UserError for a module with several rewards (see `openRewards`), and for whatever is missing or damaged
 */
export async function openReward(reward: RewardLike, options: RewardOptions = {}): Promise<RewardFunction> {
  const found = await openRewards(reward, options);
  if (found.length === 1) return found[0];
  const names = found.map(({ name }) => name).join(", ");
  throw new UserError(`${reward} holds ${found.length} rewards (${names}), and one is needed here: use openRewards`);
}

/**
 * Opens several rewards, which trainers add with their weights and log apart. Names that come twice are numbered.
 * @param rewards as of `openReward`; a module may export a list or a record of functions, or of {name, weight, score}
 */
export async function openRewards(
  rewards: RewardLike | readonly RewardLike[],
  options: RewardOptions = {},
): Promise<RewardFunction[]> {
  const found: RewardFunction[] = [];
  const taken = new Set<string>();
  for (const reward of [rewards].flat() as RewardLike[]) {
    const opened = typeof reward === "string" ? await named(reward, options) : [own(reward, {}, "reward")];
    for (const one of opened) {
      const { name } = one;
      for (let n = 2; taken.has(one.name); n++) rename(one, `${name}-${n}`);
      taken.add(one.name);
      found.push(one);
    }
  }
  return found;
}

async function named(name: string, options: RewardOptions): Promise<RewardFunction[]> {
  if (!isWeightless(name)) return [await modelsReward(name, options)];
  if ((options.rewardModelDtype ?? "auto") !== "auto") {
    throw new UserError(`reward_model_dtype does not apply: ${name} has no weights here`);
  }
  if (options.normalize) throw withoutStatistics(name, options);
  if (name.startsWith(BUILTIN) && name !== WORLD) return [await verifiableReward(name)];
  if (isLlmJudge(name)) {
    const { files = options.opener?.options.files, signal } = options;
    return [llmJudgeReward(await openLlmJudge(name, { ...(files && { files }), ...(signal && { signal }) }), name)];
  }
  if (isCode(name)) return codeRewards(name);
  const score: RewardFunction = name === WORLD ? (all) => all.map(worldGold) : serverReward(name, options);
  return [rename(score, basename(name))];
}

/** The reward function behind a URL. */
export const serverReward = (url: string, o: RewardServerOptions): RewardFunction =>
  httpReward(url, {
    format: o.rewardServerFormat,
    batchSize: o.rewardServerBatchSize,
    concurrency: o.rewardServerConcurrency,
    ...(o.rewardServerTimeout !== undefined && { timeoutMs: o.rewardServerTimeout * 1000 }),
    ...(o.rewardServerRetries !== undefined && { retries: o.rewardServerRetries }),
    apiKey: o.rewardServerApiKey ?? globalThis.process?.env?.REWARD_SERVER_API_KEY ?? null,
  });

async function modelsReward(name: string, options: RewardOptions): Promise<RewardFunction> {
  await openDevice();
  const { policyTokenizer = null, opener = new ModelOpener(options), normalize, end } = options;
  const settings = { ...(normalize !== undefined && { normalize }), ...(end && { end }) };
  const own = await opener.tokenizerBeside(name);
  const several = await opener.multiObjective(name);
  const scorer = several ? null : await opener.frozenScorer(name);
  const label = labelOf(await opener.locate(name));
  const forTokenizer = (theirs: Tokenizer | null): RewardFunction => {
    const shared = !own || !theirs || sameTokenizer(own, theirs);
    if (scorer) return shared ? modelReward(scorer, settings) : foreignReward(scorer, own, theirs, settings);
    if (!shared)
      throw new UserError(
        `${name} has another tokenizer than the policy: a multi-objective reward model must share it`,
      );
    if (normalize) throw withoutStatistics(name, options);
    return multiObjectiveReward(several!.model, several!.head);
  };
  const reward = forTokenizer(policyTokenizer);
  if (!policyTokenizer) reward.forTokenizer = (theirs) => rename(forTokenizer(theirs as Tokenizer), label);
  return rename(reward, label);
}

/** What a module of one's own exports as rewards. */
async function codeRewards(path: string): Promise<RewardFunction[]> {
  const module = await importCode(path);
  const exported = module.default ?? module.reward;
  const rewards =
    typeof exported === "function" || isWeighted(exported)
      ? [[undefined, exported] as const]
      : typeof exported === "object" && exported !== null
        ? Object.entries(exported).map(([key, value]) => [Array.isArray(exported) ? undefined : key, value] as const)
        : [];
  if (rewards.length === 0) {
    throw new UserError(
      `${path}: a module of rewards exports a function as "default" or "reward", or a list or record of them; this one has ` +
        `${Object.keys(module).join(", ") || "no exports"}`,
    );
  }
  const file = basename(path).replace(/\.\w+$/, "");
  return rewards.map(([key, value]) => {
    const { score, name, weight } = isWeighted(value) ? value : { score: value as RewardFunction };
    if (typeof score !== "function") {
      throw new UserError(`${path}: a reward is a function, or {name, weight, score}, not ${JSON.stringify(value)}`);
    }
    // A function without a name of its own has one that the runtime or a bundler makes of "default".
    const fallback = /^$|^score$|(^|_)default(_|$)/.test(score.name) ? file : score.name;
    return own(score, { name: name ?? key ?? fallback, ...(weight !== undefined && { weight }) }, path);
  });
}

const isWeighted = (value: unknown): value is WeightedReward =>
  typeof value === "object" && value !== null && typeof (value as WeightedReward).score === "function";

/** A function of one's own as a reward, whose errors name it. */
function own(score: RewardFunction, { name, weight }: Omit<WeightedReward, "score">, path: string): RewardFunction {
  const called = name ?? (score.name || "reward");
  const where = path === called ? path : `${path}: the reward ${called}`;
  const reward: RewardFunction = async (responses) => {
    let scores: ArrayLike<number>;
    try {
      scores = await score(responses);
    } catch (error) {
      throw failed(where, error, path);
    }
    if (typeof scores === "object" && scores?.length === responses.length) return scores;
    const given = typeof scores === "object" && scores ? `${scores.length} numbers` : `${JSON.stringify(scores)}`;
    throw new UserError(`${where} gave ${given} for ${responses.length} responses: it must return one number for each`);
  };
  const counts = weight ?? score.weight;
  return Object.assign(rename(reward, called), {
    ...(counts !== undefined && { weight: counts }),
    ...(score.residents && { residents: score.residents }),
    ...(score.models && { models: score.models }),
    ...(score.forTokenizer && { forTokenizer: score.forTokenizer }),
  });
}

const rename = (reward: RewardFunction, name: string): RewardFunction =>
  Object.defineProperty(reward, "name", { value: name, configurable: true });

const withoutStatistics = (path: string, options: object): UserError =>
  new UserError(
    `${path} has no statistics to normalise its rewards by: normalise by those of the run, with ` +
      `${spelled(options, "rewardNormalizer")} running`,
  );
