/**
 * Online iterative DPO (Xiong et al. 2023; Dong et al. 2024, "RLHF Workflow"). Each iteration draws K responses to new
 * prompts from the policy as it is, scores them, makes pairs of them, and trains the policy on these pairs by DPO with a
 * fresh optimizer. Everything an iteration makes is kept in `iteration_<i>/`: responses.jsonl, rewards.jsonl, pairs.jsonl,
 * model/ and, when it is finished, metrics.json. A run that was killed anywhere goes on to the same end, bit by bit.
 */
import type { SampledRow, ScoredRow } from "../data/scored-rows.ts";
import type { CausalLM } from "../nn/models.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { restoreTrained } from "../nn/trained.ts";
import { UserError } from "../runtime/errors.ts";
import { streamId, uint32 } from "../runtime/rng.ts";
import type { SettingsInput } from "../settings/index.ts";
import { refuseAhead, versionOf } from "./ahead.ts";
import { cachedAs } from "./caching.ts";
import { checkpointSteps, type RunFolder, removePartial, restoreModels, saveModels } from "./checkpoint.ts";
import { dataEvents } from "./data-events.ts";
import { dpo, dpoObjective, trainDpo } from "./dpo.ts";
import { type Acting, type ActingModels, actingIn } from "./environment/acting.ts";
import { evaluatePolicy } from "./evaluate.ts";
import type { Sample, TrainEvent } from "./events.ts";
import { inHalf } from "./half.ts";
import { judgeByReward, type RowJudge, rewardStatistics, type SequenceOf } from "./iterate/annotate.ts";
import { BestIteration, wholeIterations } from "./iterate/best.ts";
import { IterationDraws } from "./iterate/draws.ts";
import { type Finished, finishedIterations, HELD_OUT, removeCheckpoints, reported } from "./iterate/finished.ts";
import { describeCounts, findPairs } from "./iterate/pairs.ts";
import { comparable, exampleOf, responseOf, writtenTokens } from "./iterate/responses.ts";
import { type NumberedPrompt, promptSlices } from "./iterate/sample.ts";
import { type IterateSettings, iterate } from "./iterate/settings.ts";
import { pairLines, scoreStage } from "./iterate/stages.ts";
import type { RunOptions } from "./loop.ts";
import { RunningMean } from "./losses/preference.ts";
import { sampledKl } from "./measure.ts";
import { evaluatePairs } from "./pair-trainer.ts";
import { differing, type PairExample } from "./pairs.ts";
import { type AlignmentModels, baseOf, copyOf } from "./partners.ts";
import { recorded } from "./recorded.ts";
import { precomputeReference } from "./reference.ts";
import { judged } from "./reward-failures.ts";
import { judgesOf, type RewardFunction, type Rewards, rewardParts } from "./rewards.ts";
import { roundedSource } from "./rounded-source.ts";
import { type Prompt, type PromptData, promptsOf, type Response, type Sampler, tokenizerOf } from "./sampler.ts";
import * as shared from "./settings.ts";
import { localSource, type RolloutSource } from "./source.ts";
import { average } from "./stats.ts";

/** The models of a run. */
export interface IterateModels extends Omit<AlignmentModels, "rewards">, ActingModels {
  /**
   * The model that the run starts from, as a model of its own: for the KL, and as the reference "initial". Default: the base of
   * the policy's adapter, or a copy, which is freed in the end.
   */
  initial?: CausalLM | undefined;
  /** Score responses, here and on held-out prompts. Needed unless a judge is given. */
  rewards?: Rewards | undefined;
  /** Scores the responses of a prompt together, for instance by comparing them. Not for an environment, which gives rewards. */
  judge?: ((sequence: SequenceOf) => RowJudge) | undefined;
}

/** Where a run is kept; its folder holds what its iterations make. */
export interface IterateRun extends RunOptions {
  folder: RunFolder;
  /** Told how far a stage of an iteration is. */
  progress?: (iteration: number, stage: "sampling" | "scoring", done: number, total: number) => void;
}

/** What all iterations share. */
interface Working {
  policy: CausalLM;
  initial: CausalLM;
  tokenizer: TextTokenizer;
  judge: RowJudge;
  drawer: Sampler | RolloutSource;
  acting: (Acting & ActingModels) | null;
  prompts: readonly Prompt[];
  held: readonly Prompt[];
  reward: RewardFunction | undefined;
  gold: ((response: Response) => number) | undefined;
  run: IterateRun;
}

/**
 * Trains the policy in place; the steps of all iterations are counted through. Emits one eval event per iteration, on the
 * held-out prompts of the data.
 * @throws UserError for settings or data under which nothing would be learned, and for folders of other runs
 */
