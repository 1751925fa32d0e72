/**
 * TensorBoard's event files: records of TFRecord's framing (https://www.tensorflow.org/tutorials/load_data/tfrecord), each a
 * protobuf `Event`. Every line is whole when it is written, so the file of a run that was killed can be read.
 */

import { type ProtoBytes, proto, protoFields } from "../../io/protobuf.ts";
import { crc32, crc32c } from "../../runtime/crc32.ts";
import type { Files } from "../../runtime/files.ts";
import { joinedBytes } from "../../runtime/joined-bytes.ts";
import { absolute, join } from "../../runtime/paths.ts";
import { type LoggedRun, type MetricsLogger, trackedNames } from "./logger.ts";

/** Where the event files of a run lie, and which are its own. */
export interface TensorboardOptions {
  /** The run's folder. */
  outputDir: string;
  /** Default: `runs` in the run's folder. Several runs may share it. */
  loggingDir?: string | null;
  /** Part of the files' names. Default "run". */
  runName?: string | null;
}

/**
 * Writes a run's numbers for TensorBoard: scalars by transformers' names ("train/loss", "eval/loss"), the settings as text and as
 * hyperparameters. A run that goes on cuts its earlier files back to its checkpoint.
 */
export function tensorboardLogger(files: Files, options: TensorboardOptions): MetricsLogger {
  const { outputDir, loggingDir, runName } = options;
  const folder = loggingDir ?? join(outputDir, "runs");
  // Runs that share a folder know their files by the place of the run.
  const place = crc32(new TextEncoder().encode(absolute(outputDir)))
    .toString(16)
    .padStart(8, "0");
  const own = `.${(runName ?? "run").replaceAll(/[^\w.-]/g, "_").slice(0, 80)}-${place}`;
  let path = "";
  const write = (...events: ProtoBytes[]) => files.append(path, framed(events));
  return {
    name: "tensorboard",
    async start(run) {
      const names = await files.list(folder);
      const before = names.filter((name) => name.startsWith(PREFIX) && name.endsWith(`-${place}`));
      for (const name of before) await cutBack(files, join(folder, name), run.step);
      // Viewers read a folder's files in the order of their names.
      let second = Math.floor(Date.now() / 1000);
      while (names.some((name) => name.startsWith(`${PREFIX}${second}`))) second++;
      path = join(folder, `${PREFIX}${second}${own}`);
      await write(...opening(run));
    },
    log: (step, metrics) => write(event(step, proto.message(SUMMARY, ...trackedNames(metrics).map(scalar)))),
    end: async () => files.sync?.(path),
  };
}

const PREFIX = "events.out.tfevents.";

/** Fields of `Event`. */
const STEP = 2;
const SUMMARY = 5;

const event = (step: number, ...what: ProtoBytes[]): ProtoBytes =>
  proto.whole(proto.double(1, Date.now() / 1000), proto.int(STEP, step), ...what);

const scalar = ([name, value]: [string, number]): ProtoBytes =>
  proto.message(1, proto.text(1, name), proto.float(2, value));

/** What stands at the head of a file. */
function opening({ step, settings }: LoggedRun): ProtoBytes[] {
  const version = event(0, proto.text(3, "brain.Event:2"));
  // A viewer that is open drops what it has seen from this step on.
  if (step > 0) return [version, event(step + 1, proto.message(7, proto.int(1, 1)))];
  const summary = proto.message(SUMMARY, text("args", JSON.stringify(settings, null, 2)), hyperparameters(settings));
  return [version, event(0, summary)];
}

/** A value of the text plugin, which reads Markdown: four spaces make a block of code. */
function text(name: string, content: string): ProtoBytes {
  const block = content.replaceAll(/^/gm, "    ");
  const tensor = [proto.int(1, 7), proto.message(2, proto.message(2, proto.int(1, 1))), proto.text(8, block)];
  return proto.message(1, proto.text(1, `${name}/text_summary`), proto.message(8, ...tensor), plugin("text"));
}

/** `SessionStartInfo` of the hparams plugin. */
function hyperparameters(settings: LoggedRun["settings"]): ProtoBytes {
  const entries = Object.entries(settings).filter(([, value]) => value !== null && value !== undefined);
  const map = entries.map(([name, value]) =>
    proto.message(1, proto.text(1, name), proto.message(2, protoValue(value))),
  );
  const info = proto.message(3, ...map, proto.double(5, Date.now() / 1000));
  const empty = [proto.int(1, 1), proto.message(2, proto.message(2, proto.int(1, 1))), proto.float(5, 0)];
  return proto.message(
    1,
    proto.text(1, "_hparams_/session_start_info"),
    proto.message(8, ...empty),
    plugin("hparams", proto.int(1, 0), info),
  );
}

/** `google.protobuf.Value`: a number, a text or a bool. */
const protoValue = (value: unknown): ProtoBytes => {
  if (typeof value === "number") return proto.double(2, value);
  if (typeof value === "boolean") return proto.int(4, value ? 1 : 0);
  return proto.text(3, typeof value === "string" ? value : JSON.stringify(value));
};

/** `SummaryMetadata`, by which a plugin knows its values; their class is that of tensors. */
const plugin = (name: string, ...content: ProtoBytes[]): ProtoBytes =>
  proto.message(9, proto.message(1, proto.text(1, name), proto.message(2, ...content)), proto.int(4, 2));

/** Records: the length with its checksum, then the message with its own. */
function framed(messages: readonly ProtoBytes[]): Uint8Array {
  const bytes = new Uint8Array(messages.reduce((sum, message) => sum + FRAME + message.length, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const message of messages) {
    view.setUint32(at, message.length, true);
    view.setUint32(at + 8, masked(bytes.subarray(at, at + 8)), true);
    bytes.set(message, at + HEAD);
    const end = at + HEAD + message.length;
    view.setUint32(end, masked(bytes.subarray(at + HEAD, end)), true);
    at = end + 4;
  }
  return bytes;
}

const HEAD = 12;
const FRAME = HEAD + 4;

/** A checksum is turned and moved, so that a file of checksums does not look like its content. */
function masked(bytes: Uint8Array): number {
  const sum = crc32c(bytes);
  return (((sum >>> 15) | (sum << 17)) + 0xa282ead8) >>> 0;
}

/** Leaves of a file what was logged up to a step; nothing of a run that begins anew, and no record that a kill cut short. */
async function cutBack(files: Files, path: string, step: number): Promise<void> {
  const bytes = step === 0 ? null : await files.read(path);
  if (bytes === null) return files.remove(path);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const kept: Uint8Array[] = [];
  for (let at = 0; at + HEAD <= bytes.length; ) {
    const end = at + FRAME + view.getUint32(at, true);
    if (end > bytes.length) break;
    const found = [...protoFields(bytes.subarray(at + HEAD, end - 4))].find(({ field }) => field === STEP);
    if (Number(found?.value ?? 0) <= step) kept.push(bytes.subarray(at, end));
    at = end;
  }
  const whole = joinedBytes(kept);
  if (whole.length < bytes.length) await files.writeFile(path, whole);
}
