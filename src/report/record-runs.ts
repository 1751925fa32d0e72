/** Recordings out of what runs leave in folders, on a disk or in a zip file, and out of single files. */
import { RECORD, readRecord, recordOf } from "../rlhf/record.ts";
import { METRICS, SAMPLES } from "../rlhf/run-lines.ts";
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { readJson } from "../runtime/json-files.ts";
import { absolute, basename, join } from "../runtime/paths.ts";
import { unzipFiles } from "../runtime/unzip.ts";
import type { StageRecord } from "./data.ts";
import {
  checkSize,
  type Recording,
  type RunTables,
  readMetrics,
  readRecording,
  readSamples,
  recordingLimits,
  recordingOf,
} from "./recording.ts";

/** The name of a recording among a run's files. */
export const RECORDING = "recording.json";

/**
 * Records the training run in a folder, or those in the folders of a recipe's stages.
 * @throws UserError where there is none, and naming the file and line that is damaged
 */
export async function recordFolder(files: Files, folder: string, title?: string): Promise<Recording> {
  const found: { tables: RunTables; order: number; webrlhf: string; adapter: string | null }[] = [];
  for (const path of [folder, ...(await files.list(folder)).map((name) => inside(folder, name))]) {
    if (!(await files.list(path)).includes(METRICS)) continue;
    const run = await readRecord(files, recordOf(path));
    const stage =
      (await readJson<Partial<StageRecord>>(files, inside(path, "done.json"))) ??
      (await readJson<Partial<StageRecord>>(files, inside(path, "stage.json")));
    const samples = (await files.list(path)).includes(SAMPLES)
      ? readSamples(await text(files, inside(path, SAMPLES)), inside(path, SAMPLES))
      : [];
    const name = stage?.name ?? basename(absolute(path));
    found.push({
      tables: {
        ...{ name, title: stage?.title ?? name, verb: run?.verb ?? stage?.verb ?? null },
        ...{ settings: run?.settings ?? {}, samples },
        metrics: readMetrics(await text(files, inside(path, METRICS)), inside(path, METRICS)),
      },
      order: Number(stage?.order ?? 0),
      webrlhf: run?.webrlhf ?? "",
      adapter: run?.adapter ?? null,
    });
  }
  if (found.length === 0) throw new UserError(`${folder || "this file"} holds no training run: no ${METRICS} is in it`);
  found.sort((a, b) => a.order - b.order); // folders come by name
  return recordingOf(
    {
      title: title ?? basename(absolute(folder)),
      webrlhf: found.find(({ webrlhf }) => webrlhf !== "")?.webrlhf ?? null,
      adapter: found.find(({ adapter }) => adapter !== null)?.adapter ?? null,
      runs: found.map(({ tables }) => tables),
    },
    folder,
  );
}

/**
 * Reads a file that somebody gave: a recording, a zip file of a run's folder or with a recording in it, or a metrics.jsonl.
 * Nothing of a zip file is unpacked but these tables.
 * @throws UserError naming the file, and the line or key that is wrong
 */
export async function readRun(name: string, file: Blob): Promise<Recording> {
  const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  if (head[0] === 0x50 && head[1] === 0x4b) return readZip(name, file);
  checkSize(file.size, name);
  const content = await file.text();
  // A recording is one object; where the first line alone is one, it is a table.
  const [first] = content.trimStart().split("\n", 1);
  return isRow(first)
    ? recordingOf({ title: stem(name), runs: [{ name: stem(name), metrics: readMetrics(content, name) }] }, name)
    : readRecording(content, name);
}

async function readZip(name: string, file: Blob): Promise<Recording> {
  try {
    const { bytes } = recordingLimits;
    const files = await unzipFiles(file, {
      maxFiles: 10_000,
      maxBytes: 4 * bytes,
      maxCompressed: bytes,
      only: isTable,
    });
    let folder = "";
    for (;;) {
      const names = await files.list(folder);
      if (names.includes(RECORDING)) return readRecording(await text(files, inside(folder, RECORDING)), RECORDING);
      const only = names.length === 1 ? inside(folder, names[0]) : null;
      if (only === null || (await files.list(only)).length === 0) break;
      folder = only; // a packed folder is all there is
    }
    return await recordFolder(files, folder, folder === "" ? stem(name) : undefined);
  } catch (error) {
    throw new UserError(`${name}: ${(error as Error).message}`, { cause: error });
  }
}

const isTable = (path: string): boolean =>
  [RECORDING, METRICS, SAMPLES, RECORD, "done.json", "stage.json"].includes(basename(path));

function isRow(line: string): boolean {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null && !Array.isArray(value) && !("format" in value);
  } catch {
    return false;
  }
}

async function text(files: Files, path: string): Promise<string> {
  const file = await files.open(path);
  if (!file) throw new UserError(`${path} is missing`);
  try {
    checkSize(file.size, path);
    return new TextDecoder().decode(await file.read(0, file.size));
  } finally {
    await file.close();
  }
}

/** "" is the root of a zip file. */
const inside = (folder: string, name: string): string => (folder === "" ? name : join(folder, name));
const stem = (name: string): string => name.replace(/\.[^.]*$/, "").slice(0, recordingLimits.name) || name;
