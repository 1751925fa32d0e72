/** Lesson 8's work: one round of DPO, then two more on pairs written before (offline) and on pairs written anew (online). */
import { worldPrompts } from "webrlhf/data";
import { type CausalLM, loadCausalLM } from "webrlhf/nn";
import {
  differing,
  dpo,
  modelReward,
  type PairExample,
  type Prompt,
  type Response,
  type RewardFunction,
  responseLogProbs,
  type Sample,
  type Sequence,
  sampleResponses,
  trainDpo,
} from "webrlhf/rlhf";
import { trainJudge } from "../../lib/lesson/judge.ts";
import { lot } from "../../lib/lesson/lot.ts";
import type { Json, LessonEvent, Program } from "../../lib/lesson/types.ts";
import {
  changes,
  HELD_OUT,
  heldOutPrompts,
  kept,
  look,
  Models,
  meanAndError,
  promptsOf,
  RESPONSE_LENGTH,
  readTokenizer,
  trained,
  truth,
} from "../../lib/lesson/work.ts";
import {
  BATCH,
  type DpoInput,
  type Followed,
  JUDGE_PAIRS,
  type Moved,
  PROMPTS,
  ROUNDS,
  stepsOfRound,
  type Way,
} from "./lesson.ts";

/** Answers of which the best and the worst become a pair. */
const OF = 4;
/** How much a person errs, in truth: as much as those who label the world's pairs. */
const NOISE = 0.25;
const FOLLOWED = 6;
/** Steps between two looks at the followed pairs. */
const LOOK_EVERY = 2;

/** A pair with its texts. */
interface Pair extends PairExample {
  prompt: string;
  texts: { chosen: string; rejected: string };
}

export const program: Program<DpoInput> = async function* (input, context) {
  const { labels, beta, pairs: count, seed } = input;
  const { start, files, folder, signal } = context;
  const models = new Models();
  try {
    yield { type: "enter", stage: "load" };
    const tokenizer = await readTokenizer(start);
    const judge =
      labels === "judge" ? yield* trainJudge(context, models, tokenizer, { pairs: JUDGE_PAIRS, seed }) : null;
    if (signal.aborted) return;
    const reference = models.keep(await loadCausalLM(start.files, start.folder, "reference"));
    const reward = judge ? modelReward(judge) : undefined;
    const prefers =
      reward ??
      (labels === "person" ? person(seed) : (answers: readonly Response[]) => answers.map(({ ids }) => lot(ids, seed)));
    const held = heldOutPrompts(tokenizer, seed, PROMPTS);
    const prompts = promptsOf(worldPrompts(count * ROUNDS, seed, "train"), tokenizer);

    /** Pairs of a policy's answers to some prompts, labelled. */
    const written = async (policy: CausalLM, asked: readonly Prompt[], iteration: number): Promise<Pair[]> => {
      const sampling = { maxNewTokens: RESPONSE_LENGTH, samples: OF, temperature: 1, seed, iteration };
      const answers = await sampleResponses(
        policy,
        tokenizer,
        asked,
        asked.map((_, i) => i),
        sampling,
      );
      const scores = await prefers(answers);
      return differing(asked.map((_, p) => pairOf(answers, scores, p)));
    };
    /** Pairs of a round: those written now, or by the model as it was. */
    const slice = (round: number) => prompts.slice(round * count, (round + 1) * count);

    yield { type: "enter", stage: "pairs" };
    const first = await written(reference, slice(0), 1);
    const shown = first.slice(0, FOLLOWED);
    // Before all that is only looked at later: the figure begins here.
    yield data("followed", await followedPairs(reference, shown));
    yield data("moved", await moved(reference, "both", 0, shown));
    if (signal.aborted) return;
    const test = await written(reference, held.slice(0, HELD_OUT), 100);
    const [testWon, testLost] = [
      await logProbs(reference, test, "chosen"),
      await logProbs(reference, test, "rejected"),
    ];
    if (signal.aborted) return;

    const inputs = { tokenizer, prompts: held, reference, ...(reward && { reward }) };
    yield { type: "enter", stage: "before" };
    const before = await look({ ...inputs, policy: reference }, seed);
    yield { type: "measured", stage: "before", step: 0, values: before.values };
    yield { type: "samples", stage: "before", step: 0, samples: before.samples.slice(0, 4) };

    const each = stepsOfRound(input);
    const settings = dpo({
      beta,
      maxSteps: each,
      perDeviceTrainBatchSize: BATCH,
      learningRate: 7e-4,
      lrSchedulerType: "cosine",
      warmupSteps: 2,
      showMargins: true,
      saveSteps: 8,
      seed,
    });
    /** Trains on one round's pairs, and follows the shown ones. */
    const round = async function* (policy: CausalLM, way: Moved["way"], number: number, pairs: readonly Pair[]) {
      const stage = way === "both" ? "both" : `${way}-${number + 1}`;
      const run = trainDpo({ policy, reference }, pairs, settings, kept(context, stage));
      for await (const event of trained(stage, run, signal)) {
        yield event;
        if (signal.aborted || event.type !== "train" || event.event.type !== "step") continue;
        const { step } = event.event;
        if (step % LOOK_EVERY === 0) yield data("moved", await moved(policy, way, number * each + step, shown));
      }
    };
    /** What the policy is after a round. */
    const seen = async function* (policy: CausalLM, stage: string, step: number) {
      const found = await look({ ...inputs, policy }, seed);
      const values = { ...found.values, ...changes(before.samples, found.samples) };
      const event: LessonEvent = { type: "measured", stage, step, values };
      yield event;
      return found.samples;
    };

    const common = models.keep(await loadCausalLM(start.files, start.folder, "policy"));
    yield* round(common, "both", 0, first);
    if (signal.aborted) return;
    yield* seen(common, "both", each);

    const ends = {} as Record<Way, Sample[]>;
    let versus: Record<string, number> = {};
    for (const way of ["offline", "online"] as const) {
      const policy = models.keep(await loadCausalLM(files, `${folder}/both`, "policy"));
      for (let number = 1; number < ROUNDS; number++) {
        yield { type: "enter", stage: "pairs" };
        const pairs = await written(way === "online" ? policy : reference, slice(number), number + 1);
        yield* round(policy, way, number, pairs);
        if (signal.aborted) return;
        ends[way] = yield* seen(policy, way, (number + 1) * each);
      }
      yield { type: "samples", stage: way, step: ROUNDS * each, samples: ends[way].slice(0, 4) };
      if (way === "online") continue;
      const [won, lost] = [await logProbs(policy, test, "chosen"), await logProbs(policy, test, "rejected")];
      const change = (now: readonly number[], then: readonly number[]) => now.map((x, i) => x - then[i]);
      const [chosen, rejected] = [change(won, testWon), change(lost, testLost)];
      versus = {
        ...named("chosen", chosen),
        ...named("rejected", rejected),
        ...named("margin", change(chosen, rejected)),
      };
    }
    const { gold_change: fresh, gold_change_se: fresh_se } = changes(ends.offline, ends.online);
    const values = { ...versus, fresh, fresh_se };
    yield { type: "measured", stage: "versus", step: ROUNDS * each, values };
  } finally {
    models.free();
  }
};

