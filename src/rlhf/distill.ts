/**
 * On-policy distillation (Agarwal et al. 2024, arXiv 2306.13649; Gu et al. 2024, arXiv 2306.08543): a student writes responses, and
 * every token of them is learned from a teacher's whole distribution at its place, by a divergence that is 0 where both predict
 * alike. There is no reward and nothing to sample a gradient from: each step is one of supervised learning, on what the student
 * itself says. A part of the steps may learn from the data's answers or from the teacher's responses instead.
 *
 * Names are TRL's; its DistillationTrainer has the defaults, and its GKDTrainer those of the dialect "gkd". As there, the sampling
 * of responses has no gradient.
 */
import { type DropoutStep, withDropout } from "../nn/ambient.ts";
import type { CausalLM } from "../nn/models.ts";
import { AdamW } from "../nn/optimizer.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import { streamId, uint32, uniform } from "../runtime/rng.ts";
import { byDialect, group, type SettingsInput, settings, spelled } from "../settings/index.ts";
import { backward, noGrad, scope } from "../tensor/core.ts";
import { scale } from "../tensor/ops/elementwise.ts";
import { sum } from "../tensor/ops/reduce.ts";
import { aheadSettings, checkAhead, type Draws } from "./ahead.ts";
import { checkOrder, drawing, orderSettings } from "./any-order.ts";
import { pack, predictedTokens, predictions, type Sequence, scoringParts } from "./batch.ts";
import { cachedAs } from "./caching.ts";
import { dataEvents } from "./data-events.ts";
import type { TrainEvent } from "./events.ts";
import { inHalf } from "./half.ts";
import { inTurn } from "./in-turn.ts";
import { whole } from "./jobs.ts";
import { loop, type RunOptions, type TrainerSteps } from "./loop.ts";
import { type Owned, owning } from "./owned.ts";
import { PromptOrder, stepsOf } from "./prompts.ts";
import {
  fromPrompt,
  heldOutPrompts,
  lengthMetrics,
  type Prompt,
  type PromptData,
  policySampler,
  promptsOf,
  type Response,
  type Sampler,
  samplesOf,
  tokenizerOf,
} from "./sampler.ts";
import * as shared from "./settings.ts";
import type { RolloutSource } from "./source.ts";
import { adamOf, rateAt } from "./training.ts";
import { controlMetrics, readWatched, together, type Watched, watch, watchControl } from "./watch.ts";

const own = group("Distillation");
const { positive, probability, rollout } = shared;

/** Distillation's settings, by TRL's names. */
export const distill = settings(
  "distill",
  {
    dialect: own.choice(
      ["trl", "gkd"],
      "trl",
      "Defaults of TRL's DistillationTrainer, which is on the student's responses alone, or of its GKDTrainer",
    ),
    beta: own.float(
      byDialect({ trl: 1, gkd: 0.5 }),
      "The divergence: 1 is KL(student || teacher), 0 KL(teacher || student), between them the generalised Jensen-Shannon",
      probability,
    ),
    lmbda: own.float(
      byDialect({ trl: 1, gkd: 0.5 }),
      "Part of the steps that learn from the student's own responses; the others take the data's answers, or see seq_kd",
      probability,
    ),
    seqKd: own.bool(
      false,
      "Steps that are not the student's learn from the teacher's responses, not the data's answers",
      {
        effect: {
          on: ["lmbda"],
          holds: ({ lmbda }) => lmbda !== 1,
          words: (spell) => `with ${spell("lmbda")} 1, where every step is the student's`,
        },
      },
    ),
    tempered: own.bool(
      byDialect({ trl: true, gkd: false }),
      "The divergence is of the distributions at the sampling temperature, too",
    ),
    numTrainEpochs: rollout.float(null, "Passes over the prompts, where max_steps is not set", positive),
    maxSteps: rollout.int(null, "Optimizer steps; default: as num_train_epochs says, or 50", { min: 1 }),
    responseLength: rollout.int(64, "Longest response in tokens", {
      min: 1,
      aka: ["max_completion_length", "max_new_tokens"],
    }),
    ...shared.sampling,
    temperature: rollout.float(byDialect({ trl: 1, gkd: 0.9 }), "Divides logits before sampling", positive),
    ...shared.determinism,
    ...shared.caching,
    ...aheadSettings,
    ...orderSettings,
    disableDropout: shared.optim.bool(byDialect({ trl: false, gkd: true }), "Adapters do not drop out"),
    ...shared.optimiser(1e-6, "linear", 8),
    ...shared.half,
    ...shared.shown,
    ...shared.rolloutEvaluation,
    ...shared.common,
  },
  (o, name) => {
    checkAhead(o, name);
    checkOrder(o, name);
    if (o.lmbda === 1 || o.maxStaleness === 0) return;
    throw new UserError(
      `${name("lmbda")} ${o.lmbda} with ${name("maxStaleness")} ${o.maxStaleness}: steps without the student's responses ask nobody ` +
        `for any, so that nothing is drawn ahead: set ${name("lmbda")} to 1, or ${name("maxStaleness")} to 0`,
    );
  },
);

