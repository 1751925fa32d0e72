/** Model cards: what a model is, from what and how it was made, and how it is opened; for people and for the hub. */
import { type RunRecord, readRecord, recordOf } from "../rlhf/record.ts";
import type { Files } from "../runtime/files.ts";
import { readJson, readJsonLines, readText } from "../runtime/json-files.ts";
import { basename, join } from "../runtime/paths.ts";
import { VERSION } from "../runtime/version.ts";
import { DerivedDefault, type SettingsTable, snakeCase } from "../settings/index.ts";
import { repoNamed } from "./hub.ts";
import { isOfOutput } from "./inputs.ts";

/** The card's name in a folder. */
export const CARD = "README.md";

/** Stands in cards that this program wrote; those without are somebody's own. */
const MARK =
  "<!-- Written by webrlhf, and again when the model changes: take this line out to keep what you write here. -->";

/** What a card says besides what lies in the folder. */
export interface CardFacts {
  verb: string;
  /** The settings of the verb, for their defaults. */
  table: SettingsTable;
}

/**
 * Writes the card of a finished folder from its record, its configuration and its metrics. A card that somebody else wrote stays.
 * @returns whether it was written
 */
export async function writeCard(files: Files, folder: string, facts: CardFacts): Promise<boolean> {
  const before = await readText(files, join(folder, CARD));
  if (before !== null && !before.includes(MARK)) return false;
  await files.writeFile(join(folder, CARD), await cardOf(files, folder, facts));
  return true;
}

/** The text of a folder's card. */
async function cardOf(files: Files, folder: string, facts: CardFacts): Promise<string> {
  const { stringify } = await import("yaml");
  const record = await readRecord(files, recordOf(folder));
  const made = await madeIn(files, folder);
  const base = await baseOf(files, made, record);
  const results = await resultsIn(files, folder);
  const datasets = await hubNames(files, datasetNames(record), "datasets");
  const license = await licenseOf(files, record);
  const from = base ?? startOf(record);
  // Not the folder's name: the same run gives the same bytes wherever it is.
  const name = from === null ? facts.verb : `${basename(from)}-${facts.verb}`;
  const head = {
    library_name: made.adapter ? "peft" : "transformers",
    ...(base !== null && { base_model: base }),
    ...(datasets.length > 0 && { datasets }),
    ...(license !== null && { license }),
    tags: ["webrlhf", facts.verb, ...(made.adapter ? ["lora"] : []), ...(made.scorer ? ["reward-model"] : [])],
    ...(results.length > 0 && { "model-index": [{ name, results: [resultOf(results, datasets)] }] }),
  };
  const lines = [
    "---",
    stringify(head).trimEnd(),
    "---",
    MARK,
    `# ${name}`,
    "",
    `${made.adapter ? "An adapter" : made.scorer ? "A reward model" : "A language model"}${from === null ? "" : ` from \`${from}\``}, ` +
      `made by \`webrlhf ${facts.verb}\` (webrlhf ${record?.webrlhf || VERSION}).`,
    ...table("Settings that differ from their defaults", ["setting", "value"], changed(facts.table, record)),
    ...table(
      "Results",
      ["metric", "value"],
      results.map(([metric, value]) => [metric, short(value)]),
    ),
    "",
    "## Use",
    "",
    ...usage(made, base ?? "the base model"),
    "",
  ];
  return lines.join("\n");
}

/** What lies in a folder. */
interface Made {
  adapter: boolean;
  scorer: boolean;
  /** The folder within it that holds the model: "" or "policy". */
  below: string;
  /** What an adapter's own file says that its base is. */
  named: string | null;
}

async function madeIn(files: Files, folder: string): Promise<Made> {
  for (const below of ["", "policy"]) {
    const at = (name: string) => join(join(folder, below), name);
    const adapter = await readJson<{ task_type?: string; base_model_name_or_path?: string }>(
      files,
      at("adapter_config.json"),
    );
    if (adapter) {
      return {
        adapter: true,
        scorer: adapter.task_type === "SEQ_CLS",
        below,
        named: adapter.base_model_name_or_path ?? null,
      };
    }
    const config = await readJson<{ architectures?: string[] }>(files, at("config.json"));
    if (config) {
      const scorer = (config.architectures ?? []).some((name) =>
        /SequenceClassification|ForScore|RewardModel/.test(name),
      );
      return { adapter: false, scorer, below, named: null };
    }
  }
  return { adapter: false, scorer: false, below: "", named: null };
}

/** The repositories on the hub that some names mean. */
async function hubNames(files: Files, names: readonly unknown[], kind: "models" | "datasets"): Promise<string[]> {
  const found = new Set<string>();
  for (const name of names) {
    const repo = typeof name === "string" ? await repoNamed(name, kind, { files }) : null;
    if (repo) found.add(repo.id);
  }
  return [...found];
}

const asked = (record: RunRecord | null, key: string): unknown => record?.settings[key];

const startOf = (record: RunRecord | null): string | null => {
  const start = asked(record, "model_name_or_path") ?? asked(record, "adapter_path");
  return typeof start === "string" ? withoutFolders(start) : null;
};

async function baseOf(files: Files, { named }: Made, record: RunRecord | null): Promise<string | null> {
  const starts = (settings: Readonly<Record<string, unknown>>) => [
    settings.base_model_name_or_path,
    settings.model_name_or_path,
  ];
  const inputs = (record?.inputs ?? []).filter(({ setting }) => /^(base_)?model_name_or_path$/.test(setting));
  const candidates = [
    named,
    ...inputs.map(({ name }) => name),
    ...(record ? starts(record.settings) : []),
    ...(record?.parents ?? []).flatMap(({ settings }) => starts(settings)),
  ];
  return (await hubNames(files, candidates, "models"))[0] ?? null;
}

