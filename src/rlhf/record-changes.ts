/** Which settings may change when a run goes on, and which would make another run of it. */
import type { RunFacts } from "./record.ts";

/** Settings that change nothing of what is learned: how often is saved, logged and looked at, and how work is shared out. */
const free = new Set([
  ...[
    "logging_steps",
    "save_steps",
    "save_strategy",
    "save_minutes",
    "eval_strategy",
    "save_total_limit",
    "eval_steps",
    "show_samples",
    "show_rollouts",
    "show_candidates",
    "show_margins",
    "label",
  ],
  ...["eval_dataset_name", "dataset_test_split", "max_eval_samples", "per_device_eval_batch_size"],
  ...["load_best_model_at_end", "metric_for_best_model", "greater_is_better"],
  ...["early_stopping_patience", "early_stopping_threshold"],
  ...["offline", "gradient_checkpointing", "critic_gradient_checkpointing", "offload_level", "monitor_threshold"],
  ...["server", "server_concurrency", "reward_server_batch_size", "reward_server_concurrency"],
  ...["reward_server_timeout", "reward_server_retries"],
]);

/** Settings by which a run gets longer; a shorter one is refused where it has come further. */
const lengths: Record<string, readonly string[]> = { iterate: ["iterations"], raft: ["max_steps"] };
const usualLengths = ["max_steps", "num_train_epochs"];

/** Settings, and inputs, in which two runs differ. */
export interface RunChanges {
  /** Those under which a run may go on, in words. */
  accepted: string[];
  /** Those that make it another run. */
  refused: string[];
}

/** How a run that is to go on differs from what it was, so far as both know of it. */
export function changesBetween(before: RunFacts, now: RunFacts): RunChanges {
  const changes: RunChanges = { accepted: [], refused: [] };
  const inputs = changedInputs(before, now);
  changes.refused.push(...inputs.changed);
  for (const [name, value] of Object.entries(now.settings)) {
    if (!Object.hasOwn(before.settings, name) || inputs.known.has(name)) continue;
    const [was, is] = [before.settings[name], value].map(shown);
    if (was === is) continue;
    const longer = (lengths[now.verb] ?? usualLengths).includes(name);
    changes[longer || free.has(name) ? "accepted" : "refused"].push(`${name} was ${was} and is ${is}`);
  }
  return changes;
}

const shown = (value: unknown): string => JSON.stringify(value) ?? "not set";

/**
 * Inputs by setting, whose bytes both runs know: these count, and not the names. A folder that was moved is the same.
 * `changed` says in words which are not.
 */
function changedInputs(before: RunFacts, now: RunFacts) {
  const known = new Set<string>();
  const changed: string[] = [];
  for (const setting of new Set(now.inputs.map((input) => input.setting))) {
    const of = ({ inputs }: RunFacts) => inputs.filter((input) => input.setting === setting);
    const hashes = [before, now].map((facts) => of(facts).map(({ sha256 }) => sha256));
    if (hashes[0].length === 0 || hashes.flat().includes(null)) continue;
    known.add(setting);
    if (shown(hashes[0]) === shown(hashes[1])) continue;
    const [was, is] = [before, now].map((facts) => of(facts).map(({ name, sha256 }) => `${name} (${short(sha256)})`));
    changed.push(`${setting} was ${was.join(", ")} and is ${is.join(", ")}: other bytes`);
  }
  return { known, changed };
}

const short = (sha256: string | null): string => `SHA-256 ${sha256?.slice(0, 12)}…`;
