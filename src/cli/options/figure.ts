import type { Table } from "../option.ts";
import { data, logging } from "./shared.ts";

export const figureOptions = {
  input_dir: data.path(null, "Folder of a recipe's stages", { required: true }),
  runs: data.list(
    null,
    "Names of the training runs to compare; default: all. Titles that differ after a comma share a colour",
  ),
  metrics: data.list(null, "Logged metrics, a panel for each; a+b puts several into one panel", { required: true }),
  title: logging.text(null, "Title of the figure; default: the folder's name"),
  description: logging.text(null, "A sentence on what there is to see, for the JSON file"),
  output_path: logging.path(null, "Where the figure goes, without .svg and .json", { required: true }),
} satisfies Table;
