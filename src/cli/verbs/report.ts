import { join } from "node:path";
import type { FoundInput } from "../../open/inputs.ts";
import { collectReport, REPORTED, runsIn } from "../../report/collect.ts";
import { buildReport } from "../../report/report.ts";
import { summarise } from "../../report/summary.ts";
import { data, logging } from "../../rlhf/settings.ts";
import { diskFiles } from "../../runtime/files.ts";
import { writeJson } from "../../runtime/json-files.ts";
import { settings } from "../../settings/index.ts";
import { defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

const reportSettings = settings("report", {
  inputDir: data.list(null, "Folders of a recipe's stages, or of single training runs: several are compared", {
    required: true,
  }),
  title: logging.text(null, "Title of the page"),
  description: logging.text(null, "A sentence below the title"),
  outputDir: logging.path(null, "Folder for report.html and summary.json; default: the first input_dir"),
});

/** The runs of a folder, as a record of what was made of them names them. */
export async function readRuns(folder: string, setting = "input_dir"): Promise<FoundInput[]> {
  const files = await diskFiles();
  const runs = await runsIn(files, folder);
  return runs.map((path) => ({ setting, name: path, at: { path, files }, only: REPORTED }));
}

/** Where the report goes. */
const placeOf = ({ inputDir, outputDir }: { inputDir: readonly string[] | null; outputDir: string | null }): string =>
  outputDir ?? (inputDir as readonly string[])[0];

export const reportVerb = defineVerb({
  name: "report",
  summary: summaries.report,
  settings: reportSettings,
  argument: "inputDir",
  examples: [
    "webrlhf report runs/quickstart",
    "webrlhf report out --title 'My reward model'",
    "webrlhf report out/seed-1 out/seed-2 out/seed-3",
  ],
  endsAtOnce: true,
  product: (o) => ({ file: join(placeOf(o), "report.html") }),
  inputs: async (o) => (await Promise.all(o.inputDir!.map((folder) => readRuns(folder)))).flat(),
  async run(options, { terminal }) {
    const files = await diskFiles();
    const output = placeOf(options);
    const found = await collectReport(files, options.inputDir!, options.title);
    const data = options.description === null ? found : { ...found, description: options.description };
    await files.writeFile(join(output, "report.html"), buildReport(data));
    await writeJson(files, join(output, "summary.json"), summarise(data));
    terminal.line(`report: ${join(output, "report.html")}, ${join(output, "summary.json")}`);
  },
});
