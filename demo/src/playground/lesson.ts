/**
 * One run as the page shows it: a reward model learns from preferences, then the policy learns from the reward model.
 * Every stage is one of the library's trainers; this file only wires them together.
 */
import { type Files, memoryFiles } from "webrlhf";
import {
  bayesAccuracy,
  goldReward,
  preferenceExample,
  type Tokenizer,
  worldPreferences,
  worldPrompts,
} from "webrlhf/data";
import { loadCausalLM, loadScoreModel, type Model, type ScoreModel } from "webrlhf/nn";
import {
  evaluatePolicy,
  modelReward,
  ppo,
  type Response,
  raft,
  reward as rewardSettings,
  type Sample,
  type TrainEvent,
  trainPpo,
  trainRaft,
  trainReward,
} from "webrlhf/rlhf";
import type { Start } from "../lib/lesson/types.ts";
import { promptsOf, readTokenizer } from "../lib/lesson/work.ts";
import { changesOf } from "./paired.ts";
import type { Knobs, Reply, Stage } from "./protocol.ts";

export type LessonReply =
  | Extract<Reply, { type: "event" | "samples" }>
  /** Said before a stage's work begins. */
  | { type: "enter"; stage: Stage };

/** Response tokens at most: the longest stories of the world are shorter. */
const RESPONSE_LENGTH = 32;
const SHOWN_PROMPTS = 4;
/** Held-out prompts: a verdict on fewer would be one on noise. */
const HELD_OUT_PROMPTS = 64;
/** Policy steps between two looks at the held-out prompts. */
const SAMPLE_EVERY = 4;
/** Steps between two states that a run can go on from. */
const SAVE_EVERY = 4;
/** RAFT keeps the best of so many responses to a prompt. */
const RAFT_SAMPLES = 8;
const TRAIN_PROMPTS = 4096;

/**
 * Runs until the end, or until the first step's end after `signal` fires; frees its models either way.
 * @param made what this run saves. With what an earlier one saved that lost its device, a run goes on from there.
 */
export async function* lesson(
  start: Start,
  knobs: Knobs,
  signal: AbortSignal,
  made: Files = memoryFiles(),
): AsyncGenerator<LessonReply> {
  const { files, folder } = start;
  const { seed } = knobs;
  const models: Model[] = [];
  const keep = <M extends Model>(model: M): M => {
    models.push(model);
    return model;
  };
  try {
    const tokenizer = await readTokenizer(start);
    const policy = keep(await loadCausalLM(files, folder, "policy"));
    const reference = keep(await loadCausalLM(files, folder, "reference"));
    tokenizer.checkFits(policy.config.vocabSize);
    const parameters = policy.store.count;
    yield { type: "event", stage: "load", event: { type: "start", stage: "load", step: 0, maxSteps: 0, parameters } };

    const scorer = keep(await loadScoreModel(files, folder, "reward model", seed));
    yield* during("reward", rewardRun(scorer, tokenizer, knobs, made, signal), signal);
    if (signal.aborted) return;

    const reward = modelReward(scorer);
    const gold = (r: Response) => goldReward(r.promptText, r.text);
    const heldOut = promptsOf(worldPrompts(HELD_OUT_PROMPTS, seed, "test"), tokenizer);
    let first: Sample[] = [];
    const look = async function* (stage: "before" | "after", step: number): AsyncGenerator<LessonReply> {
      yield { type: "enter", stage };
      const inputs = { policy, tokenizer, prompts: heldOut, reward, reference, gold };
      const options = { seed, responseLength: RESPONSE_LENGTH, showSamples: heldOut.length };
      const { metrics, samples } = await evaluatePolicy(inputs, options);
      if (stage === "before") first = samples;
      const changes = stage === "after" ? changesOf(first, samples) : {};
      yield { type: "event", stage, event: evaluation(step, { ...metrics, ...changes }) };
      yield { type: "samples", when: stage, step, samples: samples.slice(0, SHOWN_PROMPTS) };
    };
    yield* look("before", 0);
    if (signal.aborted) return;

    const critic = knobs.algorithm === "ppo" ? keep(await loadScoreModel(made, "reward", "critic")) : null;
    const prompts = promptsOf(worldPrompts(TRAIN_PROMPTS, seed, "train"), tokenizer);
    const shared = { policy, reference, rewards: reward, tokenizer, gold };
    const policyRun = critic
      ? trainPpo({ ...shared, critic }, prompts, ppoSettings(knobs), kept(made, "policy", signal))
      : trainRaft(shared, prompts, raftSettings(knobs), kept(made, "policy", signal));
    for await (const reply of during("policy", policyRun, signal)) {
      yield reply;
      if (signal.aborted || reply.type !== "event" || reply.event.type !== "step") continue;
      const { step, maxSteps } = reply.event;
      if (step % SAMPLE_EVERY !== 0 || step === maxSteps) continue;
      yield* look("after", step);
      yield { type: "enter", stage: "policy" };
    }
    if (signal.aborted) return;
    yield* look("after", knobs.steps);
  } finally {
    for (const model of models) model.destroy();
  }
}

