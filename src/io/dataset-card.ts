/**
 * The data files of a Hugging Face dataset folder: by the `configs` in the front matter of its README.md, or else by the
 * usual names (`train.jsonl`, `data/train-00000-of-00002.parquet`, `test/part.jsonl.gz`).
 */
import { UserError } from "../runtime/errors.ts";

export interface DatasetPart {
  /** One of the dataset's configurations; default the only one, or the one called default. */
  config?: string | null | undefined;
  split: string;
}

interface Config {
  name: string;
  chosen: boolean;
  /** Patterns by split. */
  files: Map<string, string[]>;
}

const DATA = /\.(parquet|jsonl|ndjson|json|csv|tsv|txt)(\.gz)?$/i;
const NO_DATA = /(^|\/)(\.|_|README|LICENSE|dataset_infos?\.json|state\.json|config\.json)/i;
const ALIASES: Record<string, string[]> = {
  train: ["train", "training"],
  validation: ["validation", "valid", "val", "dev"],
  test: ["test", "testing", "eval", "evaluation"],
};

/**
 * @param names the folder's files, in subfolders too, with "/"
 * @param card the text of README.md, or null
 * @param where the dataset's name, for messages
 * @throws UserError naming the splits there are
 */
export async function chooseDataFiles(
  names: readonly string[],
  card: string | null,
  part: DatasetPart,
  where: string,
): Promise<string[]> {
  const configs = card === null ? [] : await readConfigs(card, `${where}/README.md`);
  const data = names.filter((name) => DATA.test(name) && !NO_DATA.test(name)).sort();
  const splits = configs.length > 0 ? byCard(configs, data, part, where) : byName(data, part, where);
  const found = splits.get(part.split) ?? aliased(splits, part.split);
  if (found && found.length > 0) return found;
  const known = [...splits].filter(([, files]) => files.length > 0).map(([split]) => split);
  throw new UserError(
    `${where}: there is no split "${part.split}"; ` +
      (known.length > 0
        ? `it has ${known.join(", ")} (dataset_train_split, dataset_test_split)`
        : nothingToRead(names)),
  );
}

/** Why there are no data files, where others are there. */
function nothingToRead(names: readonly string[]): string {
  const other = names.find((name) => /\.(xz|zst|bz2|zip|arrow)$/i.test(name));
  if (other === undefined) return "no data files were found";
  return (
    `${other} is of a kind that is not read; known are .parquet, .jsonl, .json, .csv, .tsv and .txt, also .gz. Of most datasets the ` +
    "hub has Parquet files under org/name@refs/convert/parquet"
  );
}

function byCard(
  configs: readonly Config[],
  data: readonly string[],
  part: DatasetPart,
  where: string,
): Map<string, string[]> {
  const wanted = part.config ?? undefined;
  const config =
    wanted === undefined
      ? (configs.find((one) => one.chosen || one.name === "default") ?? (configs.length === 1 ? configs[0] : undefined))
      : configs.find((one) => one.name === wanted);
  if (!config) {
    const list = configs.map((one) => one.name).join(", ");
    throw new UserError(
      wanted === undefined
        ? `${where}: the dataset has several configurations, choose one with dataset_config: ${list}`
        : `${where}: there is no configuration "${wanted}"; there are: ${list}`,
    );
  }
  const splits = new Map<string, string[]>();
  for (const [split, patterns] of config.files) {
    splits.set(
      split,
      patterns.flatMap((pattern) => data.filter(matcher(pattern, where))),
    );
  }
  return splits;
}

function byName(data: readonly string[], part: DatasetPart, where: string): Map<string, string[]> {
  const inConfig = part.config ? data.filter((name) => name.split("/").includes(part.config as string)) : data;
  if (part.config && part.config !== "default" && inConfig.length === 0) {
    throw new UserError(
      `${where}: there is no folder for the configuration "${part.config}", and README.md names none`,
    );
  }
  const files = inConfig.length > 0 ? inConfig : data;
  const splits = new Map<string, string[]>();
  for (const split of new Set([part.split, ...Object.keys(ALIASES)])) {
    const words = ALIASES[split] ?? [split];
    const word = new RegExp(
      `(^|[^A-Za-z0-9])(${words.map((one) => one.replace(/\W/g, "\\$&")).join("|")})([^A-Za-z0-9]|$)`,
      "i",
    );
    const found = files.filter((name) => word.test(name));
    if (found.length > 0) splits.set(split, found);
  }
  // Files that say nothing about splits are what there is to train on.
  if (splits.size === 0 && files.length > 0) splits.set("train", [...files]);
  return splits;
}

