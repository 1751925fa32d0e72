/** From settings to flags, `--help` and config files, by way of commander. */
import { readFile } from "node:fs/promises";
import { Command, Option as Flag } from "commander";
import type { Yaml } from "../open/yaml.ts";
import { isUserError, UserError } from "../runtime/errors.ts";
import {
  defaultWords,
  inFile,
  onCommandLine,
  type Setting,
  type SettingsSource,
  type SettingsTable,
  snakeCase,
  withoutEffect,
} from "../settings/index.ts";
import type { Context, Verb } from "./verb.ts";

/** `--learning-rate` is `--learning_rate`, and `--no_x` is `--x=false`; values and what follows `--` stay as they are. */
export function normaliseFlags(argv: readonly string[]): string[] {
  const end = argv.indexOf("--");
  return argv.map((word, i) => {
    if (!word.startsWith("--") || word === "--" || (end >= 0 && i > end)) return word;
    const cut = word.indexOf("=");
    const name = (cut < 0 ? word : word.slice(0, cut)).slice(2).replaceAll("-", "_");
    if (cut < 0 && name.startsWith("no_")) return `--${name.slice(3)}=false`;
    return `--${name}${cut < 0 ? "" : word.slice(cut)}`;
  });
}

/** Reads a YAML mapping from a file; a mistake in it is reported with file and line. */
export async function readYaml(path: string): Promise<Yaml> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new UserError(`${path}: cannot be read (${(cause as NodeJS.ErrnoException).code ?? cause})`, { cause });
  }
  const { parseYaml } = await import("../open/yaml.ts");
  return parseYaml(text, path);
}

/** What stands for a value in `--help`. */
const valueNames = {
  text: "text",
  path: "path",
  int: "int",
  float: "float",
  bool: "bool",
  switch: "bool|path",
  choice: "name",
  list: "names",
  numbers: "numbers",
  mixture: "names",
};

const requiredWords = ({ unless }: Setting): string =>
  unless === undefined
    ? "required"
    : `required without ${[unless]
        .flat()
        .map((other) => `--${snakeCase(other)}`)
        .join(" or ")}`;

function flagOf(name: string, setting: Setting): Flag {
  const value = setting.choices ? setting.choices.join("|") : valueNames[setting.kind];
  const standard = defaultWords(setting);
  const notes = [
    ...(setting.required ? [requiredWords(setting)] : standard === null ? [] : [`default: ${standard}`]),
    ...(setting.aka?.length ? [`also --${setting.aka.join(", --")}`] : []),
  ];
  const text = notes.length > 0 ? `${setting.help} (${notes.join("; ")})` : setting.help;
  const several = setting.kind === "list" || setting.kind === "numbers" ? "..." : "";
  const optional = setting.kind === "bool" || setting.kind === "switch";
  const flag = new Flag(optional ? `--${name} [${value}]` : `--${name} <${value}${several}>`, text);
  return flag.helpGroup(`${setting.group}:`);
}

/** The values that were given as flags, by the names that were written. */
function given(command: Command, table: SettingsTable): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  const parsed = command.opts<Record<string, unknown>>();
  for (const [key, { aka = [] }] of Object.entries(table)) {
    for (const name of [snakeCase(key), ...aka]) {
      const value = parsed[name];
      if (value !== undefined) values[name] = Array.isArray(value) ? value.join(",") : value;
    }
  }
  return values;
}

/** Flags that commander does not know, by the names that were written, and the bare words that stand before them. */
function strange(args: readonly string[]): { words: string[]; flags: Record<string, unknown> } {
  const flags: Record<string, unknown> = {};
  const first = args.findIndex((word) => /^-./.test(word) && !isNumber(word));
  const words = first < 0 ? [...args] : args.slice(0, first);
  for (let i = words.length; i < args.length; i++) {
    const cut = args[i].indexOf("=");
    const name = args[i].slice(0, cut < 0 ? undefined : cut).replace(/^--/, "");
    const values: string[] = cut < 0 ? [] : [args[i].slice(cut + 1)];
    while (cut < 0 && i + 1 < args.length && (!args[i + 1].startsWith("-") || isNumber(args[i + 1])))
      values.push(args[++i]);
    flags[name] = values.length === 0 ? true : values.join(",");
  }
  return { words, flags };
}

const isNumber = (word: string): boolean => word.trim() !== "" && Number.isFinite(Number(word));

/** A file that a bare word names where a verb takes none: `webrlhf ppo ppo_config.json`. */
const isConfig = (word: string | undefined): word is string => /\.(json|ya?ml)$/i.test(word ?? "");

/** Says which verbs have an option of a name; they are loaded when they are asked for. */
export type Owners = () => Promise<(name: string) => readonly string[]>;

/** Runs `resolve`, and once more with all verbs at hand where something is wrong, so that the error may name them. */
export async function withOwners<R>(
  resolve: (owners?: (name: string) => readonly string[]) => R,
  owners: Owners | undefined,
): Promise<R> {
  try {
    return resolve();
  } catch (error) {
    if (!owners || !isUserError(error)) throw error;
    return resolve(await owners());
  }
}

/** The commander command of a verb. `makeContext` is asked for only when the verb really runs. */
export function commandOf(verb: Verb, makeContext: () => Context, owners?: Owners): Command {
  const { table } = verb.settings;
  const bare = [verb.argument ?? []].flat();
  const command = new Command(verb.name).summary(verb.summary).description(`${verb.summary}.`);
  const many = (name: string) => table[name].kind === "list";
  for (const name of bare) command.argument(`[${snakeCase(name)}${many(name) ? "..." : ""}]`, table[name].help);
  command.allowUnknownOption().allowExcessArguments(); // what is strange is told with all other mistakes
  command.addOption(
    new Flag("--config <file>", "YAML or JSON file with these options as keys; flags win over it").helpGroup("Config:"),
  );
  for (const [key, setting] of Object.entries(table)) {
    command.addOption(flagOf(snakeCase(key), setting));
    for (const name of setting.aka ?? []) command.addOption(flagOf(name, { ...setting, aka: [] }).hideHelp());
  }
  if (verb.examples.length > 0)
    command.addHelpText("after", `\nExamples:\n${verb.examples.map((e) => `  ${e}`).join("\n")}`);
  command.action(async () => {
    const sources: SettingsSource[] = [];
    const { words, flags: others } = strange(command.args);
    let { config } = command.opts<{ config?: string }>();
    if (config === undefined && bare.length === 0 && isConfig(words[0])) config = words.shift();
    if (config !== undefined) {
      const { values, lines } = await readYaml(config);
      sources.push(inFile(values, config, lines));
    }
    const flags: Record<string, unknown> = { ...given(command, table), ...others };
    for (const name of bare) {
      if (words.length > 0) flags[snakeCase(name)] ??= many(name) ? words.splice(0).join(",") : words.shift();
    }
    if (words.length > 0) {
      const rest = words.map((word) => JSON.stringify(word)).join(", ");
      throw new UserError(`unexpected ${rest}: options are written --name value; see webrlhf ${verb.name} --help`);
    }
    sources.push(onCommandLine(flags));
    const values = await withOwners((others) => verb.settings.resolve(sources, others), owners);
    const context = makeContext();
    const idle = withoutEffect(values);
    if (idle.length > 0) context.terminal.line(`no effect here: ${idle.join(", ")}`);
    const { runVerb } = await import("./run-verb.ts");
    await runVerb(verb, values, context);
  });
  return command;
}
