/**
 * What all messages have in common: a job is JSON with the version of webrlhf and the weights that it needs, and a result is one
 * binary message, a JSON header with numbers after it. Nothing that comes from a worker is believed before it is looked at.
 */
import * as v from "valibot";
import { hasher } from "../runtime/sha256.ts";
import { utf8 } from "../runtime/utf8.ts";
import { VERSION } from "../runtime/version.ts";

/** A file of weights by its content. */
export interface FileRef {
  name: string;
  sha256: string;
  size: number;
}

/** The weights that a job needs: a version is its bytes. */
export interface PolicyRef {
  /** The files of a model's folder. */
  base: readonly FileRef[];
  /** The files of an adapter's folder; null where the whole model is trained. */
  adapter: readonly FileRef[] | null;
  /** The address of a folder on the web that has these files, too, named by their hashes. */
  mirror?: string | undefined;
}

/** A job as a worker gets it. */
export interface Message<J> {
  policy: PolicyRef;
  job: J;
}

const FORMAT = 1;
/** Most files of a policy, and the largest of them: nobody fills a worker's memory by a message. */
const MOST_FILES = 4096;
const LARGEST_FILE = 8 * 2 ** 30;

/** Why a message is not taken; it is for people. */
export class Refused extends Error {
  override readonly name = "Refused";
}

/** A job from another version of webrlhf. */
export class OtherVersion extends Refused {}

/** Writes a job, as plain data; the key is the hash of its bytes. */
export async function writeJob(
  run: string,
  policy: PolicyRef,
  job: object,
): Promise<{ key: string; bytes: Uint8Array }> {
  const text = JSON.stringify({ format: FORMAT, webrlhf: VERSION, run, policy, job }, (name, value) => {
    if (typeof value !== "number" || Number.isFinite(value)) return value;
    if (value === Number.POSITIVE_INFINITY && name === "maxLength") return undefined; // no limit
    throw new Error(`a job cannot say ${name} = ${value}`);
  });
  return keyed(text);
}

/** A message with its key, the hash of its bytes. */
export async function keyed(text: string): Promise<{ key: string; bytes: Uint8Array }> {
  const bytes = new TextEncoder().encode(text);
  const hash = await hasher();
  hash.add(bytes);
  return { key: (await hash.end()).slice(0, 40), bytes };
}

/** A whole number from 0. */
export const count = v.pipe(v.number(), v.integer(), v.minValue(0));
/** What fits into 32 bits. */
export const u32 = v.pipe(count, v.maxValue(0xffffffff));
/** Token ids of one text. */
export const tokens = v.pipe(v.array(u32), v.minLength(1), v.maxLength(1 << 20));
/** A job's name. */
export const jobId = v.pipe(v.string(), v.maxLength(200));

const fileRefs = v.pipe(
  v.array(
    v.object({
      name: v.pipe(v.string(), v.regex(/^[\w][\w.-]{0,200}$/)),
      sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
      size: v.pipe(count, v.maxValue(LARGEST_FILE)),
    }),
  ),
  v.minLength(1),
  v.maxLength(MOST_FILES),
);

const webAddress = v.pipe(v.string(), v.maxLength(2000), v.url(), v.regex(/^https?:/));

/** Reads a job of some shape. Throws `Refused` with the reason where it is none, or another version's. */
export function readJob<S extends v.GenericSchema>(
  bytes: Uint8Array,
  shape: S,
): { policy: PolicyRef; job: v.InferOutput<S> } {
  const given = jsonOf(bytes, "the job");
  const from = v.safeParse(v.looseObject({ webrlhf: v.string() }), given);
  if (from.success && from.output.webrlhf !== VERSION) {
    const { webrlhf } = from.output;
    throw new OtherVersion(
      `the trainer is webrlhf ${webrlhf} and this worker ${VERSION}: install the same one on both`,
    );
  }
  const schema = v.object({
    format: v.literal(FORMAT),
    webrlhf: v.string(),
    run: v.string(),
    policy: v.object({ base: fileRefs, adapter: v.nullable(fileRefs), mirror: v.optional(webAddress) }),
    job: shape,
  });
  const found = v.safeParse(schema, given);
  if (!found.success) throw new Refused(`the job is not well-formed: ${v.summarize(found.issues)}`);
  return found.output as { policy: PolicyRef; job: v.InferOutput<S> };
}

