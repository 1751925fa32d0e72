/** An environment that notes its episodes token by token, as they are tokenised by hand. */
import type { Environment, Prompt } from "webrlhf/rlhf";
import { wordTokenizer } from "./words.ts";

/** Its words are those of the environment. */
export const tokenizer = wordTokenizer(["go", "on", "and", "a", "b"]);
const tokens = (text: string): number[] => tokenizer.encode(text);

/** What was said in an episode, as tokens; and what it was worth. */
export interface Heard {
  prompt: number;
  ids: number[];
  written: number[];
  reward: number;
}

/** Three turns at most, each worth as many as it has "a"; `heard` are all episodes, token by token. */
export function listening(heard: Heard[]): Environment {
  return {
    reset({ prompt: { row } }) {
      const own: Heard = { prompt: Number(row?.id), ids: [], written: [], reward: 0 };
      const say = (ids: ArrayLike<number>, written: 0 | 1) => {
        own.ids.push(...Array.from(ids));
        own.written.push(...Array.from(ids, () => written));
      };
      heard.push(own);
      say(tokens("<user>go<end><assistant>"), 0);
      return {
        observation: [{ role: "user", content: "go" }],
        step({ ids, text, turn, ended }) {
          say(ids, 1);
          const reward = text.split(" ").filter((word) => word === "a").length;
          own.reward += reward;
          const over = turn === 2 || !ended;
          if (!over) say(tokens("<user>on and on<end><assistant>"), 0);
          return { observation: [{ role: "user", content: "on and on" }], reward, done: over };
        },
      };
    },
  };
}

/** Prompts with the column `id`. */
export const prompts = (n: number): Prompt[] =>
  Array.from({ length: n }, (_, id) => ({ text: "", ids: new Uint32Array(0), row: { id } }));
