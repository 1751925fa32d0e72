/** Lesson 9's work: a judge, then one of four ways to please it, with a look at the truth every few steps. */
import { goldReward, preferenceExample, type Tokenizer, worldPreferences, worldPrompts } from "webrlhf/data";
import { type CausalLM, loadCausalLM, type ScoreModel } from "webrlhf/nn";
import {
  bestOfKl,
  dpo,
  modelReward,
  type Prompt,
  ppo,
  raft,
  type Sample,
  sampleResponses,
  type TrainEvent,
  trainDpo,
  trainPpo,
  trainRaft,
} from "webrlhf/rlhf";
import type { SpacePoint } from "../../lib/figures/space.ts";
import { endsBut } from "../../lib/lesson/ends.ts";
import { criticFrom, trainJudge } from "../../lib/lesson/judge.ts";
import { TRAIN_PROMPTS } from "../../lib/lesson/sizes.ts";
import type { LessonEvent, Program, ProgramContext } from "../../lib/lesson/types.ts";
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
import { type JudgeSpace, judgeSpace } from "./clouds.ts";
import { dpoSettings, isLook, NS, type OverInput, ppoSettings, raftSettings } from "./lesson.ts";
import { cloudName, GROUND } from "./space.ts";
import { type Marked, turnOf } from "./turn.ts";

/** Texts shown of each look. */
const SHOWN = 3;

/** All that the parts work with. */
interface Work {
  input: OverInput;
  context: ProgramContext;
  models: Models;
  tokenizer: Tokenizer;
  policy: CausalLM;
  reference: CausalLM;
  judge: ScoreModel;
  prompts: Prompt[];
  space: JudgeSpace;
}

/** A look that was made, as it is kept for a run that goes on. */
interface Kept extends Marked {
  reward: number[];
}

/** The judge is not what one steps through here. */
export const ends = endsBut("judge");

export const program: Program<OverInput> = async function* (input, context) {
  const { start, signal } = context;
  const { seed } = input;
  const models = new Models();
  try {
    yield { type: "enter", stage: "load" };
    const tokenizer = await readTokenizer(start);
    const policy = models.keep(await loadCausalLM(start.files, start.folder, "policy"));
    const reference = models.keep(await loadCausalLM(start.files, start.folder, "reference"));
    const judge = yield* trainJudge(context, models, tokenizer, input);
    if (signal.aborted) return;
    const prompts = heldOutPrompts(tokenizer, seed);
    const space = await judgeSpace(judge, tokenizer, seed);
    yield {
      type: "data",
      name: GROUND,
      data: { explained: space.ground.explained, points: plain(space.ground.points) },
    };
    const work: Work = { input, context, models, tokenizer, policy, reference, judge, prompts, space };
    yield* input.method === "best-of-n" ? choices(work) : training(work);
  } finally {
    models.free();
  }
};

/** Trains the policy, and looks at the same held-out prompts before, every few steps and at the end. */
async function* training(work: Work): AsyncGenerator<LessonEvent> {
  const { input, context, tokenizer, policy, reference, judge, prompts, space } = work;
  const { signal, files, folder } = context;
  const file = `${folder}/looks.json`;
  const bytes = await files.read(file);
  const looks: Kept[] = bytes ? JSON.parse(new TextDecoder().decode(bytes)) : [];
  const had = (step: number) => looks.some((look) => look.step === step);

  const lookAt = async function* (step: number): AsyncGenerator<LessonEvent> {
    yield { type: "enter", stage: "look" };
    const inputs = { policy, tokenizer, prompts, reference, reward: modelReward(judge) };
    const { values, samples } = await look(inputs, input.seed);
    const own: Kept = {
      step,
      gold: samples.map(({ gold = 0 }) => gold),
      reward: samples.map(({ reward = 0 }) => reward),
    };
    if (!had(step)) looks.push(own);
    await files.writeFile(file, JSON.stringify(looks));
    const first = looks[0];
    const change = changes(asSamples(first), asSamples(own));
    const { peakStep: peak_step, drop, error: drop_se } = turnOf(looks.filter((look) => look.step <= step));
    const told = { ...values, ...change, ...(step > 0 && { peak_step, drop, drop_se }) };
    yield { type: "measured", stage: "look", step, values: told };
    yield { type: "samples", stage: "look", step, samples: shown(samples) };
    yield { type: "data", name: cloudName(step), data: plain(await space.cloudOf(samples)) };
  };

  yield* lookAt(0);
  if (signal.aborted) return;
  const trainer = await trainerOf(work);
  for await (const event of trained("policy", trainer, signal)) {
    yield event;
    if (signal.aborted || event.type !== "train") continue;
    const { event: told } = event;
    const due = told.type === "step" || (told.type === "start" && !had(told.step));
    if (!due || told.step === 0 || (!isLook[input.method](told.step) && told.step !== told.maxSteps)) continue;
    yield* lookAt(told.step);
    yield { type: "enter", stage: "policy" };
  }
}