export async function* trainIteratively(
  models: IterateModels,
  data: PromptData,
  chosen: SettingsInput<typeof iterate.table>,
  run: IterateRun,
): AsyncGenerator<TrainEvent> {
  const o = iterate(chosen);
  const { policy, sampler, source, gold, environment } = models;
  const tokenizer = tokenizerOf(models);
  const room = { context: policy.config.maxPositions, response: o.responseLength };
  const { train: prompts, eval: held } = await promptsOf(data, tokenizer, room);
  const parts = models.rewards && rewardParts(models.rewards, tokenizer, o.rewardWeights);
  if (environment && (models.judge || !parts)) {
    throw new UserError(
      "episodes in an environment become pairs by their rewards: give environmentReward, and no judge",
    );
  }
  const episodes = actingIn(models, parts ?? null, { policy, tokenizer }, null, o);
  const acting = episodes && { ...episodes, environment };
  if (acting || sampler) refuseAhead(o);
  const reward = parts && (async (responses: readonly Response[]) => (await judged(parts, responses)).scores);
  const sequence = (row: SampledRow, k: number) => responseOf(prompts[row.id as number], row, k);
  const judge = models.judge?.(sequence) ?? (reward && judgeByReward(reward, sequence));
  if (!judge) throw new UserError("nothing scores the responses: give rewards, or a judge");
  const copy = models.initial || baseOf(policy) ? null : copyOf(policy, "copy of the start");
  const initial = models.initial ?? baseOf(policy) ?? (copy as CausalLM);
  policy.gradientCheckpointing = o.gradientCheckpointing;
  for (const model of [policy, initial]) model.batchInvariant = o.deterministic;
  const half = inHalf(o.fp16, [policy, initial, ...judgesOf(parts)]);
  const cached = cachedAs(o.kvCacheDtype, [policy]);
  try {
    const working = {
      policy,
      initial,
      tokenizer,
      judge,
      acting,
      drawer: acting?.sampler ?? sampler ?? roundedSource(source ?? localSource(), o),
      prompts,
      held,
      reward,
      gold,
      run,
    };
    if (typeof run.resume === "string") {
      throw new UserError(`iterate goes on where its iterations stopped: resume it without naming ${run.resume}`);
    }
    const restore = () => restoreModels(run.folder, { "": policy });
    yield* recorded(run, { stage: "iterate", settings: o, restore }, () => iterations(working, o));
  } finally {
    cached.destroy();
    half.destroy();
    copy?.destroy();
  }
}

async function* iterations(inputs: Working, o: IterateSettings): AsyncGenerator<TrainEvent> {
  const { policy, tokenizer, drawer, run } = inputs;
  const slices = promptSlices(inputs.prompts, o);
  const folderOf = (iteration: number) => `${run.folder.path}/iteration_${iteration}`;
  const sampling = {
    maxNewTokens: o.responseLength,
    samples: o.numGenerations,
    ...shared.samplingParams(o),
    ...(o.eosTokenId && { eosIds: o.eosTokenId }),
    seed: o.seed,
  };
  const progress = (iteration: number, done: number, total: number) =>
    run.progress?.(iteration, "sampling", done, total);
  const drawn = {
    policy,
    tokenizer,
    files: run.folder.files,
    folderOf,
    slices,
    sampling,
    acting: inputs.acting !== null,
    progress,
    signal: run.signal,
  };
  const draws = new IterationDraws(drawer, drawn, o);
  try {
    yield* rounds(inputs, o, slices, folderOf, draws);
  } finally {
    await draws.close();
  }
}