/** A trainer's folder: it goes on from what lies there. */
const kept = (files: Files, path: string, signal: AbortSignal) => ({
  folder: { files, path },
  resume: true,
  signal,
});

const evaluation = (step: number, metrics: Record<string, number>): TrainEvent => ({ type: "eval", step, metrics });

async function* during(stage: Stage, trainer: AsyncGenerator<TrainEvent>, signal: AbortSignal) {
  const enter: LessonReply = { type: "enter", stage };
  yield enter;
  // Not left early: a trainer that is asked to stop finishes its step and gives its memory back.
  for await (const event of trainer) {
    if (event.type === "checkpoint") continue; // of no interest to whoever looks on
    const reply: LessonReply = { type: "event", stage, event };
    if (!signal.aborted) yield reply;
  }
}

/** Trains the reward model on noisy preferences; announces first how good a judge could be. */
async function* rewardRun(
  model: ScoreModel,
  tokenizer: Tokenizer,
  { seed, rewardPairs }: Knobs,
  files: Files,
  signal: AbortSignal,
): AsyncGenerator<TrainEvent> {
  const maxLength = model.config.maxPositions;
  const test = worldPreferences(Math.min(128, Math.max(32, rewardPairs / 8)), seed, { split: "test" });
  const examples = (records: typeof test) => records.map((r) => preferenceExample(r, tokenizer, { maxLength }));
  yield evaluation(0, { noise_ceiling: bayesAccuracy(test) });
  const data = { train: examples(worldPreferences(rewardPairs, seed)), eval: examples(test) };
  const settings = rewardSettings({
    numTrainEpochs: 1,
    perDeviceTrainBatchSize: 8,
    learningRate: 2e-3,
    lrSchedulerType: "cosine",
    warmupSteps: 0.1,
    adamBeta2: 0.98,
    weightDecay: 0.1,
    saveSteps: SAVE_EVERY,
    seed,
  });
  yield* trainReward({ model }, data, settings, kept(files, "reward", signal)); // PPO's critic starts from it
}

const ppoSettings = ({ seed, klCoef, learningRate, rolloutSize, steps }: Knobs) =>
  ppo({
    seed,
    klCoef,
    learningRate,
    criticLearningRate: learningRate,
    rolloutBatchSize: rolloutSize,
    perDeviceTrainBatchSize: Math.ceil(rolloutSize / 4), // four optimizer steps on each rollout
    maxSteps: steps,
    responseLength: RESPONSE_LENGTH,
    showSamples: 0,
    saveSteps: SAVE_EVERY,
  });

function raftSettings({ seed, learningRate, rolloutSize, steps }: Knobs) {
  const kept = Math.max(1, Math.round(rolloutSize / RAFT_SAMPLES));
  return raft({
    seed,
    learningRate,
    raftBatchSize: kept,
    topRewardPercentage: 1 / RAFT_SAMPLES,
    perDeviceTrainBatchSize: Math.ceil(kept / 2),
    numTrainEpochs: 3,
    maxSteps: steps,
    responseLength: RESPONSE_LENGTH,
    temperature: 0.85,
    dialect: "corrected", // LMFlow's own takes the space away that every story begins with
    maskPrompt: true,
    appendEos: true,
    showSamples: 0,
    saveSteps: SAVE_EVERY,
  });
}
