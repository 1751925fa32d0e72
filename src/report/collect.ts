/** Reads what runs left on disk into the data of a report. */
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { readJson, readJsonLines } from "../runtime/json-files.ts";
import { absolute, basename, join } from "../runtime/paths.ts";
import type {
  Evaluation,
  Metrics,
  PolicyResult,
  ReportData,
  RewardResult,
  RunData,
  SampleGroup,
  SampleResponse,
  StageRecord,
} from "./data.ts";
import { clock } from "./text.ts";

/** How many prompts of the samples go into the page. */
const shownPrompts = 4;

/** Collects what runs left in `dir`, the folder of a recipe's stages or of a single run. */
export async function collectReport(files: Files, dir: string, title: string | null): Promise<ReportData> {
  const stages: { folder: string; record: StageRecord | null }[] = [];
  for (const folder of [dir, ...(await files.list(dir)).map((name) => join(dir, name))]) {
    const inside = await files.list(folder);
    const file = ["done.json", "stage.json"].find((name) => inside.includes(name));
    const record = file === undefined ? null : await readJson<StageRecord>(files, join(folder, file));
    const results = inside.includes("metrics.jsonl") || inside.includes("evaluation.json");
    if (record !== null || results) stages.push({ folder, record });
  }
  if (stages.length === 0)
    throw new UserError(`${dir}: no training run in here (no metrics.jsonl, no evaluation.json)`);
  // Folders come by name; what ran first finished first.
  stages.sort((a, b) => (a.record?.order ?? 0) - (b.record?.order ?? 0));

  const runs: RunData[] = [];
  const policies: PolicyResult[] = [];
  const rewardModels: RewardResult[] = [];
  const groups = new Map<string, SampleResponse[]>();
  const adapters = new Set<string>();
  for (const { folder, record } of stages) {
    const name = record?.name ?? basename(absolute(folder));
    const rows = await readJsonLines<Metrics>(files, join(folder, "metrics.jsonl"));
    if (rows.length > 0) {
      const steps = rows.filter((row) => "tokens" in row);
      const evals = rows.filter((row) => !("tokens" in row));
      runs.push({
        name,
        title: record?.title ?? name,
        verb: record?.verb ?? guessVerb(rows),
        steps,
        evals,
        seconds: record?.seconds,
      });
    }
    const evaluation = await readJson<Evaluation>(files, join(folder, "evaluation.json"));
    if (evaluation?.adapter) adapters.add(evaluation.adapter);
    if (evaluation?.reward_model) rewardModels.push(evaluation.reward_model);
    if (evaluation?.policy) {
      const { samples, ...result } = evaluation.policy;
      policies.push(result);
      for (const { prompt, ...response } of samples.slice(0, shownPrompts)) {
        groups.set(prompt, [...(groups.get(prompt) ?? []), { label: result.label, ...response }]);
      }
    }
  }
  const samples: SampleGroup[] = [...groups].map(([prompt, responses]) => ({ prompt, responses }));
  const seeds = new Set(
    stages.flatMap(({ record }) => (typeof record?.options.seed === "number" ? [String(record.options.seed)] : [])),
  );
  const seconds = stages.reduce((sum, { record }) => sum + (record?.seconds ?? 0), 0);
  const facts: [string, string][] = [];
  if (adapters.size > 0) facts.push(["adapter", [...adapters].join(", ")]);
  if (seeds.size > 0) facts.push(["seed", [...seeds].join(", ")]);
  if (seconds > 0) facts.push(["wall time", clock(seconds)]);
  return {
    title: title ?? basename(absolute(dir)),
    facts,
    rewardModels,
    runs,
    policies,
    samples: samples.slice(0, shownPrompts),
  };
}

/** A run that no recipe started does not say what it was. */
function guessVerb(rows: readonly Metrics[]): string {
  const has = (key: string) => rows.some((row) => key in row);
  if (has("objective/kl")) return "ppo";
  if (has("distinct_1")) return "raft";
  return has("margin") ? "reward" : "sft";
}