const data = (name: string, data: Moved | Followed[]): LessonEvent => ({
  type: "data",
  name,
  data: data as unknown as Json,
});

const named = (name: string, values: readonly number[]): Record<string, number> => {
  const { mean, error } = meanAndError(values);
  return { [name]: mean, [`${name}_se`]: error };
};

/**
 * A person who errs: prefers an answer to another with the chance sigmoid of the difference in truth by 0.25, as those do who
 * label the world's pairs; of several answers the likeliest to be preferred are those with the most truth.
 */
const person =
  (seed: number): RewardFunction =>
  (answers) =>
    // The difference of two such errors is below x with the chance sigmoid(x / NOISE).
    answers.map((answer) => truth(answer) - NOISE * Math.log(-Math.log(lot(answer.ids, seed))));

/** The best and the worst of a prompt's answers. */
function pairOf(answers: readonly Response[], scores: ArrayLike<number>, prompt: number): Pair {
  const places = Array.from({ length: OF }, (_, k) => prompt * OF + k).sort((a, b) => scores[b] - scores[a]);
  const [chosen, rejected] = [places[0], places[OF - 1]].map((i) => answers[i]);
  return {
    prompt: chosen.promptText,
    texts: { chosen: chosen.text, rejected: rejected.text },
    chosen: chosen.ids,
    rejected: rejected.ids,
    promptLength: chosen.promptLength,
  };
}

/** log p of one answer of each pair, in nats. */
async function logProbs(model: CausalLM, pairs: readonly Pair[], which: "chosen" | "rejected"): Promise<number[]> {
  const sequences = pairs.map((pair): Sequence => ({ ids: pair[which], promptLength: pair.promptLength }));
  const found = await responseLogProbs(model, sequences);
  return found.logProbs.map((tokens) => tokens.reduce((sum, x) => sum + x, 0));
}

async function followedPairs(reference: CausalLM, pairs: readonly Pair[]): Promise<Followed[]> {
  const [won, lost] = [await logProbs(reference, pairs, "chosen"), await logProbs(reference, pairs, "rejected")];
  return pairs.map(({ prompt, texts }, i) => ({ prompt, ...texts, refChosen: won[i], refRejected: lost[i] }));
}

const moved = async (policy: CausalLM, way: Moved["way"], step: number, pairs: readonly Pair[]): Promise<Moved> => ({
  way,
  step,
  chosen: await logProbs(policy, pairs, "chosen"),
  rejected: await logProbs(policy, pairs, "rejected"),
});
