import { trainBpe } from "../../data/bpe.ts";
import { isWorld } from "../../data/made.ts";
import { Tokenizer } from "../../data/tokenizer.ts";
import { worldTokenizer } from "../../data/world.ts";
import { openDataset } from "../../open/datasets.ts";
import { datasetSettings, hubSettings, overwriting, splitSettings } from "../../open/settings.ts";
import { tokenizerFiles } from "../../open/tokenizer.ts";
import { data, logging } from "../../rlhf/settings.ts";
import { diskFiles } from "../../runtime/files.ts";
import { settings } from "../../settings/index.ts";
import { surroundings } from "../surroundings.ts";
import { defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

const tokenizerSettings = settings("tokenizer", {
  action: data.choice(["train"], "train", "What to do"),
  datasetName: data.mixture(null, "Text to learn from: .txt, .json or .jsonl, also .gz, or builtin:world", {
    required: true,
    aka: ["dataset"],
  }),
  testSize: datasetSettings.testSize,
  maxTrainSamples: data.int(null, "Learn from this many records only", { min: 1 }),
  ...splitSettings,
  offline: hubSettings.offline,
  template: datasetSettings.template,
  vocabSize: data.int(1024, "Size of the vocabulary, special tokens included", { min: 258 }),
  outputDir: logging.path("out/tokenizer", "Folder for tokenizer.json and tokenizer_config.json"),
  ...overwriting,
});

export const tokenizerVerb = defineVerb({
  name: "tokenizer",
  summary: summaries.tokenizer,
  settings: tokenizerSettings,
  argument: "action",
  examples: ["webrlhf tokenizer train --dataset_name pairs.jsonl.gz --vocab_size 2048 --output_dir out/tokenizer"],
  endsAtOnce: true,
  product: (o) => ({ folder: o.outputDir }),
  async run(o, context) {
    const files = await diskFiles();
    const name = o.datasetName as string;
    const texts = () => openDataset(name, { ...o, ...surroundings(context) }).texts();
    const tokenizer = isWorld(name)
      ? worldTokenizer()
      : Tokenizer.fromTrained(trainBpe(await texts(), { vocabSize: o.vocabSize }));
    for (const [file, content] of Object.entries(tokenizerFiles(tokenizer))) {
      await files.writeFile(`${o.outputDir}/${file}`, content);
    }
    context.terminal.line(`tokenizer of ${tokenizer.vocabSize} tokens in ${o.outputDir}`);
  },
});
