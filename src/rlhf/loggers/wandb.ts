/**
 * Weights & Biases' offline runs: a folder with a log in LevelDB's format (its documentation: doc/log_format.md of LevelDB), each
 * record a protobuf `Record` of wandb's published definitions. `wandb sync` uploads the folder; nothing here talks to a server.
 */
import { type ProtoBytes, proto, protoFields } from "../../io/protobuf.ts";
import { crc32 } from "../../runtime/crc32.ts";
import type { Files } from "../../runtime/files.ts";
import { joinedBytes } from "../../runtime/joined-bytes.ts";
import { join } from "../../runtime/paths.ts";
import { type LoggedMetrics, type LoggedRun, type MetricsLogger, trackedNames } from "./logger.ts";

/** Where a run's folder for wandb lies, and what it is called there. */
export interface WandbOptions {
  /** The run's folder; the offline run is `wandb/offline-run-...` in it. */
  outputDir: string;
  /** Default "huggingface", as transformers'. */
  project?: string | null;
  /** Default: what the server makes up. */
  runName?: string | null;
}

/**
 * Writes a run's numbers as an offline run of wandb, by transformers' names ("train/loss", "eval/loss", over
 * "train/global_step"), with the settings as its config. A run that goes on is the same run there, cut back to its checkpoint.
 */
export function wandbLogger(files: Files, { outputDir, project, runName }: WandbOptions): MetricsLogger {
  const folder = join(outputDir, "wandb");
  let path = "";
  let size = 0;
  let lines = 0;
  let records = 0;
  const began = Date.now() / 1000;
  const summary = new Map<string, number>();

  const write = async (...fields: ProtoBytes[]) => {
    const framed = frames(proto.whole(proto.int(1, ++records), ...fields), size);
    await files.append(path, framed);
    size += framed.length;
  };

  return {
    name: "wandb",
    async start(run) {
      const before = (await files.list(folder)).filter((name) => name.startsWith(PREFIX));
      const kept = run.step === 0 ? undefined : before.at(-1);
      for (const name of before) if (name !== kept) await files.remove(join(folder, name));
      const id = kept?.split("-").at(-1) ?? freshId();
      path = join(folder, `${kept ?? `${PREFIX}${stamp(new Date())}-${id}`}/run-${id}.wandb`);
      const old = kept === undefined ? null : await files.read(path);
      const payloads = (old === null ? [] : payloadsOf(old)).filter((payload) => isKept(payload, run.step));
      const pieces = [HEADER];
      size = HEADER.length;
      for (const payload of payloads) {
        pieces.push(frames(payload, size));
        size += (pieces.at(-1) as Uint8Array).length;
      }
      records = payloads.length;
      const history = payloads.map((payload) => itemsOf(payload)).filter((items) => items.size > 0);
      lines = history.length;
      for (const items of history) for (const [name, value] of items) if (!/^_/.test(name)) summary.set(name, value);
      await files.writeFile(path, joinedBytes(pieces));
      if (payloads.length === 0) for (const record of opening(id, run, { project, runName })) await write(record);
    },
    async log(step, metrics) {
      const now = Date.now() / 1000;
      const numbers = Object.fromEntries([...trackedNames(metrics), [GLOBAL_STEP, step]]) as LoggedMetrics;
      for (const [name, value] of Object.entries(numbers)) summary.set(name, value);
      const own = { _step: lines, _timestamp: now, _runtime: now - began };
      const items = Object.entries({ ...numbers, ...own }).map(([name, value]) => item(name, number(value)));
      await write(proto.message(HISTORY, ...items, proto.message(2, proto.int(1, lines))));
      lines++;
    },
    async end(state) {
      await write(proto.message(SUMMARY, ...[...summary].map(([name, value]) => item(name, number(value)))));
      // What wandb itself gives for a run that is interrupted.
      await write(proto.message(EXIT, proto.int(1, state === "finished" ? 0 : 255)));
      await files.sync?.(path);
    },
  };
}

const PREFIX = "offline-run-";
const GLOBAL_STEP = "train/global_step";

/** Fields of `Record`. */
const HISTORY = 2;
const SUMMARY = 3;
const EXIT = 18;

const item = (name: string, json: string): ProtoBytes => proto.message(1, proto.text(1, name), proto.text(16, json));

/** A number as wandb's JSON has it, which knows NaN and Infinity. */
const number = (value: number): string => (Number.isFinite(value) ? JSON.stringify(value) : String(value));

