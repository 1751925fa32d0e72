/** From settings to flags, `--help` and config files, by way of commander. */
import { readFile } from "node:fs/promises";
import { Command, Option as Flag } from "commander";
import { LineCounter, parseDocument } from "yaml";
import { UserError } from "../runtime/errors.ts";
import {
  defaultWords,
  inFile,
  onCommandLine,
  type Setting,
  type SettingsSource,
  type SettingsTable,
  snakeCase,
} from "../settings/index.ts";
import { runVerb } from "./run-verb.ts";
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

/** A YAML mapping and the line of each of its keys. */
export interface Yaml {
  values: Record<string, unknown>;
  lines: Record<string, number>;
}

/** Reads a YAML mapping; a mistake in it is reported with file and line. */
export async function readYaml(path: string): Promise<Yaml> {
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
  const items =
    (document.contents as { items?: { key?: { value?: unknown; range?: [number] } }[] } | null)?.items ?? [];
  const lines = items.flatMap(({ key }) =>
    key?.range ? [[String(key.value), lineCounter.linePos(key.range[0]).line] as const] : [],
  );
  return { values: value as Record<string, unknown>, lines: Object.fromEntries(lines) };
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
  numbers: "numbers",
  mixture: "names",
};

function flagOf(name: string, setting: Setting): Flag {
  const value = setting.choices ? setting.choices.join("|") : valueNames[setting.kind];
  const standard = defaultWords(setting);
  const notes = [
    ...(setting.required ? ["required"] : standard === null ? [] : [`default: ${standard}`]),
    ...(setting.aka?.length ? [`also --${setting.aka.join(", --")}`] : []),
  ];
  const text = notes.length > 0 ? `${setting.help} (${notes.join("; ")})` : setting.help;
  const flag = new Flag(setting.kind === "bool" ? `--${name} [${value}]` : `--${name} <${value}>`, text);
  return flag.helpGroup(`${setting.group}:`);
}

/** The values that were given as flags, by the names that were written. */
function given(command: Command, table: SettingsTable): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  const parsed = command.opts<Record<string, unknown>>();
  for (const [key, { aka = [] }] of Object.entries(table)) {
    for (const name of [snakeCase(key), ...aka]) if (parsed[name] !== undefined) values[name] = parsed[name];
  }
  return values;
}

/** The commander command of a verb. `makeContext` is asked for only when the verb really runs. */
export function commandOf(verb: Verb, makeContext: () => Context): Command {
  const { table } = verb.settings;
  const command = new Command(verb.name).summary(verb.summary).description(`${verb.summary}.`);
  if (verb.argument) command.argument(`[${snakeCase(verb.argument)}]`, table[verb.argument].help);
  command.addOption(
    new Flag("--config <file>", "YAML file with these options as keys; flags win over it").helpGroup("Config:"),
  );
  for (const [key, setting] of Object.entries(table)) {
    command.addOption(flagOf(snakeCase(key), setting));
    for (const name of setting.aka ?? []) command.addOption(flagOf(name, { ...setting, aka: [] }).hideHelp());
  }
  if (verb.examples.length > 0)
    command.addHelpText("after", `\nExamples:\n${verb.examples.map((e) => `  ${e}`).join("\n")}`);
  command.action(async (...args: unknown[]) => {
    const sources: SettingsSource[] = [];
    const config = command.opts<{ config?: string }>().config;
    if (config !== undefined) {
      const { values, lines } = await readYaml(config);
      sources.push(inFile(values, config, lines));
    }
    const flags = given(command, table);
    if (verb.argument && typeof args[0] === "string") flags[snakeCase(verb.argument)] = args[0];
    sources.push(onCommandLine(flags));
    await runVerb(verb, verb.settings.resolve(sources), makeContext());
  });
  return command;
}