async function* rounds(
  inputs: Working,
  o: IterateSettings,
  slices: readonly NumberedPrompt[][],
  folderOf: (iteration: number) => string,
  draws: IterationDraws,
): AsyncGenerator<TrainEvent> {
  const { policy } = inputs;
  const { folder: run, resume, signal } = inputs.run;
  const { files } = run;
  const best = new BestIteration(o, inputs.held.length);
  const told = { reference: o.reference, promptsPerIteration: slices[0].length };
  const finished = resume ? await finishedIterations(files, run.path, o.iterations, told) : [];
  const folders = (await files.list(run.path)).filter((name) => /^iteration_\d+$/.test(name));
  await removePartial(files, [run.path, ...folders.map((name) => `${run.path}/${name}`)]);
  const modelOf = (iteration: number) => ({ ...run, path: `${folderOf(iteration)}/model` });
  const stepsDone = () => finished.reduce((sum, { steps }) => sum + steps, 0);
  const estimate = stepsOf(slices[0].length, o);
  const trained = () => Math.max(0, finished.length - 1);

  const going = resume ? ((await checkpointSteps(files, modelOf(finished.length).path)).at(-1) ?? 0) : 0;
  const parameters = policy.store.count;
  const maxSteps = stepsDone() + (o.iterations - trained()) * estimate;
  const start = finished.length > 0 ? stepsDone() + going : 0;
  if (resume) {
    const text =
      finished.length > 0
        ? `resuming in iteration ${Math.min(finished.length, o.iterations)} at step ${start}`
        : `no iteration in ${run.path}: starting with the first`;
    yield { type: "note", step: start, text };
  }
  yield { type: "start", stage: "iterate", step: start, maxSteps, parameters };
  yield* dataEvents(inputs.prompts, inputs.held);
  let at = 0;
  for (const iteration of finished) {
    at += iteration.steps;
    await removeCheckpoints(files, modelOf(iteration.iteration).path);
    yield* reported(iteration, at, best.take(iteration, at)); // a log that was cut may lack it; another knows that it has it
  }
  // What older policies were to draw, and what broke off.
  for (let version = 0; version < trained(); version++) {
    if (draws.turns(version, finished.length).length === 0) continue;
    if (version > 0) await restoreTrained(policy, files, modelOf(version).path);
    await draws.ask(version, finished.length);
  }
  if (trained() > 0) await restoreTrained(policy, files, modelOf(trained()).path);

  for (let iteration = finished.length; iteration <= o.iterations && !best.exhausted; iteration++) {
    if (signal?.aborted) return;
    const offset = stepsDone();
    let metrics: Record<string, number> = {};
    let steps = 0;
    if (iteration > 0) {
      const made = yield* oneIteration(inputs, o, {
        iteration,
        prompts: slices[iteration - 1],
        draws,
        folder: folderOf(iteration),
        model: modelOf(iteration),
        offset,
        left: (o.iterations - iteration) * estimate,
      });
      if (made === null) return;
      ({ metrics, steps } = made);
    }
    const held = await heldOut(inputs, o);
    for (const text of held.warnings) yield { type: "warning", step: offset + steps, text };
    const done: Finished = {
      iteration,
      ...told,
      steps,
      metrics: { iteration, ...metrics, ...held.metrics },
      samples: held.samples,
    };
    await run.log?.(); // brought to the disk before what says that all of it is there
    await files.writeFile(`${folderOf(iteration)}/metrics.json`, `${JSON.stringify(done, null, 2)}\n`);
    finished.push(done);
    yield* reported(done, offset + steps, best.take(done, offset + steps));
    await removeCheckpoints(files, modelOf(iteration).path);
  }
  if (stepsDone() === 0) {
    throw new UserError(
      `nothing was learned in any of ${o.iterations} iterations: no pair says which response is better`,
    );
  }
  const metrics = finished.at(-1)?.metrics ?? {};
  const outcome = yield* best.end(policy, files, run.path, stepsDone(), trained() < o.iterations);
  await saveModels(run, { "": policy });
  yield { type: "end", step: stepsDone(), metrics, ...outcome };
}

/** The policy on held-out prompts; nothing without such. */
async function heldOut(
  { policy, initial, tokenizer, held, reward, gold, acting }: Working,
  { seed, responseLength, temperature, eosTokenId, showSamples, ...o }: IterateSettings,
): Promise<{ metrics: Record<string, number>; samples: Sample[]; warnings: string[] }> {
  if (held.length === 0) return { metrics: {}, samples: [], warnings: [] };
  const { maxTurns, environmentTimeout, environmentFailure } = o;
  const how = { maxTurns, environmentTimeout, environmentFailure, ...(eosTokenId && { eosIds: eosTokenId }) };
  const { metrics, samples, warnings } = await evaluatePolicy(
    {
      ...{ policy, tokenizer, prompts: held, reference: initial, environment: acting?.environment },
      ...(reward && { reward }),
      ...(gold && { gold }),
    },
    { seed, responseLength, temperature, showSamples, ...how },
  );
  const { mean_length, eos_rate, ...others } = metrics;
  const lengthFirst = Object.entries({ mean_length, eos_rate, ...others });
  const named = lengthFirst.map(([name, value]) => [`${HELD_OUT}${name}`, value] as const);
  return { metrics: Object.fromEntries(named), samples, warnings };
}

const stepsOf = (pairs: number, o: IterateSettings): number =>
  o.maxSteps ??
  Math.ceil(Math.ceil(pairs / (o.perDeviceTrainBatchSize * o.gradientAccumulationSteps)) * o.numTrainEpochs);

const KL_RESPONSES = 256;

interface Iteration {
  iteration: number;
  prompts: readonly NumberedPrompt[];
  draws: IterationDraws;
  folder: string;
  model: RunFolder;
  /** Steps of the iterations before, and about how many those after it will have. */
  offset: number;
  left: number;
}

