/** The playground's work: a judge, then one method, or all of them one after the other on an equal budget of generated tokens. */
import type { Tokenizer } from "webrlhf/data";
import { loadCausalLM, type ScoreModel } from "webrlhf/nn";
import { bestOfKl, modelReward, type Prompt, type Sample, sampleResponses, type TrainEvent } from "webrlhf/rlhf";
import { bestOf } from "../lessons/best-of-n/best.ts";
import { criticFrom, trainJudge } from "../lib/lesson/judge.ts";
import type { LessonEvent, Program, ProgramContext } from "../lib/lesson/types.ts";
import {
  changes,
  heldOutPrompts,
  kept,
  type Look,
  look,
  Models,
  meanAndError,
  RESPONSE_LENGTH,
  readTokenizer,
  trained,
  truth,
} from "../lib/lesson/work.ts";
import { type Knobs, type Method, methods, ofMethod } from "./knobs.ts";
import { type Marked, Standing } from "./standing.ts";
import { AT_ONCE, dpoOn, type Means, pairsPerStep, perStep, sampling, type Written, writtenPairs } from "./trainers.ts";

/** Answers shown of each look. */
const SHOWN = 4;
/** Looks at a method on its way, about. */
const LOOKS = 10;
/** Passes over the pairs of a race's DPO. */
const PASSES = 2;
/** Fewer steps than the budget pays for would end a method early: the shortest answers have about so many tokens. */
const SHORTEST = 4;

/** All that methods have in common. */
interface Work {
  knobs: Knobs;
  context: ProgramContext;
  tokenizer: Tokenizer;
  judge: ScoreModel;
  held: Prompt[];
  before: Look;
}

export const program: Program<Knobs> = async function* (knobs, context) {
  const { start, signal } = context;
  const models = new Models();
  try {
    yield { type: "enter", stage: "load" };
    const tokenizer = await readTokenizer(start);
    const judge = yield* trainJudge(context, models, tokenizer, knobs);
    if (signal.aborted) return;
    const reference = models.keep(await loadCausalLM(start.files, start.folder, "reference"));
    const held = heldOutPrompts(tokenizer, knobs.seed);
    yield { type: "enter", stage: "start" };
    const inputs = { policy: reference, reference, tokenizer, prompts: held, reward: modelReward(judge) };
    const before = await look(inputs, knobs.seed);
    yield measured("start", 0, before.values, before.samples, before.samples, 0);
    yield { type: "samples", stage: "start", step: 0, samples: before.samples.slice(0, SHOWN) };
    const work: Work = { knobs, context, tokenizer, judge, held, before };
    if (knobs.method !== "race") {
      yield* run(knobs.method, work, Number.POSITIVE_INFINITY);
      return;
    }
    const ends = new Map<Method, Marked>();
    for (const method of methods) {
      if (signal.aborted) return;
      const own = { ...work, knobs: { ...knobs, ...ofMethod[method], prompts: ofMethod.race.prompts } };
      const end = yield* run(method, own, knobs.budget);
      if (signal.aborted || !end) return;
      ends.set(method, end);
    }
    yield { type: "data", name: "versus", data: versus(ends, before.values) };
  } finally {
    models.free();
  }
};

/** One method from the start to its last look, and its look; null where it was stopped. Its models are freed. */
async function* run(method: Method, work: Work, budget: number): AsyncGenerator<LessonEvent, Marked | null> {
  const { context } = work;
  const standing = await Standing.read(context.files, `${context.folder}/standing-${method}.json`);
  if (standing.done) return standing.last;
  const models = new Models();
  try {
    if (method === "best-of-n") yield* choosing(work, budget, standing);
    else yield* learning(method, work, budget, standing, models);
  } finally {
    models.free();
  }
  return standing.done ? standing.last : null;
}

