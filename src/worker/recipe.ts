/** The training stages of a recipe as a program: what `webrlhf run` trains from the same file. */
import { methods, parseRecipe, type Recipe, resolveRecipe, type Stage } from "../open/index.ts";
import { parseYaml } from "../open/yaml.ts";
import type { TrainEvent } from "../rlhf/events.ts";
import { readRecord, recordOf } from "../rlhf/record.ts";
import { UserError } from "../runtime/errors.ts";
import type { Program, RunContext } from "./contract.ts";
import { methodNamed, outputSettings, settingsOf, trainIn } from "./train.ts";

/** A recipe, and what is changed in it. */
export interface RecipeInput {
  /** YAML text, or what such a text says. */
  recipe: string | object;
  /** What `${recipe_dir}` means: an address, relative to the page where it begins with a dot. Default ".". */
  recipeDir?: string;
  /** Values of the recipe's variables. */
  vars?: Readonly<Record<string, string>>;
  /** `key=value`: a variable, or `<stage>.<option>`. */
  set?: readonly string[];
}

/** Events of a recipe: its stages first, then those of its trainers. */
export type RecipeEvent =
  | {
      type: "stages";
      /** Those that are trained, in order. */
      stages: { name: string; title: string; method: string }[];
      /** Those that train nothing, which are left to the command line: evaluations, reports. */
      leftOut: { name: string; verb: string }[];
    }
  | { type: "event"; stage: string; event: TrainEvent };

/**
 * Runs the training stages of a recipe one after the other, each in a folder of its name. A stage reads what an earlier one
 * left by `${output_dir}`, as with `webrlhf run`.
 */
export const recipeProgram: Program<RecipeInput, RecipeEvent> = {
  async *run(input, context) {
    const { recipe, leftOut } = await trainingOf(input);
    const { recipeDir = ".", vars, set } = input;
    const overrides = {
      outputDir: context.folder,
      ...(vars && { vars }),
      ...(set && { set: withoutStages(set, leftOut) }),
    };
    const { stages } = resolveRecipe(recipe, recipeDir, stageSettings, Object.keys(methods), overrides);
    yield {
      type: "stages",
      stages: stages.map(({ name, title, verb }) => ({ name, title, method: verb })),
      leftOut: leftOut.map(({ name, verb }) => ({ name, verb })),
    };
    for (const stage of stages) yield* trainStage(stage, context);
  },
};

async function* trainStage(
  { name, verb, options, outputDir }: Stage,
  context: RunContext,
): AsyncGenerator<RecipeEvent> {
  const told = (context.told as readonly RecipeEvent[]).flatMap((one) =>
    one.type === "event" && one.stage === name ? [one.event] : [],
  );
  // What was told may be ahead of what was saved: only the folder says that the stage's results are there.
  const record = await readRecord(context.files, recordOf(outputDir));
  if (record?.state === "finished" && told.some(({ type }) => type === "end")) return;
  const { overwriteOutputDir: _, ...values } = options as { overwriteOutputDir?: boolean };
  const events = trainIn(outputDir, methodNamed(verb), values, { ...context, told }, context.resumed);
  for await (const event of events) yield { type: "event", stage: name, event };
}

/** The recipe with the stages that train, and those that do not. */
async function trainingOf({ recipe: given }: RecipeInput): Promise<{ recipe: Recipe; leftOut: Recipe["stages"] }> {
  const value = typeof given === "string" ? (await parseYaml(given, "recipe")).values : given;
  const recipe = parseRecipe("recipe", value);
  const trains = ({ verb }: Recipe["stages"][number]) => Object.hasOwn(methods, verb);
  const stages = recipe.stages.filter(trains);
  if (stages.length === 0)
    throw new UserError(`${recipe.name} trains nothing: none of its stages is a training method`);
  return { recipe: { ...recipe, stages }, leftOut: recipe.stages.filter((stage) => !trains(stage)) };
}

/** What is set of stages that are left out changes nothing. */
const withoutStages = (set: readonly string[], leftOut: Recipe["stages"]): string[] =>
  set.filter((text) => !leftOut.some(({ name }) => text.replace(/^(vars|stages)\./, "").startsWith(`${name}.`)));

function stageSettings(verb: string) {
  if (!Object.hasOwn(methods, verb)) return null;
  return settingsOf(methods[verb as keyof typeof methods], outputSettings);
}
