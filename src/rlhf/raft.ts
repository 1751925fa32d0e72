/**
 * Reward-ranked fine-tuning (Dong et al. 2023): sample several responses, keep the best by reward, fine-tune on them,
 * repeat. "local" keeps the best of each prompt's K responses; "top" keeps the best share of all responses, one per
 * prompt. The optimizer and its moments persist over the iterations. Names and defaults are LMFlow's; where LMFlow does what
 * hardly anybody would want, the dialect "corrected" does the other thing.
 */
import type { CausalLM } from "../nn/models.ts";
import { AdamW } from "../nn/optimizer.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import { randomInt, streamId } from "../runtime/rng.ts";
import { dialectIn, live, type SettingsInput, spelled } from "../settings/index.ts";
import type { Draws } from "./ahead.ts";
import { drawing } from "./any-order.ts";
import { cachedAs } from "./caching.ts";
import type { Clock } from "./clock.ts";
import { dataEvents } from "./data-events.ts";
import { type ActingModels, actingIn } from "./environment/acting.ts";
import type { TrainEvent } from "./events.ts";
import { inHalf } from "./half.ts";
import { loop, type RunOptions } from "./loop.ts";
import { bothOf, responseLogProbs, sampledKl } from "./measure.ts";
import { Owned } from "./owned.ts";
import { type AlignmentModels, baseOf } from "./partners.ts";
import { PromptOrder } from "./prompts.ts";
import {
  type CleanText,
  cleanLmflow,
  type DiscardSample,
  discardContaining,
  discardLmflow,
  planted,
} from "./raft/hooks.ts";
import { fineTune, toLearn } from "./raft/learn.ts";
import { heldOutEvaluation, shortEnough } from "./raft/prompts.ts";
import { bestOfAll, bestOfEach, klAdjusted, shareOf } from "./raft/rank.ts";
import { candidateRows, raftRow } from "./raft/rows.ts";
import { type RaftSettings, raft } from "./raft/settings.ts";
import { countTokens, monitorEvents, type TokenCounts, tokensIn } from "./raft/token-monitor.ts";
import { removeTrainSets, writeTrainSet } from "./raft/train-sets.ts";
import { failureWarnings, judged, type RewardFailure } from "./reward-failures.ts";
import { judgesOf, partMeans, rewardParts } from "./rewards.ts";
import {
  heldOutPrompts,
  lengthMetrics,
  type Prompt,
  type PromptData,
  promptsOf,
  type Response,
  type Sampler,
  samplesOf,
  tokenizerOf,
  withinLength,
  withText,
} from "./sampler.ts";
import * as shared from "./settings.ts";
import { average } from "./stats.ts";
import { diversity } from "./text-stats.ts";
import { adamOf } from "./training.ts";

/** The models of a run, and rules of one's own. */
export interface RaftModels extends AlignmentModels, ActingModels {
  /** The policy as it started, to report the KL to it and to rank by it. Default: the base of its adapter, or none. */
  reference?: CausalLM | undefined;
  /** Rewrites texts, instead of the rule that the settings name. Not of episodes in an environment, which stay as they were drawn. */
  clean?: CleanText;
  /** Keeps responses from being learned, instead of the rules that the settings name; sees them after cleaning. */
  discard?: DiscardSample | ((response: Response) => boolean);
}

/**
 * Trains the policy in place. Emits one step event per iteration, with a row of the table "raft" and those of "monitor" and "candidates".
 * @throws UserError for settings or data under which nothing would be learned, and for a loss that is not finite
 */
