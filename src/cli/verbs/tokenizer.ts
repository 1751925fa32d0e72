import { trainBpe } from "../../data/bpe.ts";
import { Tokenizer } from "../../data/tokenizer.ts";
import { worldTokenizer } from "../../data/world.ts";
import { diskFiles } from "../../runtime/files.ts";
import { textData } from "../data/datasets.ts";
import { tokenizerFiles, WORLD } from "../models/models.ts";
import { tokenizerOptions } from "../options/tokenizer.ts";
import { defineVerb } from "../verb.ts";

export const tokenizerVerb = defineVerb({
  name: "tokenizer",
  summary: "Train a byte-level BPE tokenizer",
  options: tokenizerOptions,
  argument: "action",
  examples: ["webrlhf tokenizer train --dataset_name pairs.jsonl.gz --vocab_size 2048 --output_dir out/tokenizer"],
  async run(o, { terminal }) {
    const files = await diskFiles();
    const dataset = o.dataset_name!;
    const tokenizer =
      dataset === WORLD
        ? worldTokenizer()
        : Tokenizer.fromTrained(
            trainBpe(await textData({ ...o, dataset_name: dataset }, terminal), { vocabSize: o.vocab_size }),
          );
    for (const [name, content] of Object.entries(tokenizerFiles(tokenizer))) {
      await files.writeFile(`${o.output_dir}/${name}`, content);
    }
    terminal.line(`tokenizer of ${tokenizer.vocabSize} tokens in ${o.output_dir}`);
  },
});
