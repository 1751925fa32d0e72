/** A lesson's run as a recipe, for `webrlhf run recipe.yaml` in a terminal. */
import type { Json } from "./types.ts";

export const RECIPE_FILE = "recipe.yaml";
export const RECIPE_LINE = `webrlhf run ${RECIPE_FILE}`;

/** One stage on the start model. Settings have the library's names, and get the program's. */
export interface RecipeStage {
  /** Its folder. */
  name: string;
  title: string;
  verb: string;
  settings: Readonly<Record<string, string | number | boolean>>;
}

/** A run's trainings, one after the other. */
export interface RecipeOfRun {
  /** The recipe's name: results are in `runs/<name>`. */
  name: string;
  description: string;
  /** What else one has to know who runs it: lines. */
  notes?: readonly string[];
  stages: readonly RecipeStage[];
}

/** Where an earlier stage's model lies. */
export const madeBy = (stage: string): string => `\${output_dir}/${stage}`;

const snakeCased = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
/** JSON is YAML; what needs no quotes is nicer without. */
const yaml = (value: Json): string =>
  typeof value === "string" &&
  /^[a-z][\w./-]*(:[\w./-]+)*$/.test(value) &&
  !/^(true|false|null|yes|no|on|off|y|n)$/.test(value)
    ? value
    : JSON.stringify(value);

/** The recipe of a run; the start model is a variable. */
export const recipeOf = ({ name, description, notes = [], stages }: RecipeOfRun): string =>
  [
    "# Gives the curve of the page, bit for bit on the same adapter:",
    `#   ${RECIPE_LINE}`,
    "# Where the model lies elsewhere:",
    `#   ${RECIPE_LINE} --model node_modules/webrlhf/models/world-sft`,
    ...notes.map((note) => `# ${note}`),
    `name: ${yaml(name)}`,
    `description: ${yaml(description)}`,
    "",
    "vars:",
    "  # The language model to start from.",
    "  model: models/world-sft",
    "",
    "stages:",
    ...stages.flatMap(({ name: stage, title, verb, settings }) => [
      `  - name: ${yaml(stage)}`,
      `    title: ${yaml(title)}`,
      `    verb: ${yaml(verb)}`,
      "    options:",
      `      model_name_or_path: \${vars.model}`,
      ...Object.entries(settings).map(([key, value]) => `      ${snakeCased(key)}: ${yaml(value)}`),
    ]),
    "",
  ].join("\n");