export async function* trainRaft(
  models: RaftModels,
  data: PromptData,
  chosen: SettingsInput<typeof raft.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const o = live(raft(chosen));
  const { policy, reference = baseOf(policy) ?? undefined } = models;
  const tokenizer = tokenizerOf(models);
  const given = await promptsOf(data, tokenizer, { context: policy.config.maxPositions, response: o.responseLength });
  const [{ prompts, left }, held] = [shortEnough(given.train, o), heldOutPrompts(given, o)];
  if (o.klBeta !== 0 && !reference) {
    throw new UserError(`${spelled(o, "klBeta")} needs the reference to measure the KL against`);
  }
  if (left) yield { type: "warning", step: 0, text: left };
  const parts = rewardParts(models.rewards, tokenizer, o.rewardWeights);
  const acting = actingIn(models, parts, { policy, tokenizer }, null, o);
  const inputs: CollectInputs = {
    ...rules(o, acting !== null),
    ...models,
    reference,
    tokenizer,
    prompts,
    parts: planted(parts, o),
  };
  if (acting && inputs.clean) {
    throw new UserError(
      `episodes in an environment stay as they were drawn: leave out what rewrites texts (${spelled(o, "cleanText")}, or clean)`,
    );
  }
  const { samples, promptsPerStep } = sizes(o);
  const maxSteps = o.reusePrompts ? o.maxSteps : Math.min(o.maxSteps, Math.ceil(prompts.length / promptsPerStep));
  const upcoming = (step: number) => drawsOf(prompts, o, step);
  const ahead = drawing(acting ?? models, { policy, tokenizer, maxSteps, measuredAt: null, upcoming }, o);
  policy.gradientCheckpointing = o.gradientCheckpointing;
  for (const model of [policy, reference]) if (model) model.batchInvariant = o.deterministic;
  const owned = new Owned();
  owned.keep(inHalf(o.fp16, [policy, reference, ...judgesOf(inputs.parts)]));
  owned.keep(cachedAs(o.kvCacheDtype, [policy]));
  const optimizer = owned.keep(new AdamW(policy.store, adamOf(o)));
  let firstTokens: TokenCounts | null = null;
  yield* loop(
    {
      stage: "raft",
      maxSteps,
      parameters: policy.store.count,
      kept: { "": { model: policy, optimizer } },
      state: ahead.state({
        save: () => ({ firstTokens }),
        load: (saved) => {
          firstTokens = (saved.firstTokens as TokenCounts | undefined) ?? null;
        },
      }),
      adjust(key) {
        if (key === "klBeta" && !reference)
          throw new UserError("kl_beta was 0 at the start, and there is no reference to measure the KL against");
        return null;
      },
      data: dataEvents(prompts, held),
      begun: (first) => removeTrainSets(run.folder, first),
      epoch: (done) => Math.min(done * promptsPerStep, o.reusePrompts ? Infinity : prompts.length) / prompts.length,
      async prepare(step, tell, clock) {
        const responses = await drawn(ahead.sampler, upcoming(step));
        await acting?.tell(tell, step + 1);
        return collect(inputs, o, step, responses, clock);
      },
      async step(step, found: Collected, _tell, clock) {
        const { responses, rewards, truth, allowed, kept } = found;
        const of = <T>(all: readonly T[]) => kept.map((i) => all[i]);
        const chosen = of(responses);
        await writeTrainSet(run.folder, step, chosen);
        const firsts = found.sampled.filter((r) => r.sample === 0); // of each prompt one: KL to the reference
        const kl = reference && (await clock.during("reference", () => sampledKl(policy, reference, firsts)));
        const learned = chosen.map((response) => toLearn(response, policy, o));
        const tuned = await fineTune(policy, optimizer, learned, step, { ...o, maxSteps });
        const { unique_1: _, unique_2: __, ...varied } = diversity(responses.map((r) => r.text));
        const metrics = {
          // Before discards, and for "local" of each prompt's first sample: an unbiased look at the policy.
          reward: average(rewards.filter((_, i) => i % samples === 0)),
          ...(kept.length > 0 && { train_reward: average(of(rewards)) }),
          ...(truth && { gold: average(truth) }),
          ...(truth && kept.length > 0 && { train_gold: average(of(truth)) }),
          ...(kl !== undefined && { kl }),
          ...found.more,
          ...tuned.metrics,
          n_kept: kept.length,
          n_discarded: allowed.filter((a) => !a).length,
          ...(o.onRewardError === "drop" && { n_unjudged: found.failures.length * samples }),
          ...(o.maxStaleness > 0 && { staleness: average(found.sampled.map(({ version = step }) => step - version)) }),
          ...ahead.metrics(),
          ...lengthMetrics(responses),
          ...varied,
        };
        const done = step + 1;
        const events: TrainEvent[] = failureWarnings(done, found.failures);
        events.push({ type: "rows", step: done, table: "raft", rows: [raftRow(step, metrics)] });
        if (o.showCandidates) {
          const rows = candidateRows(step, found, o.collectionStrategy === "local" ? samples : null);
          events.push({ type: "rows", step: done, table: "candidates", rows });
        }
        if (o.monitor) {
          const tokens = tokensIn(responses, tokenizer);
          firstTokens ??= countTokens(tokens);
          const watched = { tokens, rewards, prompts: responses.map((r) => r.prompt), gold: truth };
          events.push(...monitorEvents(step, watched, firstTokens, { threshold: o.monitorThreshold }));
        }
        const idle = kept.length === 0 ? `all ${responses.length} responses were discarded` : tuned.idle;
        return {
          metrics,
          tokens: responses.reduce((n, r) => n + r.ids.length, tuned.tokens),
          idle,
          events,
          samples: samplesOf(chosen, of(rewards), truth && of(truth), o.showSamples),
        };
      },
      finite: ["loss", "kl"],
      ...(held.length > 0 &&
        heldOutEvaluation({ ...inputs, gold: models.gold, sampler: acting?.sampler }, held, o, run.folder)),
      finished: () => ({ "": policy }),
      async close() {
        await ahead.close();
        owned.destroy();
      },
    },
    o,
    run,
  );
}