const freshId = (): string =>
  [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => (byte % 36).toString(36)).join("");

/** 20260131_235959 */
const stamp = (date: Date): string => date.toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "_");

function opening(
  id: string,
  { settings }: LoggedRun,
  { project, runName }: Omit<WandbOptions, "outputDir">,
): ProtoBytes[] {
  const config = Object.entries(settings).map(([name, value]) => item(name, JSON.stringify(value ?? null)));
  const run = proto.message(
    17,
    proto.text(1, id),
    proto.text(3, project ?? "huggingface"),
    proto.message(4, ...config),
    ...(runName ? [proto.text(8, runName)] : []),
    proto.message(17, proto.int(1, Math.floor(Date.now() / 1000))),
  );
  // Every number is drawn over the trainer's steps.
  const synced = proto.message(6, proto.int(1, 1), proto.int(3, 1));
  const defined = proto.message(6, proto.int(3, 1));
  return [
    run,
    proto.message(12, proto.text(1, GLOBAL_STEP), defined),
    proto.message(12, proto.text(2, "*"), proto.text(4, GLOBAL_STEP), synced),
  ];
}

/** The numbers of a record of history, by their names; of other records there are none. */
function itemsOf(payload: Uint8Array): Map<string, number> {
  const text = (value: number | Uint8Array | undefined) => new TextDecoder().decode(value as Uint8Array);
  const items = new Map<string, number>();
  for (const { field, value } of protoFields(payload)) {
    if (field !== HISTORY) continue;
    for (const inner of protoFields(value as Uint8Array)) {
      if (inner.field !== 1) continue;
      const parts = new Map([...protoFields(inner.value as Uint8Array)].map((part) => [part.field, part.value]));
      items.set(text(parts.get(1)), Number(text(parts.get(16))));
    }
  }
  return items;
}

/** Whether a run that goes on from a step keeps a record: not what came later, and not what it ended with. */
function isKept(payload: Uint8Array, step: number): boolean {
  const fields = [...protoFields(payload)];
  if (fields.some(({ field }) => field === EXIT || field === SUMMARY)) return false;
  return !((itemsOf(payload).get(GLOBAL_STEP) ?? 0) > step);
}

/** The file's first bytes: ":W&B", 0xBEE1, version 0. */
const HEADER = Uint8Array.of(0x3a, 0x57, 0x26, 0x42, 0xe1, 0xbe, 0);
const BLOCK = 32768;
const HEAD = 7;
const [FULL, FIRST, MIDDLE, LAST] = [1, 2, 3, 4];

/** A record in LevelDB's framing: in pieces that no block's end cuts, each with its checksum, length and kind. */
function frames(payload: Uint8Array, offset: number): Uint8Array<ArrayBuffer> {
  const pieces: Uint8Array[] = [];
  let at = offset;
  let done = 0;
  do {
    const left = BLOCK - (at % BLOCK);
    if (left < HEAD) {
      pieces.push(new Uint8Array(left));
      at += left;
      continue;
    }
    const length = Math.min(left - HEAD, payload.length - done);
    const whole = done + length === payload.length;
    const kind = whole ? (done === 0 ? FULL : LAST) : done === 0 ? FIRST : MIDDLE;
    const piece = new Uint8Array(HEAD + length);
    piece[6] = kind;
    piece.set(payload.subarray(done, done + length), HEAD);
    const view = new DataView(piece.buffer);
    view.setUint32(0, crc32(piece.subarray(6)), true);
    view.setUint16(4, length, true);
    pieces.push(piece);
    at += piece.length;
    done += length;
  } while (done < payload.length);
  return joinedBytes(pieces);
}

/** The whole records of a log; what a kill cut short at its end is none. */
function payloadsOf(bytes: Uint8Array): Uint8Array[] {
  const payloads: Uint8Array[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let open: Uint8Array[] = [];
  for (let at = HEADER.length; ; ) {
    const left = BLOCK - (at % BLOCK);
    if (left < HEAD) at += left;
    if (at + HEAD > bytes.length) return payloads;
    const end = at + HEAD + view.getUint16(at + 4, true);
    if (end > bytes.length || view.getUint32(at, true) !== crc32(bytes.subarray(at + 6, end))) return payloads;
    const kind = bytes[at + 6];
    open.push(bytes.subarray(at + HEAD, end));
    if (kind === FULL || kind === LAST) {
      payloads.push(joinedBytes(open));
      open = [];
    }
    at = end;
  }
}