/** Trains a policy, and looks at the same held-out prompts every few steps and at the end. */
async function* learning(
  method: Exclude<Method, "best-of-n">,
  work: Work,
  budget: number,
  standing: Standing,
  models: Models,
): AsyncGenerator<LessonEvent> {
  const { knobs, context, tokenizer, judge, held, before } = work;
  const { start, signal } = context;
  const policy = models.keep(await loadCausalLM(start.files, start.folder, "policy"));
  const reference = models.keep(await loadCausalLM(start.files, start.folder, "reference"));
  const critic = method === "ppo" ? await criticFrom(context, models) : null;
  const means: Means = { tokenizer, policy, reference, judge, critic };
  const enough = new AbortController();
  const own = { ...kept(context, method), signal: AbortSignal.any([signal, enough.signal]) };

  let trainer: AsyncGenerator<TrainEvent>;
  /** Steps after which there is a look, apart. */
  let apart = Math.max(2, Math.ceil(knobs.steps / LOOKS));
  if (method === "dpo") {
    yield { type: "enter", stage: "pairs" };
    const written: Written = { pairs: [], tokens: 0 };
    for await (const { pairs, tokens } of writtenPairs({ ...means, policy: reference }, knobs, budget)) {
      written.pairs.push(...pairs);
      written.tokens += tokens;
      yield { type: "data", name: "pairs", data: { pairs: written.pairs.length, tokens: written.tokens } };
      if (signal.aborted) return;
    }
    await standing.spend(0, written.tokens);
    const once = Math.ceil(written.pairs.length / pairsPerStep(knobs.responses));
    const steps = Number.isFinite(budget) ? Math.max(1, PASSES * once) : knobs.steps;
    apart = Math.max(2, Math.ceil(steps / LOOKS));
    trainer = dpoOn(means, written.pairs, knobs, steps, own);
  } else {
    const tokens = perStep(method, knobs) * SHORTEST;
    const most = Number.isFinite(budget) ? Math.ceil(budget / tokens) : knobs.steps;
    if (Number.isFinite(budget)) apart = Math.max(2, Math.ceil((most * SHORTEST) / (RESPONSE_LENGTH / 2) / LOOKS));
    trainer = sampling(method, means, knobs, most, own);
  }

  for await (const event of trained(method, trainer, signal)) {
    yield event;
    if (signal.aborted || event.type !== "train") continue;
    const { event: told } = event;
    if (told.type === "step" && method !== "dpo") {
      await standing.spend(told.step, Math.round(perStep(method, knobs) * told.metrics.mean_length));
    }
    if (told.type !== "step" && !(told.type === "start" && !standing.had(told.step))) continue;
    const { step } = told;
    const last = step === told.maxSteps || (method !== "dpo" && standing.spent(step) >= budget);
    if (step === 0 || (step % apart !== 0 && !last)) continue;
    yield { type: "enter", stage: "look" };
    const inputs = { policy, reference, tokenizer, prompts: held, reward: modelReward(judge) };
    const { values, samples } = await look(inputs, knobs.seed);
    const exhausted = last && step !== told.maxSteps;
    await standing.add(markedOf(step, samples), exhausted);
    yield measured(method, step, values, before.samples, samples, standing.spent(step));
    yield { type: "samples", stage: method, step, samples: samples.slice(0, SHOWN) };
    if (exhausted) enough.abort();
    yield { type: "enter", stage: method };
  }
  if (!signal.aborted) await standing.finish();
}

