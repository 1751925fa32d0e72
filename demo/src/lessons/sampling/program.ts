/** Lesson 2's work: the same wishes are answered at one temperature after the other. */
import { goldReward } from "webrlhf/data";
import { generate, loadCausalLM, openPrefix } from "webrlhf/nn";
import { distinctN } from "webrlhf/rlhf";
import type { Program } from "../../lib/lesson/types.ts";
import { heldOutPrompts, Models, RESPONSE_LENGTH, readTokenizer } from "../../lib/lesson/work.ts";
import { type NextData, type SamplingInput, type StoriesData, TEMPERATURES } from "./lesson.ts";

const PREFIX = "One day Tim the cat wanted a red ball. Tim";
const SHOWN_TOKENS = 10;

export const program: Program<SamplingInput> = async function* ({ topP, topK, seed, stories }, { start, signal }) {
  const models = new Models();
  try {
    yield { type: "enter", stage: "load" };
    const tokenizer = await readTokenizer(start);
    const policy = models.keep(await loadCausalLM(start.files, start.folder, "the model"));
    const text = (id: number) => (id === tokenizer.eosId ? "" : tokenizer.decode([id]));

    const live = await openPrefix(policy, tokenizer.encode(PREFIX));
    const all = live.top(policy.config.vocabSize);
    live.free();
    const next: NextData = {
      tokens: Array.from(live.ids, text),
      top: all.slice(0, SHOWN_TOKENS).map(({ id, logProb }) => [text(id), logProb]),
      rest: all.slice(SHOWN_TOKENS).map(({ logProb }) => Math.round(logProb * 100) / 100),
    };
    yield { type: "data", name: "next", data: next };

    yield { type: "enter", stage: "cooling" };
    const prompts = heldOutPrompts(tokenizer, seed, stories);
    const ids = prompts.map((prompt) => prompt.ids);
    for (const temperature of TEMPERATURES) {
      if (signal.aborted) return;
      // The same random numbers at every temperature: what differs is what they are drawn from.
      const answers = await generate(policy, ids, { maxNewTokens: RESPONSE_LENGTH, seed, temperature, topP, topK });
      const told = answers.map((answer) => {
        const { text: prompt } = prompts[answer.prompt];
        const response = tokenizer.decode(answer.ids.filter((id) => id !== tokenizer.eosId));
        return { prompt, response, gold: goldReward(prompt, response) };
      });
      const responses = told.map(({ response }) => response);
      const ranked = [...told].sort((a, b) => a.gold - b.gold);
      const data: StoriesData = {
        temperature,
        gold: told.map(({ gold }) => gold),
        distinct: distinctN(responses, 2),
        different: new Set(responses).size,
        shown: [ranked[0], ranked[ranked.length >> 1], ranked[ranked.length - 1]],
      };
      yield { type: "data", name: "step", data };
    }
  } finally {
    models.free();
  }
};
