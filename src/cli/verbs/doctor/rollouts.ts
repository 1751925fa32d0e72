/**
 * Rehearsals of the trainers that sample: responses are drawn and measured, learned, and drawn once more beside what
 * learning has left. A rehearsal draws nothing, so that the responses are made up, as long as they may be.
 */
import type { CausalLM, ScoreModel } from "../../../nn/models.ts";
import { AdamW } from "../../../nn/optimizer.ts";
import { criticFreeDefaults } from "../../../rlhf/critic-free/train.ts";
import { learn } from "../../../rlhf/critic-free/update.ts";
import { RunningMean } from "../../../rlhf/losses/running.ts";
import type { Experience } from "../../../rlhf/ppo/advantages.ts";
import { allResident, Offload, residentsOf, type Within } from "../../../rlhf/ppo/offload.ts";
import { ppoDefaults } from "../../../rlhf/ppo/options.ts";
import { updatePolicy, updateValue } from "../../../rlhf/ppo/update.ts";
import { dpoDefaults, dpoObjective, trainDpo } from "../../../rlhf/preference/dpo.ts";
import { evaluatePairs } from "../../../rlhf/preference/pair-trainer.ts";
import { precomputeReference } from "../../../rlhf/preference/reference.ts";
import { scoreSequences } from "../../../rlhf/reward/scores.ts";
import { type Response, responseLogProbs, responseValues, sampleResponses } from "../../../rlhf/rollout.ts";
import { sftStep } from "../../../rlhf/sft.ts";
import { trainingDefaults } from "../../../rlhf/training.ts";
import { scope } from "../../../tensor/core.ts";
import { Cast, pairs, sequences } from "./cast.ts";
import type { MemoryPlan, Stage } from "./plan.ts";
import { finish } from "./supervised.ts";

interface Players {
  /** Whoever is trained. */
  actor: CausalLM;
  sampler?: CausalLM;
  reference: CausalLM | null;
  judges: readonly ScoreModel[];
  within?: Within;
}

const silent = { decode: () => "" } as unknown as Parameters<typeof sampleResponses>[1];

const responsesTo = (prompts: number, samples: number, plan: MemoryPlan): Response[] =>
  sequences(prompts * samples, plan).map((s, i) => {
    return { ...s, prompt: Math.floor(i / samples), sample: i % samples, promptText: "", text: "", ended: true };
  });

/** Samples and measures the responses of one rollout. */
async function rollout(plan: MemoryPlan, players: Players): Promise<Response[]> {
  const { actor, sampler = actor, reference, judges, within = allResident } = players;
  const { prompts, samples } = plan;
  const responses = responsesTo(prompts, samples, plan);
  await within(["actor", "average", "reference"], async () => {
    await sample(sampler, plan, prompts, samples);
    await responseLogProbs(actor, responses);
    if (reference) await responseLogProbs(reference, responses);
  });
  await within(["reward"], async () => {
    for (const judge of judges) await scoreSequences(judge, responses);
  });
  return responses;
}

async function sample(policy: CausalLM, plan: MemoryPlan, prompts: number, samples: number): Promise<void> {
  const ids = new Uint32Array(Math.max(1, plan.length - plan.responseLength));
  const given = Array.from({ length: prompts }, () => ({ text: "", ids }));
  const sampling = { maxNewTokens: plan.responseLength, samples, temperature: 1, seed: 0, iteration: 0 };
  await sampleResponses(policy, silent, given, new Uint32Array(prompts), sampling);
}

/** One response to each held-out prompt, and its score. */
async function evaluation(plan: MemoryPlan, { actor, judges, within = allResident }: Players): Promise<void> {
  if (plan.evalExamples === 0) return;
  await within(["actor"], () => sample(actor, plan, plan.evalExamples, 1));
  await within(["reward"], async () => {
    for (const judge of judges) await scoreSequences(judge, responsesTo(plan.evalExamples, 1, plan));
  });
}

/** A whole micro-batch, and the last one of a pass, which may be short and takes buffers of other sizes. */
function microBatches<T>(all: readonly T[], { batchSize }: MemoryPlan): T[][] {
  const sizes = new Set([Math.min(batchSize, all.length), all.length % batchSize || batchSize]);
  return [...sizes].map((size) => all.slice(0, size));
}