/** The rules that the settings name. LMFlow's usual ones are of dialogues that are answered once, not of an environment's episodes. */
export function rules(o: RaftSettings, inEnvironment = false): Pick<RaftModels, "clean" | "discard"> {
  const usual = dialectIn(o) === "lmflow" && o.collectionStrategy === "local" && !inEnvironment;
  const named = (rule: string) => rule === "lmflow" || (rule === "auto" && usual);
  const discards: DiscardSample[] = [];
  if (named(o.discardSample)) discards.push(discardLmflow);
  if (o.discardContaining) discards.push(discardContaining(o.discardContaining));
  return {
    ...(named(o.cleanText) && { clean: cleanLmflow }),
    ...(discards.length > 0 && { discard: (response: Response) => discards.some((rule) => rule(response)) }),
  };
}

/** Who takes part in collecting. */
interface CollectInputs extends RaftModels {
  tokenizer: TextTokenizer;
  prompts: readonly Prompt[];
  parts: ReturnType<typeof rewardParts>;
}

/** An iteration's responses, and which of them are learned. */
interface Collected {
  /** As they were drawn, cut to their drawn limits. */
  sampled: Response[];
  /** The same after cleaning. */
  responses: Response[];
  rewards: number[];
  /** What they are ranked by. */
  scores: number[];
  truth: number[] | null;
  allowed: boolean[];
  kept: number[];
  /** Prompts that no reward could judge, whose responses are not among these. */
  failures: RewardFailure[];
  /** Means of each reward, where there are several. */
  more: Record<string, number>;
}

/** Responses per prompt and prompts per iteration. Rounded: 1 / share in floating point may just miss a whole number. */
export function sizes(o: Pick<RaftSettings, "collectionStrategy" | "topRewardPercentage" | "raftBatchSize">) {
  return o.collectionStrategy === "local"
    ? { samples: Math.round(1 / o.topRewardPercentage), promptsPerStep: o.raftBatchSize }
    : { samples: 1, promptsPerStep: Math.round(o.raftBatchSize / o.topRewardPercentage) };
}

/** What an iteration draws. */
function drawsOf(prompts: readonly Prompt[], o: RaftSettings, step: number): Draws {
  const { samples, promptsPerStep } = sizes(o);
  const position = step * promptsPerStep;
  const count = o.reusePrompts ? promptsPerStep : Math.min(promptsPerStep, prompts.length - position);
  const promptIds = new PromptOrder(prompts.length, o.seed).take(position, count);
  const { responseLength: maxNewTokens, minNewTokens, seed } = o;
  const options = { maxNewTokens, minNewTokens, samples, ...shared.samplingParams(o), seed, iteration: step };
  return { prompts: promptIds.map((i) => prompts[i]), promptIds, options };
}

