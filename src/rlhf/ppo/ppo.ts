/**
 * Proximal policy optimisation from a reward model, with four models: the actor is trained, the reference is the actor as
 * it started, the reward model scores whole responses, and the critic (a second copy of the reward model, score head
 * included) predicts what is still to come at every token.
 *
 * One iteration: sample responses; measure log-probabilities, reference log-probabilities, scores and values; shape
 * per-token rewards (score at the end, minus KL everywhere); estimate advantages; take optimizer steps on the clipped
 * losses, and on a supervised loss beside them where there are sequences to remember (ptx).
 *
 * The public implementations differ in details that change results; `dialect` picks one as a bundle. What was left out:
 * training the critic alone before the actor.
 */
import type { CausalLM, ScoreModel } from "../../nn/models.ts";
import { AdamW } from "../../nn/optimizer.ts";
import { UserError } from "../../runtime/errors.ts";
import { predictedTokens, type Sequence } from "../batch.ts";
import { begin, type Kept, type RunFolder, saveModels } from "../checkpoint.ts";
import type { TrainEvent } from "../events.ts";
import { PromptOrder } from "../prompts.ts";
import { type Prompt, responseValues } from "../rollout.ts";
import { adaptKlCoef, freshNormalizer } from "../stats.ts";
import { checkFinite, checkpoint, evalDue, now, orSaved, saveDue, stopping } from "../training.ts";
import { estimateAdvantages } from "./advantages.ts";
import { evaluateActor } from "./evaluate.ts";
import { withPublishedNames } from "./metrics.ts";
import { Offload, residentsOf } from "./offload.ts";
import { checkPpoOptions, type PpoOptions } from "./options.ts";
import { collectRollout, type RolloutInputs, type RolloutState } from "./rollout.ts";
import { updatePolicy, updateValue } from "./update.ts";

/**
 * The models and data of a run. The reference must not be trained with the actor: it is a copy, or the base that the
 * actor's adapter stands on. All four may stand on one base.
 */
export interface PpoInputs extends Omit<RolloutInputs, "sampler" | "within"> {
  reference: CausalLM;
  critic: ScoreModel;
  /** A second actor as it starts, to become the moving average of the first; needed for `emaBeta`. */
  average?: CausalLM;
  /** Supervised sequences that are learned beside the responses, unless `ptxCoef` is 0. */
  ptx?: readonly Sequence[];
  /** Held-out ones: evaluations measure how much of them is forgotten. */
  ptxEval?: readonly Sequence[];
  /** Held-out prompts, for `evalSteps`. */
  evalPrompts?: readonly Prompt[];
  run?: RunFolder;
  resume?: boolean;
}

/**
 * Trains the actor and the critic in place. Emits one step event per rollout. The run's folder holds the finished policy,
 * once more as `policy/` (PaddleNLP's name for it), the critic as `value/` and a moving average as `ema/`.
 */