/** The datasets of a run: the parts of a mixture are "name:proportion". */
const datasetNames = (record: RunRecord | null): string[] =>
  [asked(record, "dataset_name")]
    .filter((name) => typeof name === "string")
    .flatMap((name) => name.split(","))
    .map((part) => part.replace(/:[\d.]+$/, ""));

/** The licence that the card of the model says which it was made from, where that lies here. */
async function licenseOf(files: Files, record: RunRecord | null): Promise<string | null> {
  for (const key of ["base_model_name_or_path", "model_name_or_path", "adapter_path"]) {
    const path = asked(record, key);
    const card = typeof path === "string" ? await readText(files, join(path, CARD)) : null;
    const found = /^---\n[\s\S]*?^license:[ \t]*["']?([\w.-]+)["']?[ \t]*$[\s\S]*?^---$/m.exec(card ?? "")?.[1];
    if (found) return found;
  }
  return null;
}

/** The newest number of every evaluation. */
async function resultsIn(files: Files, folder: string): Promise<[metric: string, value: number][]> {
  const newest = new Map<string, number>();
  for (const line of await readJsonLines<Record<string, unknown>>(files, join(folder, "metrics.jsonl"))) {
    for (const [key, value] of Object.entries(line)) {
      if (/^eval_/.test(key) && typeof value === "number" && Number.isFinite(value)) newest.set(key, value);
    }
  }
  return [...newest].filter(([key]) => !/runtime|per_second/.test(key));
}

/** As the hub's pages of results read it. */
const resultOf = (results: readonly (readonly [string, number])[], [dataset = "held-out data"]: readonly string[]) => ({
  task: { type: "text-generation" },
  dataset: { name: dataset, type: dataset.includes("/") ? dataset : "other" },
  metrics: results.map(([type, value]) => ({ type, name: type, value })),
});

/** Where results go, and who computed them: neither says anything of the model. */
const ELSEWHERE = ["Output", "Cluster"];

/** Settings of the record that are not the defaults. Folders and servers of this place are nobody's business. */
function changed(table: SettingsTable, record: RunRecord | null): [string, string][] {
  if (!record) return [];
  const values = Object.fromEntries(Object.keys(table).map((key) => [key, record.settings[snakeCase(key)]]));
  const dialect = typeof values.dialect === "string" ? values.dialect : null;
  const rows: [string, string][] = [];
  for (const [key, setting] of Object.entries(table)) {
    const value = values[key];
    if (value === undefined || setting.secret || isOfOutput(key) || ELSEWHERE.includes(setting.group)) continue;
    const { default: usual } = setting;
    const own = usual instanceof DerivedDefault ? usual.value(values, dialect) : usual;
    if (JSON.stringify(value) === JSON.stringify(own)) continue;
    const shown =
      typeof value === "string"
        ? withoutFolders(value)
        : Array.isArray(value)
          ? value.map(String).map(withoutFolders).join(",")
          : value;
    rows.push([snakeCase(key), typeof shown === "string" ? shown : JSON.stringify(shown)]);
  }
  return rows;
}

/** A text of which each part, of a list or a mixture, is without what is this place's own. */
const withoutFolders = (text: string): string => text.split(",").map(withoutFolder).join(",");

/** Of a path from the root or the home the last part; nothing of an address that is not public, nor a name or key in one that is. */
function withoutFolder(text: string): string {
  if (/\b(http|ws|nats|tls):\/\//.test(text)) return "a server";
  if (text.includes("://")) return text.replace(/\/\/[^/\s]*@/, "//");
  const [, kind = "", path] = /^([a-z]{2,}:)?([/\\~].*|[A-Za-z]:[/\\].*)$/.exec(text) ?? [];
  return path === undefined ? text : kind + basename(path);
}

const short = (value: number): string => String(Number(value.toPrecision(5)));

function table(title: string, head: readonly [string, string], rows: readonly (readonly string[])[]): string[] {
  if (rows.length === 0) return [];
  const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll(/\s+/g, " ").slice(0, 200);
  return [
    "",
    `## ${title}`,
    "",
    `| ${head.join(" | ")} |`,
    "|---|---|",
    ...rows.map((row) => `| ${row.map((text) => cell(text)).join(" | ")} |`),
  ];
}

function usage({ adapter, scorer, below }: Made, base: string): string[] {
  const kind = scorer ? "AutoModelForSequenceClassification" : "AutoModelForCausalLM";
  const within = below === "" ? "" : `, subfolder="${below}"`;
  const python = adapter
    ? [
        "from peft import PeftModel",
        `from transformers import ${kind}`,
        "",
        `base = ${kind}.from_pretrained("${base}"${scorer ? ", num_labels=1" : ""})`,
        `model = PeftModel.from_pretrained(base, "path/or/name"${within})`,
      ]
    : [
        `from transformers import AutoTokenizer, ${kind}`,
        "",
        `tokenizer = AutoTokenizer.from_pretrained("path/or/name"${within})`,
        `model = ${kind}.from_pretrained("path/or/name"${within})`,
      ];
  const verb = scorer ? "npx webrlhf score answers.jsonl --reward_model_path" : "npx webrlhf chat --model_name_or_path";
  const path = below === "" ? "path/or/name" : `path/${below}`;
  return [
    "```python",
    ...python,
    "```",
    "",
    "```sh",
    `${verb} ${path}${scorer ? " --output_file scored.jsonl" : ""}`,
    "```",
  ];
}
