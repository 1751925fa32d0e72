/** What workers tell of themselves every few seconds, and what trainers answer. */
import * as v from "valibot";
import { utf8 } from "../runtime/utf8.ts";
import { kinds, ofHello } from "./names.ts";

const word = v.pipe(v.string(), v.maxLength(500));
const count = v.pipe(v.number(), v.finite(), v.minValue(0));
const helloSchema = v.object({
  worker: word,
  adapter: word,
  webrlhf: word,
  /** Jobs done since it began, and their tokens per second, the time for weights included. */
  done: count,
  tokensPerSecond: count,
  /** It is drawing just now. */
  busy: v.boolean(),
  /** Trainers do not need it just now. */
  standsBy: v.optional(v.boolean(), false),
  /** Kinds of jobs that it takes. */
  roles: v.optional(v.array(v.picklist(kinds)), () => [...kinds]),
});

/** What a worker tells. */
export type Hello = v.InferOutput<typeof helloSchema>;

/** A worker as it told of itself. */
export interface SeenWorker extends Hello {
  /** The name of its credential. */
  member: string;
}

/** Reads what a worker tells; null for what nobody can mean. */
export function readHello(subject: string, bytes: Uint8Array): SeenWorker | null {
  const member = ofHello(subject);
  if (member === null) return null;
  try {
    const read = v.safeParse(helloSchema, JSON.parse(utf8(bytes)));
    return read.success ? { member, ...read.output } : null;
  } catch {
    return null;
  }
}

/** Workers ask so often, in milliseconds, whether they are needed: every hello is that question. */
export const HELLO_MS = 5000;
/** An answer holds so long, in seconds. */
export const ANSWER_HOLDS = 15;

const answerSchema = v.object({
  /** The run that answers. */
  run: v.pipe(v.string(), v.maxLength(200)),
  /** Others suffice: no jobs are to be taken, nor weights fetched. */
  standBy: v.boolean(),
  /** How many others. */
  enough: count,
  /** Seconds that this holds. */
  holds: v.pipe(v.number(), v.minValue(0), v.maxValue(60)),
});

/** A trainer's answer to a hello. */
export type Answer = v.InferOutput<typeof answerSchema>;

/** Reads an answer; null for what is none. */
export function readAnswer(bytes: Uint8Array): Answer | null {
  try {
    const read = v.safeParse(answerSchema, JSON.parse(utf8(bytes)));
    return read.success ? read.output : null;
  } catch {
    return null;
  }
}