export async function* trainPpo(inputs: PpoInputs, options: PpoOptions): AsyncGenerator<TrainEvent> {
  checkInputs(inputs, options);
  const { actor, critic, reference, reward, prompts, run } = inputs;
  const { maxSteps, promptsPerRollout: perRollout, criticWeightDecay: decay } = options;
  const average = options.emaBeta === null ? null : (inputs.average as CausalLM);
  const offload = new Offload(options.offload);
  const { within } = offload;
  await offload.add("reference", residentsOf(reference));
  await offload.add("reward", reward.residents ?? []);
  if (average) await offload.add("average", residentsOf(average));
  await offload.add("critic", residentsOf(critic));
  await offload.add("actor", residentsOf(actor));
  const policy = { model: actor, optimizer: await within(["actor"], async () => new AdamW(actor.store, options)) };
  await offload.add("actor optimizer", [policy.optimizer.resident]);
  const criticOptions = { ...options, weightDecay: decay ?? options.weightDecay };
  const value = {
    model: critic,
    optimizer: await within(["critic"], async () => new AdamW(critic.store, criticOptions)),
  };
  await offload.add("critic optimizer", [value.optimizer.resident]);
  const trainees: Record<string, Kept> = { policy, value, ...(average && { ema: { model: average } }) };
  const models = ["actor", "average", "critic"] as const;
  const everything = [...models, "actor optimizer", "critic optimizer"] as const;
  const close = () => {
    policy.optimizer.destroy();
    value.optimizer.destroy();
  };

  const restored = await within(inputs.resume ? everything : [], () => begin(run, inputs.resume, trainees));
  const first = restored?.step ?? 0;
  const state = (restored?.state as unknown as RolloutState) ?? {
    klCoef: options.klCoef,
    normalizer: freshNormalizer(),
  };
  const sampler = average && options.emaSamples ? { sampler: average } : {};
  const working = { ...inputs, ...sampler, within };
  const order = new PromptOrder(prompts.length, options.seed);
  const remembered = options.ptxCoef === 0 ? [] : (inputs.ptx ?? []).filter((s) => predictedTokens(s) > 0);
  const ptxOrder = new PromptOrder(remembered.length, options.seed);
  const evalPrompts = options.evalSteps > 0 ? (inputs.evalPrompts ?? []) : [];
  const save = run && ((done: number) => within(everything, () => checkpoint(run, done, trainees, { ...state })));
  const evaluate = (step: number) => evaluateActor({ ...inputs, within, evalPrompts }, step, options);
  yield { type: "start", stage: "ppo", step: first, maxSteps, parameters: actor.store.count };
  if (first === 0 && evalPrompts.length > 0) yield await evaluate(0);

  let last: Record<string, number> = {};
  for (let step = first; step < maxSteps; step++) {
    const started = now();
    const chosen = order.take(step * perRollout, perRollout);
    const place = { first, done: step, saveSteps: options.saveSteps };
    const rollout = await orSaved(collectRollout(working, chosen, step, state, options), save, place);
    const slots = rollout.rewards.map((r) => r.length);
    const values = await within(["critic"], () => responseValues(critic, rollout.responses, slots));
    const { experience, metrics: estimated } = estimateAdvantages(rollout, values, options);
    const count = remembered.length > 0 ? experience.length : 0;
    const beside = {
      ptx: ptxOrder.take(step * count, count).map((i) => remembered[i]),
      average,
      klCoef: state.klCoef,
    };
    const actorMetrics = await within(["actor", "average", "actor optimizer"], () =>
      updatePolicy(policy, experience, step, beside, options),
    );
    const criticMetrics = await within(["critic", "critic optimizer"], () =>
      updateValue(value, experience, step, options),
    );
    const skipped = actorMetrics.skipped_steps + criticMetrics.skipped_steps;
    const updated = { ...actorMetrics, ...criticMetrics, skipped_steps: skipped };
    if (options.targetKl !== null) {
      const n = experience.length;
      state.klCoef = adaptKlCoef(state.klCoef, rollout.metrics.kl, options.targetKl, n, options.klHorizon);
    }
    const done = step + 1;
    const metrics = withPublishedNames({ ...rollout.metrics, ...estimated, ...updated }, options.dialect);
    checkFinite(done, metrics, ["actor_loss", "critic_loss", "kl"]);
    last = metrics;
    const tokens = experience.reduce((n, e) => n + e.response.ids.length, 0);
    const epoch = (done * perRollout) / prompts.length;
    yield { type: "step", step: done, maxSteps, epoch, metrics, tokens, seconds: now() - started };
    if (options.showSamples > 0) yield { type: "samples", step: done, samples: rollout.samples };
    const stop = stopping(options);
    if (evalPrompts.length > 0 && (evalDue(options, done, maxSteps) || done === maxSteps)) {
      yield await evaluate(done);
    }
    if (save && (stop || saveDue(options, done))) yield await save(done);
    if (stop) return close();
  }
  if (run) {
    const finished = { "": actor, policy: actor, value: critic, ...(average && { ema: average }) };
    await within(models, () => saveModels(run, finished));
  }
  close();
  yield { type: "end", step: maxSteps, metrics: last };
}

function checkInputs({ prompts, ptx, average, evalPrompts }: PpoInputs, options: PpoOptions): void {
  checkPpoOptions(options);
  if (prompts.length === 0) throw new UserError("PPO needs at least one prompt");
  if (ptx && !ptx.some((sequence) => predictedTokens(sequence) > 0)) {
    throw new UserError("the ptx dataset has no token to learn: leave it out, or give prompts with completions");
  }
  if (options.emaBeta !== null && !average)
    throw new UserError("a moving average (emaBeta) needs a model to keep it in");
  if (options.evalSteps > 0 && !evalPrompts?.length) {
    throw new UserError("evaluation (evalSteps) needs held-out prompts: name a dataset for them, or leave it out");
  }
}
