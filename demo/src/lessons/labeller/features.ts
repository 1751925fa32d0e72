/** The deck of this lesson, and what the language model sees in its stories, for pages that have no GPU. */
import { diskFiles, noGrad, openDevice, scope } from "webrlhf";
import { sftExample } from "webrlhf/data";
import { loadCausalLM } from "webrlhf/nn";
import { pack } from "webrlhf/rlhf";
import { readTokenizer } from "../../lib/lesson/work.ts";
import { deckPairs, type Pair } from "./deck.ts";
import { heldOutPairs } from "./judge.ts";
import { packFeatures } from "./packed.ts";

const SEED = 42;
/** Pairs to label: the lesson's twenty, and as many for those that cannot be told. */
const DECK = 40;
const AT_ONCE = 16;

/** deck.json, and features.json: of each story the mean over its tokens of the last hidden states. */
export async function deckFiles() {
  await openDevice();
  const start = { files: await diskFiles(), folder: "models/world-sft" };
  const tokenizer = await readTokenizer(start);
  const model = await loadCausalLM(start.files, start.folder, "policy");
  const meansOf = async (pairs: readonly Pair[]): Promise<Float32Array[]> => {
    const means: Float32Array[] = [];
    for (let i = 0; i < pairs.length; i += AT_ONCE) {
      const sequences = pairs
        .slice(i, i + AT_ONCE)
        .flatMap(({ prompt, left, right }) => [left, right].map((completion) => ({ prompt, completion })))
        .map((story) =>
          sftExample({ kind: "prompt_completion", ...story }, tokenizer, { maxLength: model.config.maxPositions }),
        );
      const { ids, packing, starts } = pack(sequences);
      const rows = ids.host.map((_, row) => row);
      const states = scope(() => noGrad(() => model.hidden(ids, packing, rows)));
      const values = await states.read();
      states.free("features");
      const width = model.config.hiddenSize;
      for (const [k, { ids: tokens, promptLength }] of sequences.entries()) {
        const mean = new Float32Array(width);
        for (let token = promptLength; token < tokens.length; token++) {
          for (let x = 0; x < width; x++) {
            mean[x] += values[(starts[k] + token) * width + x] / (tokens.length - promptLength);
          }
        }
        means.push(mean);
      }
    }
    return means;
  };
  const deck = deckPairs(DECK, SEED);
  const heldOut = heldOutPairs(SEED);
  const features = packFeatures(await meansOf([...deck, ...heldOut]));
  model.destroy();
  return { "deck.json": deck.map(rounded), "features.json": { features, heldOut: heldOut.map(rounded) } };
}

const rounded = (pair: Pair): Pair => ({
  ...pair,
  goldLeft: Number(pair.goldLeft.toFixed(2)),
  goldRight: Number(pair.goldRight.toFixed(2)),
});
