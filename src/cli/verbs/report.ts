import { join } from "node:path";
import { buildReport, summarise } from "../../report/report.ts";
import { diskFiles } from "../../runtime/files.ts";
import { writeJson } from "../disk.ts";
import { reportOptions } from "../options/report.ts";
import { defineVerb } from "../verb.ts";
import { collectReport } from "./collect.ts";

export const reportVerb = defineVerb({
  name: "report",
  summary: "Make report.html and summary.json of finished runs",
  options: reportOptions,
  argument: "input_dir",
  examples: ["webrlhf report runs/quickstart", "webrlhf report out --title 'My reward model'"],
  async run(options, { terminal }) {
    const files = await diskFiles();
    const input = options.input_dir!;
    const output = options.output_dir ?? input;
    const found = await collectReport(files, input, options.title);
    const data = options.description === null ? found : { ...found, description: options.description };
    await files.writeFile(join(output, "report.html"), buildReport(data));
    await writeJson(files, join(output, "summary.json"), summarise(data));
    terminal.line(`report: ${join(output, "report.html")}, ${join(output, "summary.json")}`);
  },
});
