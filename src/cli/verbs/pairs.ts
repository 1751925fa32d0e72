import { scored } from "../../data/scored-rows.ts";
import { checkPairs, describeCounts, makePairs, pairSettings } from "../../rlhf/iterate/pairs.ts";
import { pairLines } from "../../rlhf/iterate/stages.ts";
import { data, logging, seed } from "../../rlhf/settings.ts";
import { average } from "../../rlhf/stats.ts";
import { diskFiles } from "../../runtime/files.ts";
import { group, settings } from "../../settings/index.ts";
import { short } from "../progress.ts";
import { defineVerb } from "../verb.ts";
import { readAll } from "./annotate.ts";
import { summaries } from "./summaries.ts";

const pairing = group("Pairs");

const pairsSettings = settings(
  "pairs",
  {
    inputFile: data.list(null, "Files of scored responses, in the order of the pairs; made by annotate", {
      required: true,
    }),
    ...pairSettings,
    k: pairing.int(null, "Responses that a row should have; default: as many as the longest row has", { min: 2 }),
    shortRows: pairing.choice(["skip", "use", "error"], "skip", "What to do with rows that have fewer"),
    maxSamples: pairing.int(null, "Stop after this many pairs; default: all", { min: 1 }),
    seed,
    outputFile: logging.path(null, "Where the pairs go: JSON lines of prompt, chosen, rejected, margin", {
      required: true,
    }),
  },
  checkPairs,
);

export const pairsVerb = defineVerb({
  name: "pairs",
  summary: summaries.pairs,
  settings: pairsSettings,
  examples: [
    "webrlhf pairs --input_file rewards.jsonl --output_file pairs.jsonl",
    "webrlhf pairs --input_file result.json --pair_dialect lmflow --choose_type max_random --output_file pairs.jsonl",
  ],
  endsAtOnce: true,
  product: (o) => ({ file: o.outputFile as string }),
  async run(o, { terminal }) {
    const rows = (await readAll(o.inputFile!)).map(scored);
    const { pairs, counts } = makePairs(rows, { ...o, samples: o.k });
    const kept = pairs.slice(0, o.maxSamples ?? undefined);
    await (await diskFiles()).writeFile(o.outputFile!, pairLines(kept));
    const cut = kept.length < pairs.length ? `, the first ${kept.length} kept` : "";
    const margin = short(average(kept.map((pair) => pair.margin)));
    terminal.line(`${describeCounts(counts)}${cut}; mean margin ${margin}: ${o.outputFile}`);
  },
});
