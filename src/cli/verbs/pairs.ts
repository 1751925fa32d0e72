import { scored } from "../../data/scored-rows.ts";
import { describeCounts, makePairs } from "../../rlhf/iterate/pairs.ts";
import { pairLines } from "../../rlhf/iterate/stages.ts";
import { average } from "../../rlhf/stats.ts";
import { diskFiles } from "../../runtime/files.ts";
import { pairsOptions } from "../options/pairs.ts";
import { short } from "../progress.ts";
import { defineVerb } from "../verb.ts";
import { readAll } from "./annotate.ts";
import { pairSettings } from "./iterate.ts";

export const pairsVerb = defineVerb({
  name: "pairs",
  summary: "Choose a better and a worse answer among each prompt's scored responses, for dpo and reward",
  options: pairsOptions,
  examples: [
    "webrlhf pairs --input_file rewards.jsonl --output_file pairs.jsonl",
    "webrlhf pairs --input_file result.json --pair_dialect lmflow --choose_type max_random --output_file pairs.jsonl",
  ],
  async run(o, { terminal }) {
    const rows = (await readAll(o.input_file!)).map(scored);
    const settings = { ...pairSettings(o), seed: o.seed, samples: o.k, shortRows: o.short_rows };
    const { pairs, counts } = makePairs(rows, settings);
    const kept = pairs.slice(0, o.max_samples ?? undefined);
    await (await diskFiles()).writeFile(o.output_file!, pairLines(kept));
    const cut = kept.length < pairs.length ? `, the first ${kept.length} kept` : "";
    const margin = short(average(kept.map((pair) => pair.margin)));
    terminal.line(`${describeCounts(counts)}${cut}; mean margin ${margin}: ${o.output_file}`);
  },
});
