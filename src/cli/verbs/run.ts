/** `webrlhf run`: the stages of a recipe in order; finished ones are skipped, the broken one goes on where it stopped. */
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { type Command, Option as Flag } from "commander";
import { type Overrides, parseRecipe, pathsIn, resolveRecipe, type Stage } from "../../open/recipe.ts";
import type { StageRecord } from "../../report/data.ts";
import { clock } from "../../report/text.ts";
import { clearRun } from "../../rlhf/run-folder.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles, type Files } from "../../runtime/files.ts";
import { readJson, writeJson } from "../../runtime/json-files.ts";
import { hasher, sha256File } from "../../runtime/sha256.ts";
import { readYaml, withOwners } from "../flags.ts";
import { type Context, Interrupted, type Verb } from "../verb.ts";
import { loadVerb, optionOwners, verbNames } from "./index.ts";
import { summaries } from "./summaries.ts";

export interface RunOptions extends Overrides {
  readonly dryRun?: boolean;
  readonly force?: boolean;
}

/** Runs the stages of a recipe: a path, or the name of one that comes with the program. */
export async function runRecipe(path: string, overrides: RunOptions, context: Context) {
  const files = await diskFiles();
  const file = await findRecipe(path);
  const recipe = parseRecipe(path, (await readYaml(file)).values);
  const verbs = new Map<string, Verb>();
  for (const { verb: name } of recipe.stages) {
    const verb = verbs.get(name) ?? (await loadVerb(name));
    if (verb) verbs.set(name, verb);
  }
  const settingsOf = (name: string) => verbs.get(name)?.settings ?? null;
  const names = verbNames();
  const { outputDir, stages } = await withOwners(
    (owners) => resolveRecipe(recipe, dirname(file), settingsOf, names, overrides, owners),
    optionOwners,
  );
  const { terminal } = context;
  const started = performance.now();
  terminal.line(`${terminal.style("bold", recipe.name)}: ${stages.length} stages, results in ${outputDir}`);
  const hashes = new Map<string, string>();
  for (const [order, stage] of stages.entries()) {
    const hash = await hashStage(stage, hashes);
    hashes.set(stage.name, hash);
    const state = overrides.force ? "new" : await stateOf(files, stage, hash);
    if (overrides.dryRun) {
      const what = {
        done: "finished, would be skipped",
        broken: "would go on where it stopped",
        other: "would run again, with other options",
        new: "would run",
      }[state];
      terminal.result(`${stage.name} (${stage.verb}): ${what}`);
      terminal.result(JSON.stringify(stage.shown, null, 2));
      continue;
    }
    if (state === "done") {
      terminal.line(`${terminal.style("green", stage.name)}: finished before, skipped`);
      continue;
    }
    if (state === "other") terminal.line(`${stage.name}: ${await whyAgain(files, stage)}`);
    await runStage(files, { stage, order, hash, resume: state === "broken" }, verbs.get(stage.verb)!, context);
  }
  if (!overrides.dryRun) {
    const seconds = (performance.now() - started) / 1000;
    terminal.line(`${terminal.style("bold", recipe.name)}: finished in ${clock(seconds)}, results in ${outputDir}`);
  }
}

interface Job {
  readonly stage: Stage;
  readonly order: number;
  readonly hash: string;
  readonly resume: boolean;
}

async function runStage(files: Files, { stage, order, hash, resume }: Job, verb: Verb, context: Context) {
  if (context.signal.aborted) throw new Interrupted("stopped");
  const { terminal } = context;
  terminal.line(`${terminal.style("bold", stage.title)}${resume ? " (going on where it stopped)" : ""}`);
  if (stage.idle.length > 0) terminal.line(`no effect here: ${stage.idle.join(", ")}`);
  const { name, title, options, shown, inputs } = stage;
  const record: StageRecord = { name, verb: stage.verb, title, hash, options: shown, inputs, order };
  const release = await files.claim!(stage.outputDir); // nothing of a run that is still going on is removed
  const begun = (await readJson(files, join(stage.outputDir, "stage.json"))) !== null;
  if (!resume && begun) await clearRun(files, stage.outputDir);
  await writeJson(files, join(stage.outputDir, "stage.json"), record);
  await release();
  const started = performance.now();
  await (await import("../run-verb.ts"))
    .runVerb(verb, options, { ...context, label: name, resume })
    .catch((error: unknown) => {
      throw error instanceof Interrupted ? new Interrupted("stopped; the same command goes on from here") : error;
    });
  const seconds = Math.round(performance.now() - started) / 1000;
  await writeJson(files, join(stage.outputDir, "done.json"), { ...record, seconds });
}

/** "other": the folder holds a stage that was begun with other options, inputs or files. */
type State = "done" | "broken" | "other" | "new";

async function stateOf(files: Files, stage: Stage, hash: string): Promise<State> {
  const recorded = async (file: string) =>
    (await readJson<StageRecord>(files, join(stage.outputDir, file)))?.hash ?? null;
  if ((await recorded("done.json")) === hash) return "done";
  const begun = await recorded("stage.json");
  if (begun === null) return "new";
  return begun === hash ? "broken" : "other";
}

