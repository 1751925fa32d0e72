/** Makes commander commands out of verbs: flags, `--help`, config files. */
import { readFile } from "node:fs/promises";
import { Command, Option as Flag } from "commander";
import { LineCounter, parseDocument } from "yaml";
import { UserError } from "../runtime/errors.ts";
import { type Option, resolveOptions, type Source, type Table } from "./option.ts";
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

/** Reads a YAML mapping; a mistake in it is reported with file and line. */
export async function readYaml(path: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new UserError(`${path}: cannot be read (${(cause as NodeJS.ErrnoException).code ?? cause})`, { cause });
  }
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false, merge: true });
  const mistake = document.errors[0];
  if (mistake) {
    const { line, col } = lineCounter.linePos(mistake.pos[0]);
    throw new UserError(`${path}:${line}:${col}: ${mistake.message.split("\n")[0]}`);
  }
  const value: unknown = document.toJS() ?? {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UserError(`${path}: must hold "key: value" lines`);
  }
  return value as Record<string, unknown>;
}

/** What stands for a value in `--help`. */
const valueNames = {
  text: "text",
  path: "path",
  int: "int",
  float: "float",
  bool: "bool",
  choice: "name",
  list: "names",
  mixture: "names",
};

function flagOf(name: string, option: Option): Flag {
  const value = option.choices ? option.choices.join("|") : valueNames[option.kind];
  const notes: string[] = [];
  if (option.required) notes.push("required");
  else if (option.default !== null)
    notes.push(`default: ${Array.isArray(option.default) ? option.default.join(",") : option.default}`);
  if (option.aliases?.length) notes.push(`also --${option.aliases.join(", --")}`);
  const text = notes.length > 0 ? `${option.description} (${notes.join("; ")})` : option.description;
  const flag = new Flag(option.kind === "bool" ? `--${name} [${value}]` : `--${name} <${value}>`, text);
  return flag.helpGroup(`${option.group}:`);
}

/** The values that were given as flags, by option name as written in the table. */
function given(command: Command, table: Table): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  const parsed = command.opts<Record<string, unknown>>();
  for (const [key, option] of Object.entries(table)) {
    for (const name of [key, ...(option.aliases ?? [])]) if (parsed[name] !== undefined) values[name] = parsed[name];
  }
  return values;
}

/** The commander command of a verb. `makeContext` is asked for only when the verb really runs. */
export function commandOf(verb: Verb, makeContext: () => Context): Command {
  const command = new Command(verb.name).summary(verb.summary).description(`${verb.summary}.`);
  if (verb.argument) command.argument(`[${verb.argument}]`, verb.options[verb.argument].description);
  command.addOption(
    new Flag("--config <file>", "YAML file with these options as keys; flags win over it").helpGroup("Config:"),
  );
  for (const [name, option] of Object.entries(verb.options)) {
    command.addOption(flagOf(name, option));
    for (const alias of option.aliases ?? []) command.addOption(flagOf(alias, { ...option, aliases: [] }).hideHelp());
  }
  if (verb.examples.length > 0)
    command.addHelpText("after", `\nExamples:\n${verb.examples.map((e) => `  ${e}`).join("\n")}`);
  command.action(async (...args: unknown[]) => {
    const sources: Source[] = [];
    const config = command.opts<{ config?: string }>().config;
    if (config !== undefined) sources.push({ where: config, values: await readYaml(config) });
    const flags = given(command, verb.options);
    if (verb.argument && typeof args[0] === "string") flags[verb.argument] = args[0];
    sources.push({ where: "command line", values: flags });
    await verb.run(resolveOptions(verb.options, sources), makeContext());
  });
  return command;
}
