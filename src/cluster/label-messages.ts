/**
 * Pairs of answers that people label, and what they say, on the wire. Such a job is text alone: it needs no weights, and no certain
 * version of webrlhf. Nothing that comes from a labeller is believed before it is looked at.
 */
import * as v from "valibot";
import { UserError } from "../runtime/errors.ts";
import { count, jobId, jsonOf, keyed, Refused, readResult, writeResult } from "./wire.ts";

const FORMAT = 1;
/** Characters of a prompt or an answer: nobody reads as many. */
export const LONGEST_TEXT = 100_000;
/** Bytes of a pair, and of what is said of it. */
const LARGEST_PAIR = 4 << 20;
const LARGEST_VOTE = 4096;
/** Characters of a labeller's name. */
const LONGEST_NAME = 40;

/** A message of a prompt, as it is shown. */
export interface ShownMessage {
  /** Who speaks: "user", "assistant", "system". */
  role: string;
  content: string;
}

/** Two answers to a prompt, as they lie before somebody. */
export interface ShownPair {
  prompt: string | readonly ShownMessage[];
  first: string;
  second: string;
}

/** A pair that somebody is to label, once. */
export interface LabelJob extends ShownPair {
  id: string;
  /** The pair's number in its run: whoever has labelled it once leaves it to others. */
  pair: number;
}

/** A decision between two answers: for the first one shown, the second one, or "none" where nobody can say. */
export type LabelChoice = "first" | "second" | "none";
const labelChoices: readonly LabelChoice[] = ["first", "second", "none"];

/** A label with who gave it. */
export interface Vote {
  /** A random name that a page keeps, so that nobody labels a pair twice by accident. */
  labeller: string;
  /** What the person wants to be called. */
  name: string;
  choice: LabelChoice;
  /** How long it took. */
  seconds: number;
}

const text = v.pipe(v.string(), v.maxLength(LONGEST_TEXT));
const jobSchema = v.object({
  format: v.literal(FORMAT),
  job: v.strictObject({
    id: jobId,
    pair: count,
    prompt: v.union([text, v.pipe(v.array(v.strictObject({ role: text, content: text })), v.maxLength(1000))]),
    first: text,
    second: text,
  }),
});

/**
 * Looks whether a pair can be labelled.
 * @throws UserError where it is too large for anybody
 */
export function checkLabelJob(job: LabelJob): void {
  const message = { format: FORMAT, job };
  if (!v.is(jobSchema, message)) {
    throw new UserError(`pair ${job.pair + 1}: a prompt or an answer may have ${LONGEST_TEXT} characters`);
  }
  if (3 * JSON.stringify(message).length > LARGEST_PAIR) {
    throw new UserError(`pair ${job.pair + 1} is too large to be read by anybody`);
  }
}

/** Writes a pair; the key is the hash of its bytes. */
export const encodeLabelJob = (run: string, job: LabelJob): Promise<{ key: string; bytes: Uint8Array }> =>
  keyed(JSON.stringify({ format: FORMAT, run, job }));

/** Reads a pair. Throws `Refused` with the reason where it is none. */
export function decodeLabelJob(bytes: Uint8Array): LabelJob {
  if (bytes.length > LARGEST_PAIR) throw new Refused("the pair is too large");
  const read = v.safeParse(jobSchema, jsonOf(bytes, "the pair"));
  if (!read.success) throw new Refused(`the pair is not well-formed: ${v.summarize(read.issues)}`);
  return read.output.job;
}

/** A name as others may see it: on one line, without what turns or hides text, and not long. */
export function cleanName(name: string): string {
  const plain = name
    .slice(0, 1000)
    .normalize("NFC")
    .replace(/[\p{C}\p{Z}\s]+/gu, " ");
  return [...plain.trim()].slice(0, LONGEST_NAME).join("").trim();
}

/** Writes what somebody says. */
export const encodeVote = (key: string, { labeller, name, choice, seconds }: Vote): Uint8Array =>
  writeResult({ key, drawer: { worker: labeller, adapter: "", seconds } }, { name, choice }, []);

/** Reads what somebody says. Throws `Refused` with the reason where it cannot be a label of this pair. */
export function decodeVote(bytes: Uint8Array, key: string): Vote {
  const said = { name: v.pipe(v.string(), v.maxLength(200)), choice: v.picklist(labelChoices) };
  const read = readResult(bytes, key, LARGEST_VOTE, said);
  if ("error" in read) throw new Refused("an error in place of a label");
  const { name, choice } = read.header;
  if (name === undefined || choice === undefined) throw new Refused("no label");
  if (read.numbers.length > 0) throw new Refused("a label with more behind it");
  if (!/^[A-Za-z0-9_-]{8,64}$/.test(read.worker)) throw new Refused("a label of nobody");
  return { labeller: read.worker, name: cleanName(name), choice, seconds: read.seconds };
}
