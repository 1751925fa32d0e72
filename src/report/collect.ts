/** Reads what runs left on disk into the data of a report. */
import { readRecord, recordOf } from "../rlhf/record.ts";
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

/** A folder that a report shows. */
interface Stage {
  readonly folder: string;
  readonly record: StageRecord | null;
  /** Whether a run or an evaluation left its results there. */
  readonly results: boolean;
}

/** What of a run's folder decides a report, the clock's part left out. */
export const REPORTED: readonly string[] = ["evaluation.json", "metrics.jsonl", "monitor.jsonl", "run.json"];

/**
 * The folders of runs and evaluations in `dir`, or it itself.
 * @throws UserError where there are none
 */
export async function runsIn(files: Files, dir: string): Promise<string[]> {
  return (await stagesIn(files, dir)).filter(({ results }) => results).map(({ folder }) => folder);
}

async function stagesIn(files: Files, dir: string): Promise<Stage[]> {
  const stages: Stage[] = [];
  for (const folder of [dir, ...(await files.list(dir)).map((name) => join(dir, name))]) {
    const inside = await files.list(folder);
    const file = ["done.json", "stage.json"].find((name) => inside.includes(name));
    const record = file === undefined ? null : await readJson<StageRecord>(files, join(folder, file));
    const results = inside.includes("metrics.jsonl") || inside.includes("evaluation.json");
    if (record !== null || results) stages.push({ folder, record, results });
  }
  if (stages.length === 0)
    throw new UserError(`${dir}: no training run in here (no metrics.jsonl, no evaluation.json)`);
  // Folders come by name; what ran first finished first.
  return stages.sort((a, b) => (a.record?.order ?? 0) - (b.record?.order ?? 0));
}

/**
 * Collects what runs left in folders: of a recipe's stages, or of single runs. Runs of one name are told apart by their paths.
 * @throws UserError for a folder where there are none
 */
export async function collectReport(files: Files, dirs: readonly string[], title: string | null): Promise<ReportData> {
  const stages: Stage[] = [];
  for (const dir of dirs) {
    const known = new Set(stages.map(({ folder }) => absolute(folder)));
    for (const stage of await stagesIn(files, dir)) if (!known.has(absolute(stage.folder))) stages.push(stage);
  }
  const plain = stages.map(plainName);
  const runs: RunData[] = [];
  const policies: PolicyResult[] = [];
  const rewardModels: RewardResult[] = [];
  const groups = new Map<string, SampleResponse[]>();
  const adapters = new Set<string>();
  for (const stage of stages) {
    const { folder, record } = stage;
    const shared = plain.filter((one) => one === plainName(stage)).length > 1;
    const name = shared ? folder : plainName(stage);
    const rows = (await readJsonLines<Record<string, unknown>>(files, join(folder, "metrics.jsonl"))).map(metricsOf);
    if (rows.length > 0) {
      const own = await readRecord(files, recordOf(folder));
      const usage = (await readJsonLines<Record<string, unknown>>(files, join(folder, "timing.jsonl"))).map(metricsOf);
      const steps = rows.filter((row) => "tokens" in row);
      const evals = rows.filter((row) => !("tokens" in row));
      runs.push({
        name,
        title: shared ? name : (record?.title ?? name),
        verb: own?.verb ?? record?.verb ?? null,
        record: own,
        steps,
        evals,
        seconds: record?.seconds ?? measured(usage),
        usage,
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
  const records = runs.flatMap(({ record }) => record ?? []);
  for (const { adapter } of records) if (adapter !== null) adapters.add(adapter);
  const seeds = new Set(
    [...stages.map(({ record }) => record?.options.seed), ...records.map(({ settings }) => settings.seed)].flatMap(
      (seed) => (typeof seed === "number" ? [String(seed)] : []),
    ),
  );
  const trained = runs.reduce((sum, run) => sum + (run.seconds ?? 0), 0);
  const seconds = stages.reduce((sum, { record }) => sum + (record?.seconds ?? 0), 0) || trained;
  const facts: [string, string][] = [];
  if (adapters.size > 0) facts.push(["adapter", [...adapters].join(", ")]);
  if (seeds.size > 0) facts.push(["seed", [...seeds].join(", ")]);
  const versions = new Set(records.map(({ webrlhf }) => webrlhf));
  if (versions.size > 0) facts.push(["webrlhf", [...versions].join(", ")]);
  if (seconds > 0) facts.push(["wall time", clock(seconds)]);
  return {
    title: title ?? dirs.map((dir) => basename(absolute(dir))).join(", "),
    facts,
    rewardModels,
    runs,
    policies,
    samples: samples.slice(0, shownPrompts),
  };
}

/** A stage's name, or the folder's. */
const plainName = ({ folder, record }: Stage): string => record?.name ?? basename(absolute(folder));

/** Seconds that the steps of a run took together, where somebody measured. */
function measured(rows: readonly Metrics[]): number | undefined {
  const seconds = rows.flatMap((row) => (typeof row.seconds === "number" ? [row.seconds] : []));
  return seconds.length === 0 ? undefined : seconds.reduce((sum, one) => sum + one, 0);
}

/** A line of metrics.jsonl, which holds "NaN" and "Infinity" as texts. */
export const metricsOf = (row: Record<string, unknown>): Metrics =>
  Object.fromEntries(Object.entries(row).map(([key, value]) => [key, value === null ? null : Number(value)]));
