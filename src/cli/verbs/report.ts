import { join } from "node:path";
import { collectReport } from "../../report/collect.ts";
import { buildReport } from "../../report/report.ts";
import { summarise } from "../../report/summary.ts";
import { data, logging } from "../../rlhf/settings.ts";
import { diskFiles } from "../../runtime/files.ts";
import { writeJson } from "../../runtime/json-files.ts";
import { settings } from "../../settings/index.ts";
import { defineVerb } from "../verb.ts";

const reportSettings = settings("report", {
  inputDir: data.path(null, "Folder of a recipe's stages, or of one training run", { required: true }),
  title: logging.text(null, "Title of the page"),
  description: logging.text(null, "A sentence below the title"),
  outputDir: logging.path(null, "Folder for report.html and summary.json; default: input_dir"),
});

export const reportVerb = defineVerb({
  name: "report",
  summary: "Make report.html and summary.json of finished runs",
  settings: reportSettings,
  argument: "inputDir",
  examples: ["webrlhf report runs/quickstart", "webrlhf report out --title 'My reward model'"],
  endsAtOnce: true,
  async run(options, { terminal }) {
    const files = await diskFiles();
    const input = options.inputDir!;
    const output = options.outputDir ?? input;
    const found = await collectReport(files, input, options.title);
    const data = options.description === null ? found : { ...found, description: options.description };
    await files.writeFile(join(output, "report.html"), buildReport(data));
    await writeJson(files, join(output, "summary.json"), summarise(data));
    terminal.line(`report: ${join(output, "report.html")}, ${join(output, "summary.json")}`);
  },
});
