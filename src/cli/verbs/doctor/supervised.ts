/** Rehearsals of the trainers that learn from given examples: one step of them as they are, and an evaluation. */
import { ScoreModel } from "../../../nn/models.ts";
import type { TrainEvent } from "../../../rlhf/events.ts";
import { trainPairwise } from "../../../rlhf/pairwise/train.ts";
import { trainCpo } from "../../../rlhf/preference/cpo.ts";
import { trainDpo } from "../../../rlhf/preference/dpo.ts";
import { trainKto } from "../../../rlhf/preference/kto.ts";
import { trainOrpo } from "../../../rlhf/preference/orpo.ts";
import { precomputeReference } from "../../../rlhf/preference/reference.ts";
import { trainReward } from "../../../rlhf/reward/reward.ts";
import { trainSft } from "../../../rlhf/sft.ts";
import { trainingDefaults } from "../../../rlhf/training.ts";
import { Cast, pairs, sequences } from "./cast.ts";
import type { MemoryPlan, Stage } from "./plan.ts";

/** A trainer to its end. */
export async function finish(events: AsyncGenerator<TrainEvent>): Promise<void> {
  for await (const _ of events);
}

/** One optimizer step on examples that `make` makes. Of several passes the second shows what more take. */
function oneStep<E>(plan: MemoryPlan, make: (n: number) => E[]) {
  const { batchSize, half, evalExamples } = plan;
  const accumulation = Math.min(2, plan.accumulation);
  const train = make(batchSize * accumulation);
  return { ...trainingDefaults, maxSteps: 1, batchSize, accumulation, fp16: half, train, eval: make(evalExamples) };
}

async function sft(plan: MemoryPlan): Promise<void> {
  const { policy } = new Cast(plan, "model");
  const whole = { ...plan, responseLength: plan.length };
  await finish(
    trainSft(
      policy,
      oneStep(plan, (n) => sequences(n, whole)),
    ),
  );
}

async function scorer(plan: MemoryPlan): Promise<void> {
  const { config, lora, format, checkpointing, stage } = plan;
  const base = lora ? new ScoreModel(config, "base model", format) : new ScoreModel(config, "model");
  base.gradientCheckpointing = checkpointing;
  const model = lora ? new ScoreModel({ base, lora }, "model") : base;
  model.scoring.type = stage === "cost" ? "cost" : "reward";
  await finish(
    trainReward(
      model,
      oneStep(plan, (n) => pairs(n, plan)),
    ),
  );
}

async function pairwise(plan: MemoryPlan): Promise<void> {
  const { policy } = new Cast(plan, "model");
  const questions = (n: number) =>
    pairs(n, plan).map(({ chosen, rejected }) => ({ orders: [chosen, rejected] as const, side: 0 as const }));
  await finish(trainPairwise(policy, { ...oneStep(plan, questions), answers: [0, 1] }));
}

/** A dataset has as many pairs at least as are measured together. */
const PAIRS = 64;

async function dpo(plan: MemoryPlan): Promise<void> {
  const cast = new Cast(plan, "policy");
  const { policy } = cast;
  const model = cast.reference();
  const own = (n: number) => pairs(n, plan);
  const options = { ...plan.dpo, ...oneStep(plan, own) };
  if (!plan.precompute) return finish(trainDpo({ policy, reference: model as typeof policy }, options));
  const measured = model ?? policy;
  measured.half = plan.half;
  const all = await precomputeReference(measured, own(Math.max(PAIRS, options.train.length, options.eval.length)));
  measured.half = false;
  const [train, held] = [options.train, options.eval].map(({ length }) => all.slice(0, length));
  await finish(trainDpo({ policy, reference: "precomputed" }, { ...options, train, eval: held }));
}

async function kto(plan: MemoryPlan): Promise<void> {
  const cast = new Cast(plan, "policy");
  const answers = (n: number) => sequences(n, plan).map((s, i) => ({ ...s, label: i % 2 === 0 }));
  const inputs = { policy: cast.policy, reference: cast.reference() as typeof cast.policy };
  await finish(trainKto(inputs, { ...oneStep(plan, answers), maxLength: plan.length }));
}

async function orpo(plan: MemoryPlan): Promise<void> {
  await finish(
    trainOrpo(
      new Cast(plan, "policy").policy,
      oneStep(plan, (n) => pairs(n, plan)),
    ),
  );
}

async function cpo(plan: MemoryPlan): Promise<void> {
  await finish(
    trainCpo(
      new Cast(plan, "policy").policy,
      oneStep(plan, (n) => pairs(n, plan)),
    ),
  );
}

export const supervised = {
  sft,
  reward: scorer,
  cost: scorer,
  pairwise,
  dpo,
  kto,
  orpo,
  cpo,
} satisfies Partial<Record<Stage, (plan: MemoryPlan) => Promise<void>>>;
