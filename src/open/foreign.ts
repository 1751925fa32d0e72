/**
 * Arguments of other programs, for configs that were written for them: transformers' Trainer, TRL, PaddleNLP, LMFlow,
 * Online-RLHF. Most of their names are names or other names of settings here. Of the others this says which mean a setting,
 * which change nothing, and which are refused, because without them the result would be another one.
 */
import { type ForeignNames, settingNamed } from "../settings/index.ts";
import { lmflowRules } from "./foreign/lmflow.ts";
import { paddleRules } from "./foreign/paddlenlp.ts";
import { isOff, plain, type Rules } from "./foreign/rules.ts";
import { transformersRules } from "./foreign/transformers.ts";
import { trlRules } from "./foreign/trl.ts";

const rules: Rules = { ...lmflowRules, ...paddleRules, ...trlRules, ...transformersRules };

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
  const key = settingNamed(table, name);
  // An adapter to go on with is named beside its base.
  if (key === "modelNameOrPath" && !isOff(given.lora_model_path) && Object.hasOwn(table, "baseModelNameOrPath")) {
    return { kind: "sets", values: { baseModelNameOrPath: value } };
  }
  if (key === null) return Object.hasOwn(rules, name) ? rules[name](value, given, table) : null;
  // PaddleNLP's configs with both mean the prompt and the response by the first, and the response by the second.
  if (key === "maxLength" && !isOff(given.max_dec_len) && Object.hasOwn(table, "maxLengthOf")) {
    return { kind: "sets", values: { maxLength: value, maxLengthOf: "sequence" } };
  }
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