/** Draws answers to each held-out prompt, as many as are asked for or as the budget pays for, and chooses the best by the judge. */
async function* choosing(work: Work, budget: number, standing: Standing): AsyncGenerator<LessonEvent> {
  const { knobs, context, tokenizer, judge, held, before } = work;
  const { start, signal } = context;
  yield { type: "enter", stage: "best-of-n" };
  const models = new Models();
  const drawn: { scores: number[]; truths: number[]; texts: string[]; lengths: number[] }[] = [];
  /** In a race the answers before training say how many the budget pays for. */
  const affordable = Math.floor(budget / (held.length * before.values.mean_length));
  const most = Number.isFinite(budget) ? Math.max(1, affordable) : knobs.group;
  try {
    const policy = models.keep(await loadCausalLM(start.files, start.folder, "policy"));
    for (let at = 0; at < held.length; at += AT_ONCE) {
      if (signal.aborted) return;
      const part = held.slice(at, at + AT_ONCE);
      const places = part.map((_, i) => at + i);
      const options = { maxNewTokens: RESPONSE_LENGTH, samples: most, temperature: 1, seed: knobs.seed, iteration: 1 };
      const answers = await sampleResponses(policy, tokenizer, part, places, options);
      const scores = await modelReward(judge)(answers);
      for (const i of part.keys()) {
        const own = answers.slice(i * most, (i + 1) * most);
        drawn.push({
          scores: own.map((_, k) => scores[i * most + k]),
          truths: own.map(truth),
          texts: own.map(({ text }) => text),
          lengths: own.map(({ ids, promptLength }) => ids.length - promptLength),
        });
      }
      yield { type: "data", name: "answers", data: { answers: drawn.length * most, of: held.length * most } };
    }
  } finally {
    models.free();
  }
  const tokens = (n: number) =>
    drawn.reduce((sum, { lengths }) => sum + (n * lengths.reduce((a, b) => a + b, 0)) / lengths.length, 0);
  const doubled = Array.from({ length: 1 + Math.floor(Math.log2(most)) }, (_, k) => 2 ** k);
  for (const n of new Set([...doubled, most])) {
    // Over all ways to draw n of those that were drawn.
    const worth = (of: "scores" | "truths" | "lengths") => drawn.map((one) => bestOf(n, one.scores, one[of]));
    const marked: Marked = { step: n, gold: worth("truths"), reward: worth("scores") };
    const [gold, reward] = [meanAndError(marked.gold), meanAndError(marked.reward)];
    const values = {
      gold: gold.mean,
      gold_se: gold.error,
      reward: reward.mean,
      reward_se: reward.error,
      kl: bestOfKl(n),
      mean_length: meanAndError(worth("lengths")).mean,
      prompts: held.length,
    };
    await standing.add(marked, n === most);
    yield measured("best-of-n", n, values, before.samples, asSamples(marked), Math.round(tokens(n)));
  }
  const best = drawn.slice(0, SHOWN).map(({ scores, truths, texts }, p): Sample => {
    const at = scores.indexOf(Math.max(...scores));
    return { prompt: held[p].text, response: texts[at], reward: scores[at], gold: truths[at] };
  });
  yield { type: "samples", stage: "best-of-n", step: most, samples: best };
}

const markedOf = (step: number, samples: readonly Sample[]): Marked => ({
  step,
  gold: samples.map(({ gold = 0 }) => gold),
  reward: samples.map(({ reward = 0 }) => reward),
});

const asSamples = ({ gold, reward }: Marked): Sample[] =>
  gold.map((own, i) => ({ prompt: "", response: "", gold: own, reward: reward[i] }));

function measured(
  stage: string,
  step: number,
  values: Record<string, number>,
  before: readonly Sample[],
  after: readonly Sample[],
  tokens: number,
): LessonEvent {
  return { type: "measured", stage, step, values: { ...values, ...changes(before, after), tokens } };
}

/** Each method's last look against each other's, on the same prompts, in standard deviations of the start's answers. */
function versus(ends: ReadonlyMap<Method, Marked>, start: Record<string, number>) {
  const all = [...ends];
  return all.flatMap(([a, one], i) =>
    all.slice(i + 1).map(([b, other]) => {
      const less = (of: "gold" | "reward", unit: number) => {
        const { mean, error } = meanAndError(one[of].map((value, p) => value - other[of][p]));
        return { mean: mean / (unit || 1), error: error / (unit || 1) };
      };
      const [gold, reward] = [less("gold", start.gold_std), less("reward", start.reward_std)];
      return { a, b, truth: gold.mean, truth_se: gold.error, judge: reward.mean, judge_se: reward.error };
    }),
  );
}
