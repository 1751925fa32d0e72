/** Whole steps of the library's own trainers. */
import { CausalLM } from "../../nn/models.ts";
import { dpo, trainDpo } from "../../rlhf/dpo.ts";
import type { TrainEvent } from "../../rlhf/events.ts";
import { grpo, trainGrpo } from "../../rlhf/grpo.ts";
import type { PairExample } from "../../rlhf/pairs.ts";
import { ppo, trainPpo } from "../../rlhf/ppo.ts";
import { sft, trainSft } from "../../rlhf/sft.ts";
import type { DayContext, DayItem } from "../item.ts";
import { idTokenizer, tokensOf } from "../made-up.ts";
import type { DayModel } from "../models.ts";
import { Budget } from "../pace.ts";

interface Case {
  name: string;
  half?: boolean;
  trainer(model: DayModel): { events: AsyncGenerator<TrainEvent>; free(): void; tokens: number };
}

/** Steps that compile kernels and fill pools. */
const WARM = 2;
/** Steps that are timed at most. */
const MOST = 50;
const optimiser = { learningRate: 1e-5, saveMinutes: 0, maxSteps: WARM + MOST } as const;
const lora = { rank: 16, alpha: 32, targets: "all-linear" } as const;

function policyOf(model: DayModel, adapted = false): { policy: CausalLM; free(): void } {
  const base = new CausalLM(model.config, "the day's model").initialize(1);
  if (!adapted) return { policy: base, free: () => base.destroy() };
  const policy = new CausalLM({ base, lora }, "the day's adapter").initialize(2).withBase(base);
  return { policy, free: () => policy.destroy() };
}

const supervised =
  (fp16: boolean, adapted: boolean, short = false) =>
  (model: DayModel) => {
    const [sequences, tokens] = model.batch;
    const length = short ? Math.max(2, Math.floor(tokens / 8)) : tokens;
    const { policy, free } = policyOf(model, adapted);
    const examples = Array.from({ length: sequences }, (_, s) => ({
      ids: tokensOf(model, length, s),
      promptLength: 1,
    }));
    const settings = sft({ ...optimiser, perDeviceTrainBatchSize: sequences, fp16, maxLength: length });
    return { events: trainSft({ policy }, { train: examples, eval: [] }, settings), free, tokens: sequences * length };
  };

const preferences = (model: DayModel) => {
  const [sequences, tokens] = model.batch;
  const length = Math.max(4, Math.floor(tokens / 4));
  const { policy, free } = policyOf(model);
  const pairs = Array.from({ length: sequences }, (_, s): PairExample => {
    const [chosen, rejected] = [tokensOf(model, length, s), tokensOf(model, length, s + sequences)];
    rejected.set(chosen.subarray(0, 2));
    return { chosen, rejected, promptLength: 2 };
  });
  const settings = dpo({ ...optimiser, perDeviceTrainBatchSize: sequences, maxLength: length });
  return { events: trainDpo({ policy }, { train: pairs, eval: [] }, settings), free, tokens: 2 * sequences * length };
};

/** Prompts of the made-up tokenizer, a reward that differs between responses, and the sizes of a rollout. */
function rollouts(model: DayModel) {
  const [count] = model.batch;
  const tokenizer = idTokenizer(model);
  const prompts = Array.from({ length: count }, (_, s) => {
    const ids = tokensOf(model, model.prompt, s);
    return { ids, text: tokenizer.decode(ids) };
  });
  const rewards = (answers: readonly { ids: Uint32Array; promptLength: number }[]) =>
    answers.map(({ ids, promptLength }) => (ids[promptLength] % 16) / 16);
  return { count, tokenizer, prompts: { train: prompts, eval: [] }, rewards };
}

const proximal = (fp16: boolean) => (model: DayModel) => {
  const { count, tokenizer, prompts, rewards } = rollouts(model);
  const { policy, free } = policyOf(model);
  const sizes = { rolloutBatchSize: 4 * count, perDeviceTrainBatchSize: count, responseLength: model.response };
  const settings = ppo({ ...optimiser, ...sizes, fp16 });
  const events = trainPpo({ policy, rewards, tokenizer }, prompts, settings);
  return { events, free, tokens: 4 * count * (model.prompt + model.response) };
};

const grouped = (model: DayModel) => {
  const { count, tokenizer, prompts, rewards } = rollouts(model);
  const { policy, free } = policyOf(model);
  const sizes = { numGenerations: 4, generationBatchSize: 4 * count, perDeviceTrainBatchSize: count };
  const settings = grpo({ ...optimiser, ...sizes, responseLength: model.response });
  const events = trainGrpo({ policy, rewards, tokenizer }, prompts, settings);
  return { events, free, tokens: 4 * count * (model.prompt + model.response) };
};

const cases: Case[] = [
  { name: "SFT", trainer: supervised(false, false) },
  { name: "SFT in half precision", half: true, trainer: supervised(true, false) },
  { name: "SFT of an eighth of the length", trainer: supervised(false, false, true) },
  { name: "LoRA", trainer: supervised(false, true) },
  { name: "LoRA in half precision", half: true, trainer: supervised(true, true) },
  { name: "DPO", trainer: preferences },
  { name: "PPO", trainer: proximal(false) },
  { name: "PPO in half precision", half: true, trainer: proximal(true) },
  { name: "GRPO", trainer: grouped },
];

export const train: DayItem = {
  name: "train",
  summary: "whole steps of SFT, LoRA, DPO, PPO and GRPO",
  share: 80,
  async run({ caps, model, seconds, tell }: DayContext) {
    const budget = new Budget(seconds);
    const able = cases.filter(({ half }) => !half || caps.f16);
    for (const [at, { name, trainer }] of able.entries()) {
      const until = budget.left - budget.shareOf(able.length - at);
      const { events, free, tokens } = trainer(model);
      // Steps are read in bursts, so that the time of one says little: that of all but the first, which compiles, says it.
      let [steps, first, last] = [0, 0, 0];
      try {
        for await (const event of events) {
          if (event.type !== "step") continue;
          last = performance.now() / 1000;
          steps += 1;
          if (steps === WARM) first = last;
          if (steps > WARM && (budget.left < until || steps >= WARM + MOST)) break;
        }
      } finally {
        free();
      }
      if (steps <= WARM) continue;
      const seconds = (last - first) / (steps - WARM);
      const [sequences] = model.batch;
      tell({
        what: `${name}, ${tokens} tokens of ${sequences} sequences or prompts`,
        unit: "tokens/s",
        value: tokens / seconds,
        samples: steps - WARM,
        how: `${(seconds * 1e3).toFixed(1)} ms a step`,
      });
    }
  },
};
