/**
 * A recipe is a list of named stages, each a verb with its options:
 *
 *     name: quickstart
 *     output_dir: runs/quickstart            # --output_dir changes it
 *     vars: { train: null, steps: 60 }       # --train path, --steps 10; null must be given
 *     stages:
 *       - name: reward
 *         verb: reward
 *         options: { dataset_name: "${vars.train}", max_steps: "${vars.steps}" }
 *       - name: ppo
 *         verb: ppo
 *         options: { reward_model_path: "${output_dir}/reward" }
 *
 * References are `${output_dir}`, `${recipe_dir}` (the recipe's own folder) and `${vars.x}`; nothing is evaluated.
 * A stage's output_dir is `${output_dir}/<stage name>`.
 */
import * as v from "valibot";
import { isUserError, UserError } from "../runtime/errors.ts";
import {
  didYouMean,
  inFile,
  type Settings,
  settingNamed,
  snakeCase,
  withoutEffect,
  withoutSecrets,
} from "../settings/index.ts";

const scalar = v.union([v.string(), v.number(), v.boolean()]);
/** A mixture of datasets as a map: a proportion, or proportion and path, by name. */
const mixture = v.record(v.string(), v.union([scalar, v.record(v.string(), scalar)]));
const variable = v.nullable(scalar);
const stageSchema = v.strictObject({
  name: v.pipe(v.string(), v.regex(/^[A-Za-z0-9][\w.-]*$/, "a stage's name is letters, digits, dots, hyphens")),
  verb: v.string(),
  title: v.optional(v.string()),
  options: v.optional(v.record(v.string(), v.nullable(v.union([scalar, v.array(scalar), mixture]))), {}),
});
const recipeSchema = v.strictObject({
  name: v.pipe(
    v.string(),
    v.regex(
      /^[\p{L}\p{N}][\p{L}\p{N}_. -]*$/u,
      "must be letters, digits, dots, hyphens: it names the folder of results",
    ),
  ),
  description: v.optional(v.string()),
  output_dir: v.optional(v.string()),
  vars: v.optional(v.record(v.string(), variable), {}),
  stages: v.pipe(v.array(stageSchema), v.minLength(1, "must hold at least one stage")),
});

/** Value of a variable of a recipe; null for one that must be given. */
export type RecipeVariable = string | number | boolean | null;

/** A stage as a recipe writes it. */
export interface RecipeStage {
  name: string;
  verb: string;
  title?: string | undefined;
  /** By the names under which people write them, with references. */
  options: Record<string, unknown>;
}

/** A recipe as it is written, its form checked. */
export interface Recipe {
  name: string;
  description?: string | undefined;
  output_dir?: string | undefined;
  vars: Record<string, RecipeVariable>;
  stages: RecipeStage[];
  /** Path as given, for messages. */
  readonly file: string;
}

/** A stage whose references are resolved and whose options are checked. */
export interface Stage {
  readonly name: string;
  readonly verb: string;
  readonly title: string;
  readonly outputDir: string;
  /** Resolved by the verb's settings. */
  readonly options: Record<string, unknown>;
  /** The options as people write them, less secrets: what is printed and recorded. */
  readonly shown: Record<string, unknown>;
  /** As `shown`, with the two folders still written as references: equal wherever the recipe runs. */
  readonly portable: Record<string, unknown>;
  /** Names of earlier stages whose folders these options name. */
  readonly inputs: readonly string[];
  /** Names of other programs among the options, which change nothing. */
  readonly idle: readonly string[];
}

/** Checks the form of a recipe; a wrong key comes with the nearest right one. */
export function parseRecipe(file: string, value: unknown): Recipe {
  const parsed = v.safeParse(recipeSchema, value);
  if (parsed.success) {
    const names = new Set<string>();
    for (const { name } of parsed.output.stages) {
      if (names.has(name)) throw new UserError(`${file}: two stages are called "${name}"`);
      names.add(name);
    }
    return { ...parsed.output, file };
  }
  throw new UserError(parsed.issues.map((issue) => `${file}: ${mistakeIn(issue)}`).join("\n"));
}

function mistakeIn(issue: v.InferIssue<typeof recipeSchema>): string {
  const path = v.getDotPath(issue) ?? "";
  const key = path.split(".").at(-1) ?? "";
  if (issue.type === "strict_object" && issue.expected === "never") {
    const known = Object.keys(path.startsWith("stages.") ? stageSchema.entries : recipeSchema.entries);
    return `unknown key "${path}"${didYouMean(key, known)}`;
  }
  const missing = issue.received === "undefined" ? "is missing" : `${issue.message}`;
  return `${path === "" ? "" : `"${path}" `}${missing}`;
}

/** Flags that change a recipe. */
export interface Overrides {
  /** Folder of all results. Default: the recipe's. */
  readonly outputDir?: string;
  /** `--<variable> value` flags. */
  readonly vars?: Readonly<Record<string, string>>;
  /** `--set key=value`: a variable, or `<stage>.<option>`. */
  readonly set?: readonly string[];
}

