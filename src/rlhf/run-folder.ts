/** What a run finds in its output folder, and whether it may write there. */
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { checkpointSteps } from "./checkpoint.ts";
import { RECORD, type RunFacts, type RunRecord } from "./record.ts";
import { changesBetween } from "./record-changes.ts";
import type { RunOptions } from "./run-options.ts";

/** Logs, records and checkpoints that runs write. */
const OF_RUNS =
  /^((run|stage|done|trainer_state|evaluation|train_set_\d+|trackio)\.json|(metrics|timing|changes|data|samples|eval_rows|raft|monitor)\.jsonl|(checkpoint-|iteration_)\d+|control)$/;
/** Files of models. */
const OF_MODELS =
  /^((adapter_|generation_|multi_objective_|tokenizer_)?config\.json|(tokenizer|special_tokens_map|added_tokens|vocab|pair_preference)\.json|merges\.txt|chat_template\.jinja|.*\.safetensors(\.index\.json)?|.*\.gguf|policy|value|ema)$/;
const WEIGHTS = /^(adapter_)?config\.json$|\.safetensors$|\.gguf$/;

/** Whether a run that overwrites a folder removes what has this name there. */
export const isReplaced = (name: string): boolean => OF_RUNS.test(name) || OF_MODELS.test(name);

/** Removes what earlier runs left in a folder; files of other kinds stay. First of all goes the claim to be finished. */
export async function clearRun(files: Files, folder: string): Promise<void> {
  await files.remove(`${folder}/done.json`);
  await files.remove(`${folder}/${RECORD}`);
  const names = (await files.list(folder)).filter(isReplaced);
  for (const name of names.filter((name) => name !== "stage.json")) await files.remove(`${folder}/${name}`);
  await files.remove(`${folder}/stage.json`); // last of all the claim to what the checkpoints belong to
}

/** A folder as a run that is to begin finds it. */
interface Found {
  files: Files;
  path: string;
  /** The record of the run before. */
  before: RunRecord | null;
  facts: RunFacts;
}

/**
 * Lets a run begin in a folder that holds nothing of value, or that may be overwritten.
 * @returns what is worth saying of it
 * @throws UserError naming what is there
 */
export async function admitFresh({ files, path, before }: Found, overwrite: boolean): Promise<string[]> {
  const names = await files.list(path);
  const step = (await checkpointSteps(files, path)).at(-1);
  const made = names.find((name) => /^iteration_\d+$/.test(name)) ?? (step === undefined ? null : `checkpoint-${step}`);
  const weights = names.find((name) => WEIGHTS.test(name)) ?? null;
  const what = before ? `a ${before.state === "finished" ? "finished" : "broken"} run of ${before.verb}` : null;
  if (overwrite) {
    await clearRun(files, path);
    return what || made || weights ? [`${path}: ${what ?? made ?? weights} is overwritten`] : [];
  }
  const ways = "choose another output folder, or overwrite it (--overwrite_output_dir)";
  if (made) throw new UserError(`${path} holds ${made} of an earlier run: resume from it, ${ways}`);
  if (before?.state === "finished") throw new UserError(`${path} holds ${what}: ${ways}`);
  if (weights) throw new UserError(`${path} holds a model (${weights}): ${ways}`);
  return what ? [`${path}: ${what} left no checkpoint, so it begins anew`] : [];
}

/**
 * Lets a run go on in the folder of its record, if it is the same run.
 * @returns what is worth saying of it
 * @throws UserError naming every setting and input that makes it another one
 */
export function admitResumed({ path, before, facts }: Found, acceptChanges: RunOptions["acceptChanges"]): string[] {
  if (!before) return [];
  if (before.verb !== facts.verb) {
    throw new UserError(`${path} holds a run of ${before.verb}, not of ${facts.verb}: choose another folder`);
  }
  const { accepted, refused } = changesBetween(before, facts);
  if (refused.length > 0 && !acceptChanges) {
    throw new UserError(
      `${path}: going on with other settings would make another run of it: ${refused.join("; ")}. Use those of the run, ` +
        "another output folder, or accept the changes (--resume_with_changes)",
    );
  }
  const told = [...accepted, ...refused];
  if (before.webrlhf && before.webrlhf !== facts.webrlhf)
    told.push(`webrlhf was ${before.webrlhf} and is ${facts.webrlhf}`);
  if (before.adapter && facts.adapter && before.adapter !== facts.adapter) {
    told.push(`the adapter was ${before.adapter} and is ${facts.adapter}, which may change last digits`);
  }
  return told.length > 0 ? [`goes on with changes: ${told.join("; ")}`] : [];
}