/** Sampling, scoring, pairing, training. Null when the signal stopped it. */
async function* oneIteration(
  inputs: Working,
  o: IterateSettings,
  { iteration, prompts, draws, folder, model, offset, left }: Iteration,
): AsyncGenerator<TrainEvent, { metrics: Record<string, number>; steps: number } | null> {
  const { policy, initial } = inputs;
  const { signal, folder: runFolder } = inputs.run;
  const { files } = runFolder;
  await draws.ask(iteration - 1, iteration);
  const rows = await draws.rows(iteration);
  const dropped: TrainEvent[] = [];
  await inputs.acting?.tell(async (event) => void dropped.push(event), offset);
  yield* dropped;
  if (!rows) return null;
  const scored = await scoreStage(files, `${folder}/rewards.jsonl`, inputs.judge, rows, {
    progress: (done: number, total: number) => inputs.run.progress?.(iteration, "scoring", done, total),
    signal,
  });
  if (!scored) return null;

  const byId = new Map(prompts.map((prompt) => [prompt.id, prompt]));
  const promptOf = (row: ScoredRow) => byId.get(row.id as number) as NumberedPrompt;
  const { pairs: found, counts } = findPairs(scored, o);
  const { pairs, left: text } = comparable(found);
  counts.pairs = pairs.length;
  if (text) yield { type: "warning", step: offset, text };
  await files.writeFile(`${folder}/pairs.jsonl`, pairLines(pairs));
  const { mean_length = 0, eos_rate = 0, ...rewards } = rewardStatistics(scored);
  const drawn = scored.filter(({ responses }) => responses.length > 0);
  const firsts = drawn.slice(0, KL_RESPONSES).map((row) => responseOf(promptOf(row), row, 0));
  const { gold } = inputs;
  const sampled: Record<string, number> = {
    mean_length,
    eos_rate,
    reward: rewards.mean_reward,
    reward_top1: rewards.top1_reward,
    ...(gold && {
      gold: average(scored.flatMap((row) => row.responses.map((_, k) => gold(responseOf(promptOf(row), row, k))))),
    }),
    kl: iteration === 1 ? 0 : await sampledKl(policy, initial, firsts),
    pairs: counts.pairs,
    ties: counts.tie,
    prompts: counts.total,
    ...(o.maxStaleness > 0 && { staleness: iteration - 1 - versionOf(iteration - 1, o) }),
    margin: average(pairs.map(({ margin }) => margin)),
    chosen_length: average(pairs.map(({ row, chosen }) => writtenTokens(row, chosen))),
    rejected_length: average(pairs.map(({ row, rejected }) => writtenTokens(row, rejected))),
  };

  const examples = pairs.map((pair) => exampleOf(promptOf(pair.row), pair));
  if (differing(examples).length === 0) {
    const text = `nothing is learned in iteration ${iteration}: ${describeCounts(counts)}`;
    yield { type: "warning", step: offset, text: pairs.length > 0 ? `${text}, all of a response with itself` : text };
    await saveModels(model, { "": policy });
    return { metrics: sampled, steps: 0 };
  }

  // The policy is still the model that the iteration starts from: as the reference "previous" it is at hand just now.
  const reference = o.reference === "previous" || iteration === 1 ? policy : initial;
  const train = await precomputeReference(reference, examples, { fp16: o.fp16 });
  const seed = uint32(o.seed, iteration, streamId("iterate"));
  let steps = 0;
  let ended = false;
  const settings = { ...dpo.pick(o), ...wholeIterations, precomputeRefLogProbs: true, seed };
  const own = { folder: model, resume: true, record: null, controls: inputs.run.controls, ...(signal && { signal }) };
  for await (const event of trainDpo({ policy }, train, settings, own)) {
    if (event.type === "step") {
      steps = event.step;
      const { step, maxSteps, epoch, metrics } = event;
      const all = offset + maxSteps + left;
      yield { ...event, step: offset + step, maxSteps: all, epoch, metrics: { iteration, ...metrics } };
    } else if (event.type === "checkpoint") {
      const name = `iteration_${iteration}/model/${event.name}`;
      yield { ...event, step: offset + event.step, name };
    } else if (event.type === "start") steps = event.step;
    else if (event.type === "end") ended = true;
    else if (event.type === "warning") yield { ...event, step: offset + event.step };
  }
  if (!ended) return null;
  const learned = await accuracyOn(policy, train, o);
  return { metrics: { ...sampled, ...learned }, steps };
}

/** How well the trained policy tells its pairs apart: the part it orders rightly, and its mean reward margin. */
async function accuracyOn(policy: CausalLM, pairs: readonly PairExample[], o: IterateSettings) {
  const running = new RunningMean();
  try {
    const objective = dpoObjective(null, o, running);
    const metrics = await evaluatePairs(policy, pairs, objective, o.perDeviceTrainBatchSize);
    return { accuracy: metrics["eval_rewards/accuracies"], reward_margin: metrics["eval_rewards/margins"] };
  } finally {
    running.destroy();
  }
}