const plain = (points: readonly SpacePoint[]): number[][] => points.map((point) => [...point]);

/** The first few, and the worst by the truth: what babble looks like. */
function shown(samples: readonly Sample[]): Sample[] {
  const worst = samples.reduce((least, sample) => ((sample.gold ?? 0) < (least.gold ?? 0) ? sample : least));
  return [...samples.slice(0, SHOWN), worst];
}

const asSamples = ({ gold, reward }: Kept): Sample[] =>
  gold.map((own, i) => ({ prompt: "", response: "", gold: own, reward: reward[i] }));

async function trainerOf({
  input,
  context,
  models,
  tokenizer,
  policy,
  reference,
  judge,
}: Work): Promise<AsyncGenerator<TrainEvent>> {
  const { seed, pairs } = input;
  const rewards = modelReward(judge);
  const shared = { policy, reference, rewards, tokenizer, gold: truth };
  const prompts = () => promptsOf(worldPrompts(TRAIN_PROMPTS, seed, "train"), tokenizer);
  const run = kept(context, input.method);
  if (input.method === "raft") {
    return trainRaft(shared, prompts(), raft(raftSettings(input)), run);
  }
  if (input.method === "dpo") {
    const { maxPositions: maxLength } = policy.config;
    const examples = worldPreferences(pairs, seed).map((record) => preferenceExample(record, tokenizer, { maxLength }));
    return trainDpo({ policy, reference }, { train: examples, eval: [] }, dpo(dpoSettings(input)), run);
  }
  const critic = await criticFrom(context, models);
  return trainPpo({ ...shared, critic }, prompts(), ppo(ppoSettings(input)), run);
}

/** Best-of-n: draws the most, and takes the best of the first 1, 2, 4, … by the judge; nothing is trained. */
async function* choices({
  input,
  policy,
  tokenizer,
  judge,
  prompts,
  context,
  space,
}: Work): AsyncGenerator<LessonEvent> {
  yield { type: "enter", stage: "look" };
  const most = NS[NS.length - 1];
  const options = { maxNewTokens: RESPONSE_LENGTH, samples: most, temperature: 1, seed: input.seed, iteration: 0 };
  const places = prompts.map((_, i) => i);
  const all = await sampleResponses(policy, tokenizer, prompts, places, options);
  if (context.signal.aborted) return;
  const scores = await modelReward(judge)(all);
  let first: Sample[] = [];
  const looks: Marked[] = [];
  for (const n of NS) {
    const best = prompts.map((_, p): Sample => {
      const own = Array.from({ length: n }, (_, k) => p * most + k);
      const at = own.reduce((best, i) => (scores[i] > scores[best] ? i : best));
      return {
        prompt: prompts[p].text,
        response: all[at].text,
        reward: scores[at],
        gold: goldReward(prompts[p].text, all[at].text),
      };
    });
    if (n === 1) first = best;
    const gold = meanAndError(best.map(({ gold = 0 }) => gold));
    const reward = meanAndError(best.map(({ reward = 0 }) => reward));
    const spread = (error: number) => error * Math.sqrt(HELD_OUT);
    looks.push({ step: n, gold: best.map(({ gold = 0 }) => gold) });
    const { peakStep: peak_step, drop, error: drop_se } = turnOf(looks);
    const values = {
      ...{ gold: gold.mean, gold_se: gold.error, gold_std: spread(gold.error) },
      ...{ reward: reward.mean, reward_se: reward.error, reward_std: spread(reward.error) },
      kl: bestOfKl(n),
      ...changes(first, best),
      ...(n > 1 && { peak_step, drop, drop_se }),
    };
    yield { type: "measured", stage: "look", step: n, values };
    yield { type: "samples", stage: "look", step: n, samples: shown(best) };
    yield { type: "data", name: cloudName(n), data: plain(await space.cloudOf(best)) };
  }
}
