/** What workers tell of themselves every few seconds. */
import * as v from "valibot";
import { utf8 } from "../runtime/utf8.ts";
import { ofHello } from "./names.ts";

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
