import { recordFolder } from "../../report/record-runs.ts";
import { recordingText } from "../../report/recording.ts";
import { data, logging } from "../../rlhf/settings.ts";
import { diskFiles } from "../../runtime/files.ts";
import { settings } from "../../settings/index.ts";
import { defineVerb } from "../verb.ts";
import { readRuns } from "./report.ts";
import { summaries } from "./summaries.ts";

const exportSettings = settings("export", {
  toPage: data.path(null, "Folder of a training run, or of a recipe's stages, to be replayed in a page", {
    required: true,
  }),
  outputPath: logging.path(null, "The recording's file", { required: true }),
  title: logging.text(null, "Title of the recording; default: the folder's name"),
});

export const exportVerb = defineVerb({
  name: "export",
  summary: summaries.export,
  settings: exportSettings,
  argument: "outputPath",
  examples: ["webrlhf export --to-page runs/quickstart quickstart.json"],
  endsAtOnce: true,
  product: (o) => ({ file: o.outputPath! }),
  inputs: (o) => readRuns(o.toPage!, "to_page"),
  async run({ toPage, outputPath, title }, { terminal }) {
    const files = await diskFiles();
    const recording = await recordFolder(files, toPage!, title ?? undefined);
    await files.writeFile(outputPath!, recordingText(recording));
    const rows = recording.runs.map(({ name, metrics }) => `${name} (${metrics.length} rows)`);
    terminal.line(`recording: ${outputPath}: ${rows.join(", ")}`);
  },
});
