/**
 * Arguments of other programs, for configs that were written for them: transformers' Trainer, TRL, PaddleNLP, LMFlow,
 * Online-RLHF. Most of their names are names or other names of settings here. Of the others this says which mean a setting,
 * which change nothing, and which are refused, because without them the result would be another one.
 */
import { type ForeignNames, settingNamed } from "../settings/index.ts";
import { lmflowBeside, lmflowRules } from "./foreign/lmflow.ts";
import { paddleRules } from "./foreign/paddlenlp.ts";
import { paddleBeside, paddleRlRules } from "./foreign/paddlenlp-rl.ts";
import { isOff, plain, type Rules } from "./foreign/rules.ts";
import { transformersRules } from "./foreign/transformers.ts";
import { trlRules } from "./foreign/trl.ts";

/** Of names that are no settings of a method. */
const rules: Rules = { ...lmflowRules, ...paddleRules, ...paddleRlRules, ...trlRules, ...transformersRules };

/** Of names that may be settings: what they mean where others stand beside them. */
const beside: Rules = { ...lmflowBeside, ...paddleBeside };

/** What null, or -1, of other programs is here; undefined is the default. */
const unset: Readonly<Record<string, unknown>> = {
  maxSteps: null,
  evalSteps: 0,
  saveTotalLimit: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  centerRewardsCoefficient: 0,
  showSamples: undefined,
  completionOnlyLoss: undefined,
  resume: false,
  dtype: "float32",
};

/** Names and values of other programs, as a method takes them. */
export const foreignNames: ForeignNames = (name, value, given, table) => {
  const together = Object.hasOwn(beside, name) ? beside[name](value, given, table) : null;
  if (together !== null) return together;
  const key = settingNamed(table, name);
  if (key === null) return Object.hasOwn(rules, name) ? rules[name](value, given, table) : null;
  if (key === "optim") return rules.optim(value, given, table);
  if (!Object.hasOwn(unset, key)) return null;
  const negative = (key === "maxSteps" || key === "topK") && Number(value) === -1;
  if (
    value === null ||
    negative ||
    (key === "dtype" && plain(value) === "auto") ||
    (key === "resume" && isOff(value))
  ) {
    return { kind: "sets", values: { [key]: unset[key] } };
  }
  return null;
};