/** Why a stage that ran before does not go on, or is not taken as it is. */
async function whyAgain(files: Files, stage: Stage): Promise<string> {
  const before = (await readJson<StageRecord>(files, join(stage.outputDir, "stage.json")))?.options ?? {};
  const now = stage.shown;
  const shown = (value: unknown) => JSON.stringify(value) ?? "not there";
  const changed = [...new Set([...Object.keys(before), ...Object.keys(now)])]
    .filter((key) => shown(before[key]) !== shown(now[key]))
    .map((key) => `${key} was ${shown(before[key])} and is ${shown(now[key])}`);
  const more = changed.length > 4 ? ` and ${changed.length - 4} more` : "";
  const what = changed.length === 0 ? "its inputs have changed" : changed.slice(0, 4).join(", ") + more;
  return `runs again, because ${what}`;
}

/** Over what decides a stage's result: its verb and options, the hashes of its input stages, the bytes of its input files. */
export async function hashStage(stage: Stage, earlier: ReadonlyMap<string, string>): Promise<string> {
  const hash = await hasher();
  const { output_dir: _, ...options } = stage.portable;
  hash.add(JSON.stringify([stage.verb, Object.entries(options).sort(([a], [b]) => (a < b ? -1 : 1))]));
  for (const name of stage.inputs) hash.add(`stage ${name} ${earlier.get(name)}`);
  for (const [key, value] of Object.entries(stage.options)) {
    if (key === "outputDir" || typeof value !== "string" || value.length > 4096) continue;
    const files = await Promise.all([...new Set(pathsIn(value))].map((path) => inputFiles(String(path))));
    for (const file of files.flat()) hash.add(`file ${key} ${basename(file)} ${await fingerprint(file)}`);
  }
  return (await hash.end()).slice(0, 32);
}

/** What a path stands for: a file, or the files of a model folder. */
async function inputFiles(path: string): Promise<string[]> {
  const info = await stat(path).catch(() => null);
  if (info?.isFile()) return [path];
  if (!info?.isDirectory()) return [];
  const names = await readdir(path);
  return ["config.json", "model.safetensors", "tokenizer.json"]
    .filter((n) => names.includes(n))
    .map((n) => join(path, n));
}

/** Reading gigabytes only to compare them would cost more than it saves: there the size must do. */
async function fingerprint(file: string): Promise<string | null> {
  const { size } = await stat(file);
  return size > 2 ** 28 ? `${size} bytes` : sha256File(await diskFiles(), file);
}

/** A path, or the name of one of the recipes that come with the program. */
async function findRecipe(path: string): Promise<string> {
  if (await stat(path).catch(() => null)) return path;
  const shipped = fileURLToPath(new URL("../../../recipes", import.meta.url));
  const known = (await readdir(shipped, { recursive: true }).catch(() => []))
    .filter((file) => file.endsWith(".yaml"))
    .map((file) => file.slice(0, -".yaml".length).split(sep).join("/"))
    .sort();
  const name = path.replace(/^recipes\//, "").replace(/\.ya?ml$/, "");
  if (known.includes(name)) return join(shipped, `${name}.yaml`);
  throw new UserError(`${path}: there is no such recipe; a path, or one of ${known.join(", ")}`);
}

/** Flags that commander does not know are the recipe's variables. */
export function variableFlags(words: readonly string[]): Record<string, string> {
  const vars: Record<string, string> = {};
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    if (!word.startsWith("--")) throw new UserError(`unexpected argument "${word}"`);
    const cut = word.indexOf("=");
    const name = (cut < 0 ? word : word.slice(0, cut)).slice(2);
    const value = cut < 0 ? words[++i] : word.slice(cut + 1);
    if (value === undefined) throw new UserError(`--${name} needs a value`);
    vars[name] = value;
  }
  return vars;
}

/** Adds the verb `run` to the program. */
export function registerRun(program: Command, makeContext: (label: string) => Context): void {
  program
    .command("run")
    .summary(summaries.run)
    .description(
      "Run a recipe: several stages in order. Finished stages are skipped, a broken one goes on where it stopped.",
    )
    .argument("<recipe>", "YAML file, or the name of a recipe that comes with webrlhf")
    .option("--output_dir <path>", "Folder for all stages' results (default: the recipe's)")
    .addOption(
      new Flag("--set <key=value>", "Set a variable or <stage>.<option>; may be repeated")
        .argParser((value: string, before: string[]) => [...before, value])
        .default([], "none"),
    )
    .option("--dry_run", "Print what would run, with every option")
    .option("--force", "Run finished stages again")
    .allowUnknownOption()
    .allowExcessArguments()
    .addHelpText(
      "after",
      `
Flags not listed here set the recipe's variables: --train pairs.jsonl.gz sets "train" under "vars:".

Examples:
  webrlhf run quickstart
  webrlhf run recipes/alpacaeval.yaml --train pairs-train.jsonl.gz --test pairs-test.jsonl.gz
  webrlhf run quickstart --output_dir runs/strict --set ppo.kl_coef=0.2 --set ppo.max_steps=40`,
    )
    .action(
      async (
        path: string,
        flags: { output_dir?: string; set: string[]; dry_run?: boolean; force?: boolean },
        command: Command,
      ) => {
        const vars = variableFlags(command.args.slice(1));
        const { output_dir: outputDir, set, dry_run: dryRun, force } = flags;
        await runRecipe(path, { outputDir, set, vars, dryRun, force }, makeContext("run"));
      },
    );
}