/** Puts flags into the recipe, resolves every reference and checks every option, before anything runs. */
export function resolveRecipe(
  recipe: Recipe,
  recipeDir: string,
  settingsOf: (verb: string) => Settings | null,
  verbNames: readonly string[],
  overrides: Overrides = {},
  owners?: (name: string) => readonly string[],
): { outputDir: string; stages: Stage[] } {
  const { file } = recipe;
  const vars: Record<string, RecipeVariable> = { ...recipe.vars };
  let outputDir = overrides.outputDir;
  const stageOptions = new Map(
    recipe.stages.map((stage) => [stage.name, { ...stage.options } as Record<string, unknown>]),
  );
  const setVariable = (name: string, value: string, where: string): void => {
    if (!Object.hasOwn(vars, name)) {
      const known = [...Object.keys(vars), "output_dir", "set", "dry_run", "force"];
      throw new UserError(`${where}: ${file} has no variable "${name}"${didYouMean(name, known)}`);
    }
    vars[name] = value;
  };
  for (const [name, value] of Object.entries(overrides.vars ?? {})) setVariable(name, value, `--${name}`);
  for (const setting of overrides.set ?? []) {
    const cut = setting.indexOf("=");
    if (cut < 1) throw new UserError(`--set ${setting.split(/[\s:=]/)[0]}: write key=value`);
    const [key, value] = [setting.slice(0, cut).replace(/^(vars|stages)\./, ""), setting.slice(cut + 1)];
    const dot = key.lastIndexOf(".");
    const target = dot > 0 ? stageOptions.get(key.slice(0, dot)) : undefined;
    if (target) setOption(target, key.slice(dot + 1), value);
    else if (key === "output_dir") outputDir = value;
    else setVariable(key, value, `--set ${key}`);
  }
  const base = outputDir ?? recipe.output_dir ?? `runs/${recipe.name}`;

  const stages: Stage[] = [];
  const mistakes: string[] = [];
  const addStage = ({ name, verb, title }: Recipe["stages"][number]): void => {
    const where = `${file}: stage "${name}"`;
    const settings = settingsOf(verb);
    if (settings === null) throw new UserError(`${where}: there is no verb "${verb}"${didYouMean(verb, verbNames)}`);
    const { table } = settings;
    const raw: Record<string, unknown> = { ...stageOptions.get(name) };
    if (
      Object.hasOwn(table, "outputDir") &&
      !Object.keys(raw).some((key) => settingNamed(table, key) === "outputDir")
    ) {
      raw.output_dir = `\${output_dir}/${name}`;
    }
    const resolve = (folders: Record<string, string>): Record<string, unknown> => {
      const values = substitute(raw, { vars, folders, where }) as Record<string, unknown>;
      return settings.resolve([inFile(values, `stage "${name}" of ${file}`)], owners);
    };
    const options = resolve({ output_dir: base, recipe_dir: recipeDir });
    // biome-ignore-start lint/suspicious/noTemplateCurlyInString: the reference itself is meant
    const portable = resolve({ output_dir: "${output_dir}", recipe_dir: "${recipe_dir}" });
    // biome-ignore-end lint/suspicious/noTemplateCurlyInString: the reference itself is meant
    const inputs = stages.filter((earlier) => namesFolder(options, earlier.outputDir)).map((earlier) => earlier.name);
    const folder = typeof options.outputDir === "string" ? options.outputDir : `${base}/${name}`;
    stages.push({
      name,
      verb,
      title: title ?? name,
      outputDir: folder,
      options,
      shown: snakeCased(withoutSecrets(table, options)),
      portable: snakeCased(withoutSecrets(table, portable)),
      inputs,
      idle: withoutEffect(options),
    });
  };
  for (const stage of recipe.stages) {
    try {
      addStage(stage);
    } catch (error) {
      if (!isUserError(error)) throw error;
      mistakes.push(error.message);
    }
  }
  if (mistakes.length > 0) throw new UserError(mistakes.join("\n"));
  return { outputDir: base, stages };
}

/** Options by the names under which people write them. */
const snakeCased = (options: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(options).map(([key, value]) => [snakeCase(key), value]));

/** Sets an option, whatever spelling the recipe used for it. */
function setOption(target: Record<string, unknown>, name: string, value: string): void {
  const twin = Object.keys(target).find((key) => key.replaceAll("-", "_") === name.replaceAll("-", "_"));
  target[twin ?? name] = value;
}

interface Scope {
  readonly vars: Readonly<Record<string, RecipeVariable>>;
  readonly folders: Readonly<Record<string, string>>;
  readonly where: string;
}

function substitute(value: unknown, scope: Scope): unknown {
  if (Array.isArray(value)) return value.map((item) => substitute(item, scope));
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [String(substitute(key, scope)), substitute(item, scope)]),
    );
  }
  if (typeof value !== "string") return value;
  const whole = /^\$\{([^}]*)\}$/.exec(value);
  // A value that is one reference keeps the variable's type.
  if (whole) return lookUp(whole[1], scope);
  return value.replace(/\$\{([^}]*)\}/g, (_, reference: string) => String(lookUp(reference, scope)));
}

function lookUp(reference: string, { vars, folders, where }: Scope): RecipeVariable {
  if (Object.hasOwn(folders, reference)) return folders[reference];
  const name = reference.startsWith("vars.") ? reference.slice(5) : null;
  if (name === null || !Object.hasOwn(vars, name)) {
    const known = [...Object.keys(folders), ...Object.keys(vars).map((key) => `vars.${key}`)];
    throw new UserError(`${where}: unknown reference \${${reference}}${didYouMean(reference, known)}`);
  }
  const value = vars[name];
  if (value === null) throw new UserError(`${where}: needs --${name} <value>`);
  return value;
}

/** What may be paths in an option's value; a mixture of datasets holds several. */
export const pathsIn = (value: unknown): unknown[] =>
  [value].flat().flatMap((text) => (typeof text === "string" ? [text, ...text.split(/[,:]/)] : [text]));

/** True when an option (not the stage's own output folder) is that folder, lies in it, or holds it. */
function namesFolder(options: Record<string, unknown>, folder: string): boolean {
  return Object.entries(options).some(
    ([key, value]) =>
      key !== "outputDir" &&
      pathsIn(value).some((path) => {
        if (typeof path !== "string" || path === "") return false;
        return path === folder || path.startsWith(`${folder}/`) || folder.startsWith(`${path.replace(/\/$/, "")}/`);
      }),
  );
}