/** Models leave the GPU and come back in the order in which the verb and its trainer make them. */
async function ppo(plan: MemoryPlan): Promise<void> {
  const { ptxLength, config } = plan;
  const cast = new Cast(plan, "actor");
  const { policy: actor } = cast;
  const average = plan.average ? cast.another("moving average") : null;
  const reference = cast.reference() as CausalLM;
  const judges = cast.rewardModels();
  const waits = (level: (typeof plan.offload)[number]) => plan.offload.includes(level) && !actor.baseModel;
  if (waits("freeze_model")) await reference.store.resident.evict();
  if (waits("train_model")) for (const model of [actor, average]) await model?.store.resident.evict();
  const critic = cast.critic();

  const offload = new Offload(plan.offload);
  const { within } = offload;
  await offload.add("reference", residentsOf(reference));
  await offload.add("reward", judges.flatMap(residentsOf));
  if (average) await offload.add("average", residentsOf(average));
  await offload.add("critic", residentsOf(critic));
  await offload.add("actor", residentsOf(actor));
  const optimizer = await within(["actor"], async () => new AdamW(actor.store));
  await offload.add("actor optimizer", [optimizer.resident]);
  const criticOptimizer = await within(["critic"], async () => new AdamW(critic.store));
  await offload.add("critic optimizer", [criticOptimizer.resident]);

  const players = { actor, reference, judges, within, ...(average && { sampler: average }) };
  await evaluation(plan, players);
  const responses = await rollout(plan, players);
  await within(["critic"], () => responseValues(critic, responses));
  const zeros = new Float32Array(plan.responseLength);
  const parts = microBatches(responses, plan).map((part) =>
    part.map((response): Experience => {
      return { response, logProbs: zeros, values: zeros, advantages: zeros, returns: zeros };
    }),
  );
  const options = { ...ppoDefaults(), batchSize: plan.batchSize, emaBeta: average ? 0.9 : null };
  await within(["actor", "average", "actor optimizer"], async () => {
    for (const part of parts) {
      const ptx = ptxLength > 0 ? sequences(part.length, { config, length: ptxLength, responseLength: ptxLength }) : [];
      await updatePolicy({ model: actor, optimizer }, part, 0, { ptx, average, klCoef: 0 }, options);
    }
  });
  await within(["critic", "critic optimizer"], async () => {
    for (const part of parts) await updateValue({ model: critic, optimizer: criticOptimizer }, part, 0, options);
  });
  await evaluation(plan, players);
  await rollout(plan, players);
}

async function raft(plan: MemoryPlan): Promise<void> {
  const cast = new Cast(plan, "model");
  const { policy: actor } = cast;
  const players = { actor, reference: cast.reference(), judges: cast.rewardModels() };
  const optimizer = new AdamW(actor.store);
  const kept = (await rollout(plan, players)).slice(0, plan.prompts); // one of each prompt
  for (const part of microBatches(kept, plan)) {
    const whole = part.map((s) => ({ ...s, promptLength: 0 })); // prompts are learned, too, unless they are masked
    const { watch } = scope(() => sftStep(actor, optimizer, [whole], 0, { seed: 0, step: 0 }));
    await watch.read();
    watch.free("the rehearsal");
  }
  await rollout(plan, players);
}

/** GRPO, RLOO and REINFORCE++: their losses differ in nothing that takes memory. */
async function criticFree(plan: MemoryPlan): Promise<void> {
  const cast = new Cast(plan, "actor");
  const { policy: actor } = cast;
  const players = { actor, reference: cast.reference(), judges: cast.rewardModels() };
  const optimizer = new AdamW(actor.store);
  const zeros = new Float32Array(plan.responseLength);
  const options = { ...criticFreeDefaults, batchSize: plan.batchSize };
  const loss = {
    level: "token",
    epsilon: 0.2,
    epsilonHigh: 0.2,
    delta: null,
    cispo: false,
    beta: plan.reference === null ? 0 : 0.1,
    unbiasedKl: true,
  } as const;
  for (const part of microBatches(await rollout(plan, players), plan)) {
    const lessons = part.map((response) => {
      return { response, logProbs: zeros, refLogProbs: zeros, advantages: zeros };
    });
    await learn({ model: actor, optimizer }, lessons, 0, options, { loss, averaging: "dapo" });
  }
  await rollout(plan, players);
}

/** Two iterations' sampling, and between them DPO on one pair of each prompt, with an optimizer of its own. */
async function iterate(plan: MemoryPlan): Promise<void> {
  const { batchSize, half, prompts } = plan;
  const cast = new Cast(plan, "policy");
  const { policy } = cast;
  const reference = cast.reference() as CausalLM;
  const players = { actor: policy, reference, judges: cast.rewardModels() };
  await evaluation(plan, players);
  await rollout(plan, players);
  const made = microBatches(pairs(prompts, plan), plan).flat();
  const train = await precomputeReference(policy, made);
  const settings = { ...trainingDefaults, ...plan.dpo, epochs: 1, batchSize, fp16: half };
  await finish(trainDpo({ policy, reference: "precomputed" }, { ...settings, train }));
  const running = new RunningMean();
  await evaluatePairs(policy, train, dpoObjective(null, { ...dpoDefaults, ...plan.dpo }, running), batchSize);
  running.destroy();
  await evaluation(plan, players);
  await rollout(plan, players);
}

export const rollouts = {
  ppo,
  raft,
  grpo: criticFree,
  rloo: criticFree,
  reinforce: criticFree,
  iterate,
} satisfies Partial<Record<Stage, (plan: MemoryPlan) => Promise<void>>>;
