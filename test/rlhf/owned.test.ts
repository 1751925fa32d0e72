/** Memory of runs that end before their time: whoever leaves a trainer's loop gets everything back. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { memoryFiles, stats } from "webrlhf";
import { CausalLM, ScoreModel } from "webrlhf/nn";
import {
  PairWriter,
  questionExample,
  sideOf,
  type TrainEvent,
  trainCpo,
  trainDistill,
  trainDpo,
  trainGate,
  trainGrpo,
  trainIteratively,
  trainKto,
  trainOrpo,
  trainPairwise,
  trainPpo,
  trainRaft,
  trainReward,
  trainSft,
} from "webrlhf/rlhf";
import { trim } from "../../src/gpu/stream.ts";
import { gpuReady } from "../helpers.ts";
import { domains } from "./multi-objective/domains.ts";
import { pairs, prompts, sequences, tinyConfig, tokenizer } from "./tiny.ts";

let policy: CausalLM;
let model: ScoreModel;
let teacher: CausalLM;
let judged: ReturnType<typeof domains>;
beforeAll(async () => {
  await gpuReady();
  policy = new CausalLM(tinyConfig()).initialize(1);
  teacher = new CausalLM(tinyConfig()).initialize(3);
  model = new ScoreModel(tinyConfig()).initialize(2);
  judged = domains(8);
});
afterAll(() => {
  policy.destroy();
  model.destroy();
  teacher.destroy();
  judged.head.destroy();
});

const rewards = async (responses: readonly unknown[]) => responses.map((_, i) => i);
const steps = { maxSteps: 3, perDeviceTrainBatchSize: 2, learningRate: 1e-6 };
const sampled = { ...steps, responseLength: 4 };
const data = { train: prompts(4) };
const models = () => ({ policy, rewards, tokenizer });
const labelled = () => sequences(8).map((sequence, i) => ({ ...sequence, label: i % 2 === 0 }));

/** Trainers that make their reference, their critic and their moving average themselves. */
const trainers: Record<string, (more?: object) => AsyncGenerator<TrainEvent>> = {
  sft: () => trainSft({ policy }, sequences(8), steps),
  reward: () => trainReward({ model }, pairs(8), { ...steps, normalizerType: "RunningMeanStd" }),
  dpo: () => trainDpo({ policy }, pairs(8), { ...steps, lossType: ["bco_pair"] }),
  kto: () => trainKto({ policy }, labelled(), steps),
  ppo: (more) => trainPpo({ ...models(), ...more }, data, { ...sampled, rolloutBatchSize: 4, emaBeta: 0.9 }),
  grpo: (more) =>
    trainGrpo({ ...models(), ...more }, data, { ...sampled, numGenerations: 2, generationBatchSize: 4, beta: 0.1 }),
  raft: (more) => trainRaft({ ...models(), ...more }, data, { ...sampled, raftBatchSize: 2, topRewardPercentage: 0.5 }),
  distill: (more) => {
    const { rewards: _, ...own } = { ...models(), ...more };
    return trainDistill({ ...own, teacher }, data, sampled);
  },
  orpo: () => trainOrpo({ policy }, pairs(8), steps),
  cpo: () => trainCpo({ policy }, pairs(8), steps),
  pairwise: () => {
    const writer = new PairWriter(tokenizer);
    const answers = { context: "Today", chosen: " Tim ran.", rejected: " Tim sat." };
    const train = Array.from({ length: 8 }, (_, i) => questionExample(writer, answers, sideOf(7, i)));
    return trainPairwise({ policy, writer }, { train, eval: train }, { ...steps, evalSteps: 1 });
  },
  "multi-objective": () => {
    const { head, pairs } = judged;
    return trainGate({ head }, pairs, { maxSteps: 3, perDeviceTrainBatchSize: 4, evalSteps: 1 });
  },
  iterate: (more) =>
    trainIteratively(
      { ...models(), ...more },
      { train: prompts(8), eval: prompts(2) },
      { ...sampled, iterations: 2, promptsPerIteration: 4, numGenerations: 3, reference: "previous", maxSteps: 1 },
      { folder: { files: memoryFiles(), path: "out" } },
    ),
};

/** Bytes on the device. */
const held = (): number => {
  trim();
  return stats().poolBytes;
};

/** Takes so many events and then leaves. */
async function leaveAfter(events: AsyncGenerator<TrainEvent>, most: number): Promise<void> {
  if (most === 0) {
    await events.return(undefined);
    return;
  }
  for await (const _ of events) if (--most === 0) break;
}

async function fail(events: AsyncGenerator<TrainEvent>): Promise<void> {
  for await (const event of events) if (event.type === "step") throw new Error("mine");
}

describe("a run that ends before its time", () => {
  it.each(Object.keys(trainers))("gives its memory back: %s", async (name) => {
    const start = trainers[name];
    await leaveAfter(start(), Infinity); // what is made once is made
    const before = held();
    for (const most of [0, 1, 2, 3, 2]) {
      await leaveAfter(start(), most);
      expect(held(), `after ${most} events`).toBe(before);
    }
    await expect(fail(start())).rejects.toThrow("mine");
    expect(held(), "after the consumer's error").toBe(before);
  });

  it.each(["ppo", "grpo", "raft", "iterate"])("gives its memory back where it fails by itself: %s", async (name) => {
    await leaveAfter(trainers[name](), Infinity);
    const before = held();
    const badReward = { rewards: () => Promise.reject(new Error("no rewards today")) };
    await expect(leaveAfter(trainers[name](badReward), 9)).rejects.toThrow("no rewards today");
    expect(held(), "in its first step").toBe(before);
    const wrong = { rewards: {} };
    await expect(leaveAfter(trainers[name](wrong), 9)).rejects.toThrow();
    expect(held(), "before its first step").toBe(before);
  });
});
