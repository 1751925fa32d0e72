/** Lesson 7's work: a judge, then PPO with its first responses laid open, token by token. */
import { worldPrompts } from "webrlhf/data";
import { loadCausalLM, type ScoreModel } from "webrlhf/nn";
import { modelReward, ppo, trainPpo } from "webrlhf/rlhf";
import { endsBut } from "../../lib/lesson/ends.ts";
import { criticFrom, trainJudge } from "../../lib/lesson/judge.ts";
import { TRAIN_PROMPTS } from "../../lib/lesson/sizes.ts";
import type { LessonEvent, Program } from "../../lib/lesson/types.ts";
import {
  changes,
  heldOutPrompts,
  kept,
  look,
  Models,
  promptsOf,
  readTokenizer,
  trained,
  truth,
} from "../../lib/lesson/work.ts";
import { type PpoInput, planOf, SHOWN, settingsOf } from "./lesson.ts";

/** The judge is not what one steps through here. */
export const ends = endsBut("judge");

export const program: Program<PpoInput> = async function* (input, context) {
  const { start, signal } = context;
  const { seed } = input;
  const { pairs, steps } = planOf(input);
  const models = new Models();
  try {
    yield { type: "enter", stage: "load" };
    const tokenizer = await readTokenizer(start);
    const policy = models.keep(await loadCausalLM(start.files, start.folder, "policy"));
    const reference = models.keep(await loadCausalLM(start.files, start.folder, "reference"));
    const judge = yield* trainJudge(context, models, tokenizer, { pairs, seed });
    if (signal.aborted) return;

    const critic = await criticFrom(context, models);
    if (input.critic === "none") silence(critic);
    const settings = ppo(settingsOf(input));
    const prompts = promptsOf(worldPrompts(TRAIN_PROMPTS, seed, "train"), tokenizer);
    const inputs = { policy, reference, critic, rewards: modelReward(judge), tokenizer, gold: truth };
    yield* trained("ppo", trainPpo(inputs, prompts, settings, kept(context, "ppo")), signal);
    if (signal.aborted) return;

    // The start is looked at last: whoever goes step by step comes to the tokens without a wait.
    yield { type: "enter", stage: "look" };
    const held = { tokenizer, prompts: heldOutPrompts(tokenizer, seed), reference, reward: modelReward(judge) };
    const before = await look({ ...held, policy: reference }, seed);
    yield measured("before", 0, before.values);
    yield samples("before", 0, before.samples.slice(0, SHOWN));
    if (signal.aborted) return;
    const after = await look({ ...held, policy }, seed);
    yield measured("after", steps, { ...after.values, ...changes(before.samples, after.samples) });
    yield samples("after", steps, after.samples.slice(0, SHOWN));
  } finally {
    models.free();
  }
};

const measured = (stage: string, step: number, values: Record<string, number>): LessonEvent => ({
  type: "measured",
  stage,
  step,
  values,
});

const samples = (stage: string, step: number, shown: Extract<LessonEvent, { type: "samples" }>["samples"]) =>
  ({ type: "samples", stage, step, samples: shown }) as const;

/** A critic that says 0 of everything: what PPO is without one. */
function silence(critic: ScoreModel): void {
  const head = critic.parameters().filter(({ name }) => name.startsWith("score"));
  for (const { value } of head) value.write(new Float32Array(value.size));
}
