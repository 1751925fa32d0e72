/** Lesson 1's work: trains a model from nothing, and looks at what it would write. */
import { goldBreakdown, type Tokenizer, worldSftRecords } from "webrlhf/data";
import { type CausalLM, generate, loadCausalLM, modelFiles, openPrefix } from "webrlhf/nn";
import { average, responseLogProbs, type Sample, type Sequence, sft, trainSft } from "webrlhf/rlhf";
import type { LessonEvent, Program } from "../../lib/lesson/types.ts";
import {
  HELD_OUT,
  heldOutPrompts,
  kept,
  Models,
  meanAndError,
  RESPONSE_LENGTH,
  readTokenizer,
  trained,
} from "../../lib/lesson/work.ts";
import type { LanguageModelInput, NextData, Texts } from "./lesson.ts";
import { freshModel, likeliest, spelled } from "./models.ts";

const STORIES = 2048;
const BATCH = 32;
/** Steps after which it is looked at, besides the first and the last. */
const LOOKS = [2, 5, 10, 20, 30, 40, 60, 80, 150, 200, 300, 400];
const SHOWN_TOKENS = 8;
const SHOWN_STORIES = 4;
/** Tokens of the text that is written in the end, one by one. */
const WALK = 16;

export const program: Program<LanguageModelInput> = async function* ({ texts, prefix, seed, steps }, context) {
  const { start, files, folder, signal } = context;
  const models = new Models();
  try {
    yield { type: "enter", stage: "load" };
    const tokenizer = await readTokenizer(start);
    const policy = models.keep(await freshModel(start, seed, "the model"));
    const heldOut = sequencesOf(tokenizer, texts, seed, "test");
    const look = (step: number) => looked(policy, { tokenizer, heldOut, prefix, seed, step });

    yield { type: "enter", stage: "look" };
    yield* look(0);
    if (signal.aborted) return;

    const settings = sft({
      maxSteps: steps,
      perDeviceTrainBatchSize: BATCH,
      learningRate: 5e-3,
      lrSchedulerType: "cosine",
      warmupSteps: 0.05,
      adamBeta2: 0.95,
      saveSteps: 20,
      seed,
    });
    const sequences = sequencesOf(tokenizer, texts, seed, "train");
    const trainer = trainSft({ policy, tokenizer }, sequences, settings, kept(context, "model"));
    for await (const event of trained("train", trainer, signal)) {
      yield event;
      if (signal.aborted || event.type !== "train" || event.event.type !== "step") continue;
      const { step } = event.event;
      if (step < steps && LOOKS.includes(step)) yield* look(step);
    }
    if (signal.aborted) return;

    yield { type: "enter", stage: "after" };
    await files.writeFiles(`${folder}/trained`, await modelFiles(policy));
    yield* look(steps);
    const stories = await written(policy, { tokenizer, seed, count: HELD_OUT });
    const { mean, error } = await lossOf(policy, heldOut);
    const values = { loss: mean, loss_se: error, ...stumblesOf(stories) };
    yield { type: "measured", stage: "after", step: steps, values };

    const untrained = models.keep(await freshModel(start, seed, "the untrained model"));
    const long = models.keep(await loadCausalLM(start.files, start.folder, "the model trained for long"));
    for (const [name, model, step] of [
      ["untrained", untrained, 0],
      ["own", policy, steps],
      ["long", long, 2048],
    ] as const) {
      if (signal.aborted) return;
      yield* walk(model, { name, step, tokenizer, prefix, seed });
    }
  } finally {
    models.free();
  }
};

/** Whole texts of the world, wish and story, with their ends; everything in them is learned. */
function sequencesOf(tokenizer: Tokenizer, texts: Texts, seed: number, split: "train" | "test"): Sequence[] {
  const random = mulberry(seed);
  return worldSftRecords(split === "test" ? HELD_OUT : STORIES, seed, split).map(({ prompt, completion }) => {
    const words = (prompt + completion).split(" ");
    const text = texts === "stories" ? words : shuffled(words, random);
    return { ids: Uint32Array.of(...tokenizer.encode(text.join(" ")), tokenizer.eosId as number), promptLength: 0 };
  });
}

interface LookOptions {
  tokenizer: Tokenizer;
  heldOut: readonly Sequence[];
  prefix: string;
  seed: number;
  step: number;
}

/** The loss on unseen texts, what may follow the prefix, and stories. */
async function* looked(
  policy: CausalLM,
  { tokenizer, heldOut, prefix, seed, step }: LookOptions,
): AsyncGenerator<LessonEvent> {
  const { mean, error } = await lossOf(policy, heldOut);
  const live = await openPrefix(policy, tokenizer.encode(prefix));
  const next = likeliest(tokenizer, live, SHOWN_TOKENS);
  live.free();
  const data: NextData = { model: "own", step, tokens: spelled(tokenizer, live.ids), next, drawn: null };
  const stories = await written(policy, { tokenizer, seed, count: step === 0 ? HELD_OUT : SHOWN_STORIES });
  const values = { loss: mean, loss_se: error, ...(step === 0 && stumblesOf(stories)) };
  yield { type: "measured", stage: "look", step, values };
  yield { type: "data", name: "next", data };
  const shown = stories.slice(0, SHOWN_STORIES).map(({ prompt, response }) => ({ prompt, response }));
  yield { type: "samples", stage: `step ${step}`, step, samples: shown };
}

async function lossOf(policy: CausalLM, sequences: readonly Sequence[]): Promise<{ mean: number; error: number }> {
  const { logProbs } = await responseLogProbs(policy, sequences);
  return meanAndError(logProbs.map((of) => -average(Array.from(of))));
}

async function written(
  policy: CausalLM,
  { tokenizer, seed, count }: { tokenizer: Tokenizer; seed: number; count: number },
): Promise<Sample[]> {
  const prompts = heldOutPrompts(tokenizer, seed, count);
  const options = { maxNewTokens: RESPONSE_LENGTH, seed };
  const stories = await generate(
    policy,
    prompts.map(({ ids }) => ids),
    options,
  );
  return stories.map(({ ids, prompt }) => ({
    prompt: prompts[prompt].text,
    response: tokenizer.decode(ids.filter((id) => id !== tokenizer.eosId)),
  }));
}

/** Steps from word to word that are not English, per story. */
function stumblesOf(stories: readonly Sample[]): Record<"stumbles" | "stumbles_se", number> {
  const all = stories.map(({ prompt, response }) => goldBreakdown(prompt, response).form / -0.3);
  const { mean, error } = meanAndError(all);
  return { stumbles: mean, stumbles_se: error };
}

interface WalkOptions {
  name: NextData["model"];
  step: number;
  tokenizer: Tokenizer;
  prefix: string;
  seed: number;
}

/** Writes on from the prefix, a token an event. */
async function* walk(
  model: CausalLM,
  { name, step, tokenizer, prefix, seed }: WalkOptions,
): AsyncGenerator<LessonEvent> {
  const ids = Uint32Array.from(tokenizer.encode(prefix));
  const [{ ids: drawn }] = await generate(model, [ids], { maxNewTokens: WALK, seed });
  const live = await openPrefix(model, ids);
  try {
    for (const id of drawn) {
      const data: NextData = {
        model: name,
        step,
        tokens: spelled(tokenizer, live.ids),
        next: likeliest(tokenizer, live, SHOWN_TOKENS),
        drawn: spelled(tokenizer, [id])[0],
      };
      yield { type: "data", name: "token", data };
      await live.push(id);
    }
  } finally {
    live.free();
  }
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const out = [...items];
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}

/** Random numbers from 0 to 1: mulberry32. */
function mulberry(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