export function jsonOf(bytes: Uint8Array, what: string): unknown {
  try {
    return JSON.parse(utf8(bytes));
  } catch {
    throw new Refused(`${what} is no JSON text`);
  }
}

/** Who drew a result, and how it went. */
export interface Drawer {
  /** The worker's own name; the credential's is in the subject. */
  worker: string;
  /** The adapter that computed. */
  adapter: string;
  /** How long it took, and how much of that the weights did. */
  seconds: number;
  fetched?: number | undefined;
}

/** A result as the trainer reads it. */
export type ReadResult<R> = Drawer & ({ result: R } | { error: string });

/** What a result's header says of itself. */
interface Header {
  key: string;
  drawer: Drawer;
}

/** Bytes of a header without what a kind of result adds to it, at most. */
export const LARGEST_HEADER = 8192;
const LONGEST_HEADER = 1 << 20;

/** Writes why there is no result. */
export const writeError = ({ key, drawer }: Header, error: string): Uint8Array =>
  writeResult({ key, drawer }, { error: error.slice(0, 2000) }, []);

/** Writes a result: what its header says besides, and its numbers. */
export function writeResult(
  { key, drawer }: Header,
  more: object,
  arrays: readonly (Uint32Array | Float32Array)[],
): Uint8Array {
  const text = new TextEncoder().encode(JSON.stringify({ format: FORMAT, key, ...drawer, ...more }));
  const start = 4 + Math.ceil(text.length / 4) * 4;
  const bytes = new Uint8Array(start + arrays.reduce((sum, { byteLength }) => sum + byteLength, 0));
  new DataView(bytes.buffer).setUint32(0, text.length, true);
  bytes.set(text, 4);
  let at = start;
  for (const one of arrays) {
    bytes.set(new Uint8Array(one.buffer, one.byteOffset, one.byteLength), at);
    at += one.byteLength;
  }
  return bytes;
}

const line = v.pipe(v.string(), v.maxLength(2000));
const time = v.pipe(v.number(), v.finite(), v.minValue(0));
const headerEntries = {
  format: v.literal(FORMAT),
  key: v.string(),
  worker: v.pipe(v.string(), v.maxLength(200)),
  adapter: line,
  seconds: time,
  fetched: v.optional(time),
  error: v.optional(line),
};

/**
 * Reads a result, or why there is none.
 * @param largest bytes that it can have at most
 * @param more what its kind's header says besides
 * @throws Refused with the reason where it is none, or another job's
 */
export function readResult<T extends v.ObjectEntries>(
  given: Uint8Array,
  key: string,
  largest: number,
  more: T,
): Drawer &
  ({ error: string } | { header: Partial<v.InferOutput<v.ObjectSchema<T, undefined>>>; numbers: Uint8Array }) {
  if (given.length > largest) throw new Refused(`a result of ${given.length} bytes, more than the job can have`);
  if (given.length < 4) throw new Refused("a result that is too short");
  const bytes = new Uint8Array(given); // aligned; Node's own slice() of a Buffer would be no copy
  const textLength = new DataView(bytes.buffer).getUint32(0, true);
  const start = 4 + Math.ceil(textLength / 4) * 4;
  if (textLength > LONGEST_HEADER || start > bytes.length) throw new Refused("a result whose header is cut off");
  const said = jsonOf(bytes.subarray(4, 4 + textLength), "the result's header");
  const common = v.safeParse(v.looseObject(headerEntries), said);
  if (!common.success) throw new Refused(`a result whose header is not well-formed: ${v.summarize(common.issues)}`);
  const { worker, adapter, seconds, fetched, error } = common.output;
  if (common.output.key !== key) throw new Refused("a result of another job");
  const drawer = { worker, adapter, seconds, fetched };
  if (error !== undefined) return { ...drawer, error };
  const own = v.safeParse(v.object(more), said);
  if (!own.success) throw new Refused(`a result whose header is not well-formed: ${v.summarize(own.issues)}`);
  type Own = Partial<v.InferOutput<v.ObjectSchema<T, undefined>>>;
  return { ...drawer, header: own.output as Own, numbers: bytes.subarray(start) };
}
