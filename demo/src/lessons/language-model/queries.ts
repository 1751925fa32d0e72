/** What the page of lesson 1 asks: what may come next after any text, under any of its models. */
import { type Files, UserError } from "webrlhf";
import { type CausalLM, type LivePrefix, loadCausalLM, openPrefix } from "webrlhf/nn";
import type { Json, Query, QueryContext } from "../../lib/lesson/types.ts";
import { readTokenizer } from "../../lib/lesson/work.ts";
import type { NextData } from "./lesson.ts";
import { freshModel, spelled } from "./models.ts";

export interface NextQuestion {
  model: NextData["model"];
  /** Of the untrained model. */
  seed: number;
  text: string;
  /** Tokens that were taken after the text. */
  more: number[];
}

export interface NextAnswer {
  /** The text by tokens, with those that were taken. */
  tokens: string[];
  /** Every token with its probability, likeliest first. */
  next: [id: number, text: string, probability: number][];
}

/** The model that was asked last, and the text it was asked about: the next question is mostly the same and a token more. */
interface Held {
  name: string;
  /** Of the run whose model it is. */
  files: Files | null;
  model: CausalLM;
  live: LivePrefix | null;
}

let held: Held | null = null;

function drop(): void {
  held?.live?.free();
  held?.model.destroy();
  held = null;
}

async function opened({ model, seed }: NextQuestion, { start, run }: QueryContext): Promise<Held> {
  const name = model === "untrained" ? `${model} ${seed}` : model;
  const files = model === "own" ? (run?.files ?? null) : null;
  if (held?.name === name && held.files === files) return held;
  drop();
  if (model === "own" && !(run && (await run.files.read(`${run.folder}/trained/config.json`)))) {
    throw new UserError("Nothing was trained here yet.");
  }
  const loaded =
    model === "untrained"
      ? await freshModel(start, seed, name)
      : await (model === "own" && run
          ? loadCausalLM(run.files, `${run.folder}/trained`, name)
          : loadCausalLM(start.files, start.folder, name));
  held = { name, files, model: loaded, live: null };
  return held;
}

/** Brings the prefix that is kept to these tokens. */
async function goTo(at: Held, ids: readonly number[], signal: AbortSignal): Promise<LivePrefix> {
  const { live } = at;
  const before = Array.from(live?.ids ?? []);
  const common = before.findIndex((id, i) => ids[i] !== id);
  const same = common === -1 ? before.length : common;
  if (!live || same === 0) {
    live?.free();
    at.live = null;
    at.live = await openPrefix(at.model, ids, { signal, capacity: at.model.config.maxPositions });
    return at.live;
  }
  await live.rewind(before.length - same);
  await live.push(ids.slice(same), { signal });
  return live;
}

export const queries: Record<string, Query> = {
  async next(argument, context): Promise<Json> {
    const question = argument as unknown as NextQuestion;
    try {
      const tokenizer = await readTokenizer(context.start);
      const ids = [...tokenizer.encode(question.text), ...question.more];
      const live = await goTo(await opened(question, context), ids, context.signal);
      const { vocabSize } = tokenizer;
      const next = live
        .top(vocabSize)
        .map(({ id, logProb }): NextAnswer["next"][number] => [id, spelled(tokenizer, [id])[0], Math.exp(logProb)]);
      return { tokens: spelled(tokenizer, ids), next } satisfies NextAnswer;
    } catch (error) {
      drop(); // whatever it was: a lost device, a text too long
      throw error;
    }
  },
};
