import { basename, join, resolve } from "node:path";
import { type ChartPoint, type ChartSpec, looksOf } from "../../report/chart.ts";
import { collectReport } from "../../report/collect.ts";
import type { Metrics, RewardResult } from "../../report/data.ts";
import { figureOf } from "../../report/figure.ts";
import { data, logging } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles, type Files } from "../../runtime/files.ts";
import { readJsonLines, writeJson } from "../../runtime/json-files.ts";
import { settings } from "../../settings/index.ts";
import { defineVerb } from "../verb.ts";
import { readRuns } from "./report.ts";
import { summaries } from "./summaries.ts";

const figureSettings = settings("figure", {
  inputDir: data.path(null, "Folder of a recipe's stages", { required: true }),
  runs: data.list(
    null,
    "Names of the training runs to compare; default: all. Titles that differ after a comma share a colour",
  ),
  metrics: data.list(null, "Logged metrics, a panel for each; a+b puts several into one panel", { required: true }),
  title: logging.text(null, "Title of the figure; default: the folder's name"),
  description: logging.text(null, "A sentence on what there is to see, for the JSON file"),
  outputPath: logging.path(null, "Where the figure goes, without .svg and .json", { required: true }),
});

export const figureVerb = defineVerb({
  name: "figure",
  summary: summaries.figure,
  settings: figureSettings,
  argument: "inputDir",
  examples: ["webrlhf figure runs/raft --metrics reward,distinct_2 --output_path docs/results/raft"],
  endsAtOnce: true,
  product: (o) => ({ file: `${o.outputPath}.svg` }),
  inputs: (o) => readRuns(o.inputDir!),
  async run(o, { terminal }) {
    const files = await diskFiles();
    const found = await collectReport(files, [o.inputDir!], o.title);
    const runs = (o.runs ?? found.runs.map(({ name }) => name)).map((name) => {
      const run = found.runs.find((other) => other.name === name);
      if (run) return run;
      const names = found.runs.map((other) => other.name).join(", ");
      throw new UserError(`${o.inputDir} has no training run ${name}; it has ${names || "none"}`);
    });
    const specs = o.metrics!.map((panel): ChartSpec => {
      const names = panel.split("+");
      const series = runs.flatMap((run) =>
        names.map((metric) => ({
          name: names.length === 1 ? run.title : runs.length === 1 ? metric : `${run.title}: ${metric}`,
          points: pointsOf([...run.steps, ...run.evals], metric),
        })),
      );
      if (series.some(({ points }) => points.length > 0)) {
        const references = panel === "eval_accuracy" ? ceilings(found.rewardModels) : [];
        const title = names.join(", ");
        const looks = looksOf(series.map(({ name }) => name));
        const looking = series.map((one, i) => ({ ...one, look: looks[i] }));
        return { id: panel.replace(/\W/g, "-"), title, xLabel: "step", yLabel: names[0], series: looking, references };
      }
      throw new UserError(`none of the runs (${runs.map(({ name }) => name).join(", ")}) logs ${panel}`);
    });
    const logged = o.metrics!.flatMap((panel) => panel.split("+"));
    const title = o.title ?? basename(resolve(o.inputDir!));
    await files.writeFile(`${o.outputPath}.svg`, figureOf(title, specs));
    await writeJson(files, `${o.outputPath}.json`, {
      title,
      ...(o.description !== null && { description: o.description }),
      runs: await Promise.all(
        runs.map(async ({ name, title: label, verb, steps, evals }) => ({
          name,
          title: label,
          verb,
          metrics: Object.fromEntries(logged.map((metric) => [metric, pointsOf([...steps, ...evals], metric)])),
          ...(await flaggedTokens(files, join(o.inputDir!, name))),
        })),
      ),
      policies: found.policies,
      reward_models: found.rewardModels,
    });
    terminal.line(`figure: ${join(`${o.outputPath}.svg`)}, ${join(`${o.outputPath}.json`)}`);
  },
});

/** What accuracies can reach on pairs whose judge is known. */
function ceilings(models: readonly RewardResult[]): { name: string; y: number }[] {
  const best = models.find((model) => model.noise_ceiling !== null)?.noise_ceiling;
  const order = models.find((model) => model.order_ceiling !== undefined)?.order_ceiling;
  return [
    ...(best === undefined || best === null ? [] : [{ name: "perfect judge", y: best }]),
    ...(order === undefined ? [] : [{ name: "best score of single answers", y: order }]),
  ];
}

/** What the watch over hacked rewards warned of, where a run had one. */
async function flaggedTokens(files: Files, folder: string): Promise<{ flagged_tokens?: Row[] }> {
  const flagged = (await readJsonLines<Row>(files, join(folder, "monitor.jsonl"))).filter(
    (row) => row.flagged === true,
  );
  return flagged.length > 0 ? { flagged_tokens: flagged } : {};
}

type Row = Record<string, unknown>;

function pointsOf(rows: readonly Metrics[], metric: string): ChartPoint[] {
  return rows.flatMap((row) => {
    const [step, value] = [row.step, row[metric]];
    return typeof step === "number" && typeof value === "number" ? [[step, value] as const] : [];
  });
}
