#!/usr/bin/env node
/**
 * Writes the docs' pages of settings, one per training method, from the records that the trainers resolve their settings
 * by. Nothing of them is written by hand or kept in the repository: `npm run docs` makes them anew.
 *
 *   node scripts/settings-pages.mjs   writes docs/settings/*.md
 */
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { fromSource } from "./source.mjs";

const root = path.resolve(import.meta.dirname, "..");

/** @returns the training methods by name, the trainers' records, and the words that `--help` has for settings */
const library = () =>
  fromSource(async (load) => {
    const { methods } = await load("/src/open/index.ts");
    const { defaultWords, nullable, snakeCase } = await load("/src/settings/index.ts");
    return { methods, trainers: await load("/src/rlhf/index.ts"), words: { defaultWords, nullable, snakeCase } };
  });

const code = (text) => `\`${text}\``;

/** Text as a cell of a Markdown table. */
const cell = (text) => text.replace(/[\\|<>*_]/g, "\\$&").replace(/\s+/g, " ");

const typeNames = {
  int: "integer",
  float: "number",
  bool: "true or false",
  list: "list of names",
  numbers: "list of numbers",
  mixture: "dataset or mixture",
};

function typeOf(setting, { nullable }) {
  const { kind, choices } = setting;
  const type = choices ? choices.map(code).join(", ") : (typeNames[kind] ?? kind);
  return nullable(setting) && !setting.required ? `${type}, or none` : type;
}

/** The numbers that a setting takes: "≥ 1", "> 0, ≤ 1"; nothing where all go. */
export function rangeOf({ min, max, exclusiveMin }) {
  const low = min === undefined ? [] : [`${exclusiveMin ? ">" : "≥"} ${min}`];
  const high = max === undefined ? [] : [`≤ ${max}`];
  return [...low, ...high].join(", ");
}

function tableOf(entries, words) {
  const rows = entries.map(([key, setting]) => {
    const standard = setting.required ? "must be set" : (words.defaultWords(setting) ?? "none");
    const also = (setting.aka ?? []).map(code).join(", ");
    const cells = [typeOf(setting, words), rangeOf(setting), cell(standard), cell(setting.help), also];
    return `| ${[code(key), code(words.snakeCase(key)), ...cells].join(" | ")} |`;
  });
  return ["| in code | flag, YAML | type | range | default | meaning | also |", `|${"---|".repeat(7)}`, ...rows].join(
    "\n",
  );
}

/** A table for each heading, in the order in which the record first names it. */
function sections(entries, words) {
  const headings = [...new Set(entries.map(([, { group }]) => group))];
  const under = (heading) => entries.filter(([, { group }]) => group === heading);
  return headings.map((heading) => `### ${heading}\n\n${tableOf(under(heading), words)}`);
}

/** The defaults that dialects differ in: a row per setting, a column per dialect; null for a record without dialects. */
function dialectTable(trainer, { snakeCase }) {
  const names = trainer.table.dialect?.choices;
  if (!names) return null;
  const all = names.map((dialect) => trainer({ dialect }));
  const shown = (value) => (value === null ? "none" : cell(String(value)));
  const rows = Object.keys(trainer.table)
    .filter((key) => new Set(all.map((values) => String(values[key]))).size > 1)
    .map((key) => `| ${[code(snakeCase(key)), ...all.map((values) => shown(values[key]))].join(" | ")} |`);
  const head = `| setting | ${names.map(code).join(" | ")} |\n|${"---|".repeat(names.length + 1)}`;
  const text = `What is not set has the default of the \`dialect\`, which is ${code(trainer.table.dialect.default)} unless another is named.`;
  return `## Defaults by dialect\n\n${text}\n\n${head}\n${rows.join("\n")}`;
}

/**
 * The page of a method.
 * @param method name, summary and settings, as `defineMethod` of webrlhf/open makes it
 * @param trainer the record of its trainer
 * @param words `defaultWords`, `nullable` and `snakeCase` of the settings
 */
export function pageOf({ name, summary, settings }, trainer, words) {
  const entries = Object.entries(settings.table);
  const isOwn = ([key]) => Object.hasOwn(trainer.table, key);
  const [own, named] = [entries.filter(isOwn), entries.filter((entry) => !isOwn(entry))];
  const parts = [
    `---\ntitle: ${name}\n---\n\n# Settings of \`${name}\`\n\n${summary}.`,
    dialectTable(trainer, words),
    "## Settings of the trainer",
    ...sections(own, words),
    ...(named.length > 0 ? ["## Names of models and data, for the command line and `webrlhf/open`"] : []),
    ...sections(named, words),
  ];
  return `${parts.filter((part) => part !== null).join("\n\n")}\n`;
}

/** The page above those of the methods. */
function overview(methods) {
  const rows = Object.values(methods).map(({ name, summary }) => `| [${code(name)}](${name}.md) | ${cell(summary)} |`);
  const names = Object.keys(methods).map((name) => `  - ${name}.md\n`);
  return (
    `---\ntitle: Settings\nchildren:\n${names.join("")}---\n\n# Settings\n\n` +
    "A setting has one name: `klCoef` in code is `--kl_coef` on the command line and `kl_coef` in YAML. Foreign spellings, in\n" +
    "the column “also”, mean the same.\n\n" +
    `| method | |\n|---|---|\n${rows.join("\n")}\n`
  );
}

/** All pages by their files' names. */
export function pages({ methods, trainers, words }) {
  const records = Object.values(trainers).filter((value) => typeof value === "function" && value.table && value.title);
  const own = Object.values(methods).map((method) => {
    const trainer = records.find(({ title }) => title === method.name);
    if (!trainer) throw new Error(`webrlhf/rlhf exports no settings of ${method.name}`);
    return [`${method.name}.md`, pageOf(method, trainer, words)];
  });
  return { "settings.md": overview(methods), ...Object.fromEntries(own) };
}

async function main() {
  const folder = path.join(root, "docs", "settings");
  const written = pages(await library());
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(written)) fs.writeFileSync(path.join(folder, name), text);
  console.log(`docs/settings: ${Object.keys(written).length} pages`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
