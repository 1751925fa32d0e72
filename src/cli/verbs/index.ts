import type { Verb } from "../verb.ts";
import { annotateVerb } from "./annotate.ts";
import { chatVerb } from "./chat.ts";
import { convertVerb } from "./convert.ts";
import { costVerb } from "./cost.ts";
import { cpoVerb } from "./cpo.ts";
import { grpoVerb, reinforceVerb, rlooVerb } from "./critic-free.ts";
import { dataVerb } from "./data.ts";
import { dpoVerb } from "./dpo.ts";
import { evaluateVerb } from "./evaluate.ts";
import { figureVerb } from "./figure.ts";
import { generateVerb } from "./generate.ts";
import { iterateVerb } from "./iterate.ts";
import { ktoVerb } from "./kto.ts";
import { mergeVerb } from "./merge.ts";
import { multiObjectiveVerb } from "./multi-objective.ts";
import { orpoVerb } from "./orpo.ts";
import { pairsVerb } from "./pairs.ts";
import { pairwiseVerb } from "./pairwise.ts";
import { ppoVerb } from "./ppo.ts";
import { raftVerb } from "./raft.ts";
import { reportVerb } from "./report.ts";
import { rewardVerb } from "./reward.ts";
import { scoreVerb } from "./score.ts";
import { serveVerb } from "./serve.ts";
import { sftVerb } from "./sft.ts";
import { tokenizerVerb } from "./tokenizer.ts";

/** The verbs by purpose, in the order of `--help`. */
export const verbGroups: Readonly<Record<string, readonly Verb[]>> = {
  "Train on examples": [sftVerb],
  "Train rewards": [rewardVerb, costVerb, pairwiseVerb, multiObjectiveVerb],
  "Train policies on rewards": [ppoVerb, grpoVerb, rlooVerb, reinforceVerb, raftVerb, iterateVerb],
  "Train policies on preferences": [dpoVerb, ktoVerb, orpoVerb, cpoVerb],
  "Use models": [generateVerb, chatVerb, serveVerb, scoreVerb, annotateVerb, pairsVerb],
  "Measure and show": [evaluateVerb, reportVerb, figureVerb],
  "Data and model files": [dataVerb, tokenizerVerb, mergeVerb, convertVerb],
};

/** What a recipe's stages can name. */
export const verbs: readonly Verb[] = Object.values(verbGroups).flat();
