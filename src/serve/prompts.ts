/** The prompts of a request: texts or token ids, made into token ids without holding up everybody else. */
import { badField } from "./errors.ts";
import type { TextModel } from "./model.ts";
import { contextLengthError } from "./request.ts";

const MOST_PROMPTS = 1024;
/** Tokenising goes on for so long before others have a turn. */
const SLICE_MS = 10;

/** Token ids of the prompts, and their texts where they are to be given back. */
export interface Prompt {
  ids: Uint32Array;
  text: string;
}

/** What a `prompt` field holds, checked as far as can be without a tokenizer. */
export function promptList(value: unknown, model: TextModel): (string | number[])[] {
  const wrong = () =>
    badField("prompt", "prompt must be a string, a list of strings, a list of token ids or a list of such lists");
  if (typeof value === "string") return [value];
  if (isIds(value)) return [checked(value, model)];
  if (!Array.isArray(value) || value.length === 0) throw wrong();
  if (value.length > MOST_PROMPTS) throw badField("prompt", `prompt may hold at most ${MOST_PROMPTS} prompts`);
  return value.map((one: unknown) => {
    if (typeof one === "string") return one;
    if (isIds(one)) return checked(one, model);
    throw wrong();
  });
}

const isIds = (v: unknown): v is number[] =>
  Array.isArray(v) && v.length > 0 && v.every((id) => Number.isInteger(id) && id >= 0);

function checked(ids: number[], model: TextModel): number[] {
  const foreign = ids.find((id) => id >= model.vocabSize);
  if (foreign !== undefined)
    throw badField("prompt", `prompt holds token ${foreign}; ids are below ${model.vocabSize}`);
  if (ids.length > model.engine.capacity) throw contextLengthError(model, ids.length, 0);
  return ids;
}

/** Token ids of prompts; their texts are found for `echo` only. */
export async function encodePrompts(
  list: readonly (string | number[])[],
  model: TextModel,
  echo: boolean,
  signal: AbortSignal,
): Promise<Prompt[]> {
  const prompts: Prompt[] = [];
  let since = performance.now();
  for (const one of list) {
    const ids = typeof one === "string" ? model.encode(one) : one;
    const text = typeof one === "string" ? one : echo ? model.decode(ids) : "";
    prompts.push({ text, ids: Uint32Array.from(ids) });
    if (performance.now() - since < SLICE_MS) continue;
    await new Promise((resolve) => setImmediate(resolve));
    signal.throwIfAborted();
    since = performance.now();
  }
  return prompts;
}
