/** What the lesson's program and its questions both ask of a model. */
import type { Tokenizer } from "webrlhf/data";
import { CausalLM, type LivePrefix, loadConfig } from "webrlhf/nn";
import type { Start } from "../../lib/lesson/types.ts";
import type { Likely } from "./lesson.ts";

/** A model of the shipped one's shape that has learned nothing. */
export async function freshModel({ files, folder }: Start, seed: number, label: string): Promise<CausalLM> {
  return new CausalLM(await loadConfig(files, folder), label).initialize(seed);
}

/** A text by its tokens; the end of a text is "". */
export const spelled = (tokenizer: Tokenizer, ids: ArrayLike<number>): string[] =>
  Array.from(ids, (id) => (id === tokenizer.eosId ? "" : tokenizer.decode([id])));

/** The k tokens that are likeliest to come next. */
export const likeliest = (tokenizer: Tokenizer, live: LivePrefix, k: number): Likely[] =>
  live.top(k).map(({ id, logProb }) => [spelled(tokenizer, [id])[0], Math.exp(logProb)]);