function aliased(splits: Map<string, string[]>, split: string): string[] | undefined {
  for (const words of Object.values(ALIASES)) {
    if (!words.includes(split)) continue;
    for (const word of words) if (splits.has(word)) return splits.get(word);
  }
  return undefined;
}

async function readConfigs(card: string, file: string): Promise<Config[]> {
  const front = /^\ufeff?---\r?\n([\s\S]*?)\r?\n---(\r?\n|$)/.exec(card);
  if (!front) return [];
  const { parse } = await import("yaml");
  let header: unknown;
  try {
    header = parse(front[1], { maxAliasCount: 100 });
  } catch (error) {
    throw new UserError(`${file}: its front matter is not YAML: ${(error as Error).message.split("\n")[0]}`);
  }
  const { configs } = (header ?? {}) as { configs?: unknown };
  if (!Array.isArray(configs)) return [];
  return configs.map((entry: unknown): Config => {
    const {
      config_name: name,
      default: chosen,
      data_files: files,
      data_dir: dir,
    } = (entry ?? {}) as Record<string, unknown>;
    const base = typeof dir === "string" ? `${dir.replace(/^\.?\/+|\/+$/g, "")}/` : "";
    const splits = new Map<string, string[]>();
    const add = (split: unknown, paths: unknown) => {
      const list = (Array.isArray(paths) ? paths : [paths]).map((path) => {
        if (typeof path !== "string") throw new UserError(`${file}: a path in "data_files" must be a text`);
        return base + path.replace(/^\.\//, "");
      });
      splits.set(String(split), [...(splits.get(String(split)) ?? []), ...list]);
    };
    if (typeof files === "string" || (Array.isArray(files) && files.every((one) => typeof one === "string"))) {
      add("train", files);
    } else if (Array.isArray(files)) {
      for (const one of files) add((one as { split?: unknown })?.split ?? "train", (one as { path?: unknown })?.path);
    } else if (typeof files === "object" && files !== null) {
      for (const [split, paths] of Object.entries(files)) add(split, paths);
    } else if (base !== "") {
      for (const split of Object.keys(ALIASES)) add(split, `**/*${split}*`);
    }
    return { name: String(name ?? "default"), chosen: chosen === true, files: splits };
  });
}

/** Whether a name fits a pattern with *, ?, ** and {a,b}. Patterns only choose among the folder's own files. */
function matcher(pattern: string, where: string): (name: string) => boolean {
  if (/^([/\\]|[A-Za-z]:|[a-z]+:\/\/)|(^|[/\\])\.\.([/\\]|$)/.test(pattern)) {
    throw new UserError(`${where}/README.md: the data file ${JSON.stringify(pattern)} is outside the dataset's folder`);
  }
  const stars = pattern.match(/\*+/g)?.length ?? 0;
  if (pattern.length > 300 || stars > 6)
    throw new UserError(`${where}/README.md: the pattern ${pattern.slice(0, 60)} is too long`);
  let depth = 0;
  const source = pattern.replace(/\*\*\/|\*+|[?{},]|[.+^$()|[\]\\]/g, (part) => {
    if (part === "**/") return "(?:.*/)?";
    if (part === "**") return ".*";
    if (part.startsWith("*")) return "[^/]*";
    if (part === "?") return "[^/]";
    if (part === "{") return depth++ === 0 ? "(?:" : "\\{";
    if (part === "}") return depth > 0 && --depth === 0 ? ")" : "\\}";
    if (part === ",") return depth > 0 ? "|" : ",";
    return `\\${part}`;
  });
  if (depth !== 0) throw new UserError(`${where}/README.md: the pattern ${pattern} has an open brace`);
  const regex = new RegExp(`^${source}$`);
  return (name) => regex.test(name);
}
