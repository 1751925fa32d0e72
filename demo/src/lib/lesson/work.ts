/** What lessons' programs have in common: the tokenizer, prompts, the held-out look, and trainers' events. */
import { goldReward, Tokenizer, worldPrompts } from "webrlhf/data";
import type { Model } from "webrlhf/nn";
import {
  average,
  type EvaluateInputs,
  evaluatePolicy,
  type Prompt,
  type Response,
  type Sample,
  standardDeviation,
  type TrainEvent,
} from "webrlhf/rlhf";
import { RESPONSE_LENGTH } from "./sizes.ts";
import type { LessonEvent, ProgramContext, Start } from "./types.ts";

export { RESPONSE_LENGTH };

/** Held-out prompts: a verdict on fewer would be one on noise. */
export const HELD_OUT = 128;

/** The tokenizer beside the model. The site does without what finds models by names: nothing of that need be fetched. */
export async function readTokenizer({ files, folder }: Start): Promise<Tokenizer> {
  const read = async (name: string) =>
    JSON.parse(new TextDecoder().decode((await files.read(`${folder}/${name}`)) ?? undefined));
  return Tokenizer.fromJson(await read("tokenizer.json"), await read("tokenizer_config.json"));
}

export const promptsOf = (texts: readonly string[], tokenizer: Tokenizer): Prompt[] =>
  texts.map((text) => ({ text, ids: Uint32Array.from(tokenizer.encode(text)) }));

/** Prompts that no trainer sees. */
export const heldOutPrompts = (tokenizer: Tokenizer, seed: number, count = HELD_OUT): Prompt[] =>
  promptsOf(worldPrompts(count, seed, "test"), tokenizer);

/** The true reward of the built-in world. */
export const truth = ({ promptText, text }: Response): number => goldReward(promptText, text);

/** Mean of numbers and its standard error. */
export const meanAndError = (values: readonly number[]): { mean: number; error: number } => ({
  mean: average(values),
  error: values.length > 1 ? standardDeviation(values) / Math.sqrt(values.length) : Number.POSITIVE_INFINITY,
});

/** What a look at the held-out prompts found. */
export interface Look {
  /** `gold`, `gold_se`, with a reward model `reward`, `reward_se`, with a reference `kl`, and the evaluation's other metrics. */
  values: Record<string, number>;
  samples: Sample[];
}

/** Answers the held-out prompts and measures the answers. */
export async function look(inputs: Omit<EvaluateInputs, "gold">, seed: number, temperature = 1): Promise<Look> {
  const options = { seed, temperature, responseLength: RESPONSE_LENGTH, showSamples: inputs.prompts.length };
  const { metrics, samples } = await evaluatePolicy({ ...inputs, gold: truth }, options);
  const values: Record<string, number> = { ...metrics };
  for (const name of ["gold", "reward"] as const) {
    const all = samples.map((sample) => sample[name]);
    if (all.some((value) => value === undefined)) continue;
    const { mean, error } = meanAndError(all as number[]);
    Object.assign(values, { [name]: mean, [`${name}_se`]: error });
  }
  return { values, samples };
}

/** Changes between two looks at the same prompts: `gold_change`, `gold_change_se`, and of the reward. The prompt's own difficulty is in both and drops out. */
export function changes(before: readonly Sample[], after: readonly Sample[]): Record<string, number> {
  const out: Record<string, number> = {};
  for (const name of ["gold", "reward"] as const) {
    const differences = after.map((sample, i) => (sample[name] ?? Number.NaN) - (before[i][name] ?? Number.NaN));
    if (differences.some(Number.isNaN)) continue;
    const { mean, error } = meanAndError(differences);
    Object.assign(out, { [`${name}_change`]: mean, [`${name}_change_se`]: error });
  }
  return out;
}

/** A trainer's events as a lesson's. Not left early: a trainer that is asked to stop finishes its step and gives its memory back. */
export async function* trained(
  stage: string,
  trainer: AsyncGenerator<TrainEvent>,
  signal: AbortSignal,
): AsyncGenerator<LessonEvent> {
  yield { type: "enter", stage };
  for await (const event of trainer) {
    if (event.type === "checkpoint" || signal.aborted) continue; // of no interest to whoever looks on
    yield { type: "train", stage, event };
  }
}

/** A trainer's folder within the run's: it goes on from what lies there. Beside the model is its tokenizer, so that any program opens it. */
export const kept = ({ start, files, folder, signal }: ProgramContext, name: string) => ({
  folder: {
    files,
    path: `${folder}/${name}`,
    besides: Object.fromEntries(TOKENIZER.map((file) => [file, contentOf(start, file)])),
  },
  resume: true,
  signal,
});

const TOKENIZER = ["tokenizer.json", "tokenizer_config.json"];

/** A file of the start model, read whenever it is written. */
const contentOf = ({ files, folder }: Start, name: string): AsyncIterable<Uint8Array> => ({
  async *[Symbol.asyncIterator]() {
    const content = await files.read(`${folder}/${name}`);
    if (content) yield content;
  },
});

/** Keeps models, and frees them all: `const models = new Models(); try { … } finally { models.free(); }`. */
export class Models {
  private readonly all: Model[] = [];

  keep<M extends Model>(model: M): M {
    this.all.push(model);
    return model;
  }

  free(): void {
    for (const model of this.all.splice(0)) model.destroy();
  }
}
