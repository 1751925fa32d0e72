/** What the record of a run says of the data and models that its settings name. */
import type { RunInput, RunParent } from "../rlhf/record.ts";
import { readRecord, recordBeside, recordOf } from "../rlhf/record.ts";
import type { Files } from "../runtime/files.ts";
import { isPartial } from "../runtime/files.ts";
import { basename, dirname, join } from "../runtime/paths.ts";
import { sha256File, sha256Text } from "../runtime/sha256.ts";
import { type SettingsTable, snakeCase } from "../settings/index.ts";
import { exists, type Located } from "./hub.ts";
import { judgeFile } from "./llm-judge.ts";
import { isOfHub } from "./push-settings.ts";

/** Something that a run reads, and where it is. */
export interface FoundInput {
  readonly setting: string;
  readonly name: string;
  /** Null where it is nothing that can be read from here: made, or on a server. */
  readonly at: Pick<Located, "path" | "files"> | null;
  /** The files of a folder that are read. Default: of a model what belongs to it, of a dataset all. */
  readonly only?: readonly string[];
}

/** Whether a setting says where something goes, or how a run begins: it is no part of what the run is. */
export const isOfOutput = (key: string): boolean => /^(output|record|resume|overwrite)/.test(key) || isOfHub(key);

/**
 * What the settings name, in the order of the table, and the bases of adapters among it.
 * @param located where models are that were opened by name
 */
export async function inputsOf(
  table: SettingsTable,
  values: object,
  files: Files,
  located: ReadonlyMap<string, Located> = new Map(),
): Promise<FoundInput[]> {
  const found: FoundInput[] = [];
  const rest = new Map(located);
  for (const [key, { kind }] of Object.entries(table)) {
    const value = (values as Record<string, unknown>)[key];
    if (isOfOutput(key) || !(kind === "path" || kind === "mixture" || naming.test(key))) continue;
    for (const name of [value].flat().filter((one): one is string => typeof one === "string" && one !== "")) {
      const setting = snakeCase(key);
      for (const part of kind === "mixture" ? partsOf(name) : [name]) {
        const known = located.get(part);
        const path = judgeFile(part);
        const at = known ?? (path.length < 4096 && (await exists(files, path)) ? { path, files } : null);
        rest.delete(part);
        if (at || part === name) found.push({ setting, name: part, at });
      }
    }
  }
  for (const [name, at] of rest) found.push({ setting: "base_model_name_or_path", name, at });
  return found;
}

/** Of the texts and lists those that name something to read. */
const naming = /(DatasetName|Path|File|rewardFuncs)$/;

/** A mixture is "name:proportion:path,..."; a path alone may hold any of these signs. */
const partsOf = (text: string): string[] => [...new Set([text, ...text.split(/[,:]/)])].filter((part) => part !== "");

/** The inputs with the hashes of what they are, as a record has them. */
export async function hashed(inputs: readonly FoundInput[]): Promise<RunInput[]> {
  const done = new Map<string, Promise<string | null>>();
  const hash = ({ at, only }: FoundInput) => {
    if (!at) return null;
    const known = done.get(at.path) ?? hashOf(at.files, at.path, only);
    done.set(at.path, known);
    return known;
  };
  return Promise.all(
    inputs.map(async (input) => ({ setting: input.setting, name: input.name, sha256: await hash(input) })),
  );
}

async function hashOf(files: Files, path: string, only?: readonly string[]): Promise<string | null> {
  const lines: string[] = [];
  const names = only ? (await files.list(path)).filter((name) => only.includes(name)) : await contentOf(files, path);
  for (const name of names) lines.push(`${await sha256File(files, join(path, name))}  ${name}\n`);
  return lines.length > 0 ? sha256Text(lines.join("")) : sha256File(files, path);
}

/** Files that logs, records and other programs' optimizers leave in a model's folder. */
const noPart =
  /^(stage|done|trainer_state|evaluation|summary)\.json$|(^|\.)run\.json$|\.(jsonl|svg|html|md|bin|pt|pth|ot|h5|msgpack|onnx)$|^\.|^(checkpoint-|iteration_)\d+$/;

/** Files of a folder, those of its folders included: of a model what belongs to it, of a dataset all. */
async function contentOf(files: Files, folder: string): Promise<string[]> {
  const inside = await files.list(folder);
  const isModel = inside.some((name) => /^(adapter_)?config\.json$/.test(name));
  const found: string[] = [];
  for (const name of inside) {
    if (isPartial(name) || name.startsWith(".") || (isModel && noPart.test(name))) continue;
    const below = (await files.list(join(folder, name))).length > 0;
    if (!below) found.push(name);
    else if (!isModel) for (const file of await contentOf(files, join(folder, name))) found.push(`${name}/${file}`);
  }
  return found;
}

/** The records of the runs that made inputs. */
export async function parentsOf(inputs: readonly FoundInput[]): Promise<RunParent[]> {
  const parents = new Map<string, RunParent>();
  for (const { at } of inputs) {
    if (!at) continue;
    for (const [path, place] of recordPlaces(at.path)) {
      const record = await readRecord(at.files, place);
      if (!record) continue;
      const { verb, webrlhf, settings, inputs, steps } = record;
      parents.set(path, { path, verb, webrlhf, settings, inputs, steps, parents: record.parents.map((of) => of.path) });
      break;
    }
  }
  return [...parents.values()];
}

/** A part of a run's folder (a checkpoint, PPO's policy, the pairs of an iteration) was made by that run. */
function recordPlaces(path: string): [made: string, place: string][] {
  const [folder, above] = [dirname(path), dirname(dirname(path))];
  const part = /^(checkpoint-\d+|iteration_\d+|policy|value|model)$/;
  return [
    [path, recordOf(path)],
    [path, recordBeside(path)],
    ...(part.test(basename(path)) || /\.\w+$/.test(path) ? [[folder, recordOf(folder)] as [string, string]] : []),
    ...(part.test(basename(folder)) ? [[above, recordOf(above)] as [string, string]] : []),
  ];
}