/** Distillation's settings, resolved. */
export type DistillSettings = ReturnType<typeof distill>;

/** The models of a run. */
export interface DistillModels {
  /** The student, trained in place. */
  policy: CausalLM;
  /** Whom it learns from. Its ids must mean what the student's mean; it is not trained. */
  teacher: CausalLM;
  /** Default: the policy's own. */
  tokenizer?: TextTokenizer | undefined;
  /** Draws the student's responses instead of the policy here: a server, other machines. */
  source?: RolloutSource | undefined;
  /** Draws them instead of a source, as a function that is called when a step begins. */
  sampler?: Sampler | undefined;
}

/** Whose words a step learns from. */
type Writer = "student" | "teacher" | "data";

/**
 * Trains the policy in place. Emits one step event per optimizer step.
 * @param data prompts; where steps learn from the data's answers, each with a `target`
 * @throws UserError for models and data that do not go together, and for a loss that is not finite
 */
export const trainDistill = (
  models: DistillModels,
  data: PromptData,
  chosen: SettingsInput<typeof distill.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> => owning((owned) => takeSteps(models, data, distill(chosen), run, owned));

const COIN = streamId("distill/whose");

/** Whose words a step learns from: a pure function of the seed and the step. */
function writerOf({ lmbda, seqKd, seed }: DistillSettings, step: number): Writer {
  if (uniform(seed, step, COIN) < lmbda) return "student";
  return seqKd ? "teacher" : "data";
}

async function* takeSteps(
  models: DistillModels,
  data: PromptData,
  o: DistillSettings,
  run: RunOptions,
  owned: Owned,
): AsyncGenerator<TrainEvent> {
  const { policy, teacher } = models;
  const tokenizer = tokenizerOf(models);
  checkTeacher(policy, teacher, tokenizer);
  const context = Math.min(policy.config.maxPositions, teacher.config.maxPositions);
  const given = await promptsOf(data, tokenizer, { context, response: o.responseLength });
  const { train: prompts } = given;
  const held = heldOutPrompts(given, o);
  checkAnswers(prompts, o);
  const perStep = o.perDeviceTrainBatchSize * o.gradientAccumulationSteps;
  const maxSteps = stepsOf(o, prompts.length, perStep);
  const order = new PromptOrder(prompts.length, o.seed);
  const choose = (step: number) => order.take(step * perStep, perStep);
  const drawsOf = (chosen: readonly number[], from: readonly Prompt[], iteration: number, seed: number): Draws => {
    const sampling = { ...shared.samplingParams(o), maxNewTokens: o.responseLength };
    const drawn = chosen.map((i) => from[i]);
    return { prompts: drawn, promptIds: chosen, options: { ...sampling, samples: 1, seed, iteration } };
  };
  const ask = (sampler: Sampler, { prompts, promptIds, options }: Draws) => sampler(prompts, promptIds, options);
  const upcoming = (step: number) => drawsOf(choose(step), prompts, step, o.seed);
  const ahead = drawing(models, { policy, tokenizer, maxSteps, measuredAt: null, upcoming }, o);
  owned.keep(inHalf(o.fp16, [policy, teacher]));
  owned.keep(cachedAs(o.kvCacheDtype, [policy, teacher]));
  policy.gradientCheckpointing = o.gradientCheckpointing;
  for (const model of [policy, teacher]) model.batchInvariant = o.deterministic;
  const optimizer = owned.keep(new AdamW(policy.store, adamOf(o)));
  const both = { policy, teacher };
  const writers: Record<Writer, (step: number) => Promise<Response[]>> = {
    student: (step) => ask(ahead.sampler, upcoming(step)),
    teacher: (step) => {
      const draws = drawsOf(choose(step), prompts, step, uint32(o.seed, streamId("distill/teacher")));
      const { eosIds } = policy.config; // it ends where the student would
      return ask(policySampler(teacher, tokenizer), { ...draws, options: { ...draws.options, eosIds } });
    },
    data: async (step) => choose(step).map((i) => answerTo(prompts[i], i, policy, tokenizer, o)),
  };
  const steps: TrainerSteps<{ writer: Writer; responses: Response[] }> = {
    stage: "distill",
    maxSteps,
    parameters: policy.store.count,
    kept: { "": { model: policy, optimizer } },
    state: ahead.state(),
    data: dataEvents(prompts, held),
    epoch: (done) => (done * perStep) / prompts.length,
    async prepare(step) {
      const writer = writerOf(o, step);
      return { writer, responses: await writers[writer](step) };
    },
    async step(step, { writer, responses }) {
      const rate = rateAt(o, maxSteps, step);
      const dropout = o.disableDropout ? null : { seed: o.seed, step };
      const learned = responses.filter((response) => predictedTokens(response) > 0);
      if (learned.length === 0) return { metrics: {}, tokens: 0, idle: "its answers have no token to learn" };
      const watched = scope(() => distillStep(both, optimizer, learned, rate, dropout, o));
      const [{ control }, ...passes] = await readWatched(watched);
      const sumOf = (name: string) => passes.reduce((total, numbers) => total + numbers[name][0], 0);
      const metrics: Record<string, number> = {
        loss: sumOf("loss"),
        entropy: sumOf("entropy"),
        ...(o.lmbda < 1 && { on_policy: Number(writer === "student") }),
        ...lengthMetrics(responses),
        ...ahead.metrics(),
        ...controlMetrics(control),
        learning_rate: rate,
      };
      return {
        metrics,
        tokens: responses.reduce((n, { ids }) => n + ids.length, 0),
        samples: samplesOf(responses, null, null, o.showSamples),
        idle: metrics.grad_norm === 0 ? "the student predicts what the teacher does" : undefined,
      };
    },
    finite: ["loss"],
    ...(held.length > 0 && {
      async evaluate() {
        const everyone = held.map((_, i) => i);
        const draws = drawsOf(everyone, held, 0, uint32(o.seed, streamId("evaluation")));
        const responses = await ask(policySampler(policy, tokenizer), draws);
        return { metrics: await evaluateDistill(both, responses, o) };
      },
      evaluateFirst: true,
    }),
    finished: () => ({ "": policy }),
    close: () => ahead.close(),
  };
  yield* loop(steps, o, run);
}

/** Throws `UserError` for a teacher that is the student, or that does not know the tokenizer's ids. */
function checkTeacher(policy: CausalLM, teacher: CausalLM, tokenizer: TextTokenizer): void {
  if (policy === teacher) throw new UserError("the teacher is the student itself: give another model");
  const { vocabSize } = teacher.config;
  if (tokenizer.vocabSize <= vocabSize) return;
  throw new UserError(
    `the teacher predicts ${vocabSize} ids and the tokenizer has ${tokenizer.vocabSize}: it must have the student's tokenizer`,
  );
}

/** Throws `UserError` where some steps learn from the data's answers, and a prompt has none. */
function checkAnswers(prompts: readonly Prompt[], o: DistillSettings): void {
  if (o.lmbda === 1 || o.seqKd) return;
  const bare = prompts.filter(({ target }) => target === undefined).length;
  if (bare === 0) return;
  const [lmbda, seqKd] = [spelled(o, "lmbda"), spelled(o, "seqKd")];
  throw new UserError(
    `${bare} of ${prompts.length} prompts have no answer, from which with ${lmbda} ${o.lmbda} some steps learn: set ${lmbda} to 1, let ` +
      `the teacher answer (${seqKd}), or name data with prompts and completions`,
  );
}

/** The answer that the data have, as the student would have written it: up to its end token, and no longer than it may be. */
function answerTo(
  prompt: Prompt,
  place: number,
  { config }: CausalLM,
  tokenizer: TextTokenizer,
  { responseLength }: DistillSettings,
): Response {
  const text = prompt.target as string;
  const spelt = [...tokenizer.encode(text, { continued: true }), ...config.eosIds.slice(0, 1)];
  const end = spelt.findIndex((id) => config.eosIds.includes(id));
  const ids = spelt.slice(0, Math.min(end < 0 ? spelt.length : end + 1, responseLength));
  const ended = end >= 0 && end < ids.length;
  const own = whole(prompt.ids, Uint32Array.from(ids));
  return { ...own, ...fromPrompt(prompt, text), prompt: place, sample: 0, ended };
}

interface Both {
  policy: CausalLM;
  teacher: CausalLM;
}

/** The divergence that the settings name. */
type DivergenceChoice = Pick<DistillSettings, "beta" | "tempered" | "temperature">;

const divergenceOf = ({ beta, tempered, temperature }: DivergenceChoice) => ({
  beta,
  temperature: tempered ? temperature : 1,
});

/** The sums over a few sequences' response tokens of the divergence, whose gradient is recorded, and of the student's entropy. */
function sums({ policy, teacher }: Both, sequences: readonly Sequence[], o: DivergenceChoice) {
  const { ids, packing, starts } = pack(sequences);
  const { rows } = predictions(sequences, starts);
  const found = policy.divergence(teacher, ids, packing, rows, divergenceOf(o));
  return { divergence: sum(found.divergence), entropy: noGrad(() => sum(found.entropy)) };
}

/** Enqueues one optimizer step; the loss is the mean over all response tokens of the step, whatever its passes. */
function distillStep(
  both: Both,
  optimizer: AdamW,
  sequences: readonly Sequence[],
  rate: number,
  dropout: DropoutStep | null,
  o: DivergenceChoice & Pick<DistillSettings, "perDeviceTrainBatchSize">,
): Watched {
  const { perDeviceTrainBatchSize: batch } = o;
  const share = 1 / sequences.reduce((n, one) => n + predictedTokens(one), 0);
  const passes = Array.from({ length: Math.ceil(sequences.length / batch) }, (_, pass) => {
    const part = sequences.slice(pass * batch, (pass + 1) * batch);
    const found = withDropout(dropout && { ...dropout, pass }, () => sums(both, part, o));
    const loss = scale(found.divergence, share);
    const watched = watch({ loss, entropy: noGrad(() => scale(found.entropy, share)) });
    backward(loss, optimizer.lossSeed());
    return watched;
  });
  optimizer.step(rate);
  return together<string>([watchControl(optimizer), ...passes]);
}

/** Mean divergence and entropy per token of responses, with how long they are. */
async function evaluateDistill(
  both: Both,
  responses: readonly Response[],
  o: DivergenceChoice,
): Promise<Record<string, number>> {
  const found = await inTurn(scoringParts(responses, both.policy), ([first, last]) =>
    readWatched(scope(() => noGrad(() => watch<string>(sums(both, responses.slice(first, last), o))))),
  );
  const tokens = responses.reduce((n, one) => n + predictedTokens(one), 0);
  const mean = (name: string) => found.flat().reduce((total, numbers) => total + numbers[name][0], 0) / tokens;
  const { mean_length, eos_rate } = lengthMetrics(responses);
  return {
    eval_loss: mean("divergence"),
    eval_entropy: mean("entropy"),
    eval_mean_length: mean_length,
    eval_eos_rate: eos_rate,
  };
}