const drawn = (sampler: Sampler, { prompts, promptIds, options }: Draws): Promise<Response[]> =>
  sampler(prompts, promptIds, options);

/** Cleans, scores and ranks. */
async function collect(
  inputs: CollectInputs,
  o: RaftSettings,
  step: number,
  drawn: readonly Response[],
  clock: Clock,
): Promise<Collected> {
  const { tokenizer, clean, discard, gold, parts } = inputs;
  const { samples } = sizes(o);
  // Tokens do not know of a response's limit, so that it is cut as it would have been with a lower one. An environment would.
  const limited = inputs.environment
    ? drawn
    : drawn.map((r) => withinLength(r, r.promptLength + limitOf(o, step, r.prompt), tokenizer));
  const cleanedUp = clean ? limited.map((r) => cleaned(r, clean, inputs)) : limited;
  const {
    kept: usable,
    scores: rewards,
    parts: each,
    failures,
  } = await clock.during("reward", () => judged(parts, cleanedUp, o));
  const [sampled, responses] = [limited, cleanedUp].map((all) => usable.map((i) => all[i]));
  const allowed = responses.map((r) => !discard?.(r));
  const scores =
    o.klBeta === 0 ? rewards : await clock.during("reference", () => rankByKl(inputs, responses, rewards, o.klBeta));
  const kept =
    o.collectionStrategy === "local"
      ? bestOfEach(scores, allowed, samples)
      : bestOfAll(scores, allowed, shareOf(responses.length, o.topRewardPercentage));
  const more = partMeans(parts.names, each);
  return {
    sampled,
    responses,
    rewards,
    scores,
    truth: gold ? responses.map(gold) : null,
    allowed,
    kept,
    failures,
    more,
  };
}

const LIMITS = streamId("raft/limits");

/** The longest that responses to the iteration's prompt number `prompt` may be, in tokens. */
function limitOf(o: RaftSettings, step: number, prompt: number): number {
  const { outputMinLength: shortest, responseLength, minNewTokens, seed } = o;
  if (shortest === null || shortest >= responseLength) return responseLength;
  const together = o.collectionStrategy === "local" ? 1 : o.inferenceBatchSizePerDevice;
  const drawn = shortest + randomInt(responseLength - shortest, seed, step, Math.floor(prompt / together), LIMITS);
  return Math.max(drawn, minNewTokens);
}

/** The response with its text rewritten and tokenised anew; untouched texts keep their sampled ids. */
function cleaned(response: Response, clean: CleanText, { tokenizer, policy }: CollectInputs): Response {
  const text = clean(response.text);
  if (text === response.text) return response;
  const { eosIds } = policy.config;
  const last = response.ids[response.ids.length - 1];
  const end = response.ended ? (eosIds.includes(last) ? [last] : eosIds.slice(0, 1)) : [];
  const given = response.ids.subarray(0, response.promptLength);
  const ids = Uint32Array.from([...given, ...tokenizer.encode(text, { continued: true }), ...end]);
  const { logProbs: _, ...others } = withText(response, text); // of other tokens
  return { ...others, ids };
}

/** Rewards less beta times the log-ratio to the reference. Responses that cleaning left empty have a ratio of 1. */
async function rankByKl(
  { policy, reference }: CollectInputs,
  responses: readonly Response[],
  rewards: readonly number[],
  beta: number,
): Promise<number[]> {
  const full = responses.map((_, i) => i).filter((i) => responses[i].ids.length > responses[i].promptLength);
  const some = full.map((i) => responses[i]);
  const [own, other] = await bothOf(responseLogProbs(policy, some), responseLogProbs(reference as CausalLM, some));
  const given = full.map((i) => rewards[i]);
  const adjusted = klAdjusted(given, own.logProbs, other.logProbs, beta);
  const scores = [...rewards];
  full.forEach((i, k) => {
    scores[i] = adjusted[k];
  });
  return scores;
}
