/** What is taken out of a dataset before a trainer sees it, and how it is split. */
import { UserError } from "../../runtime/errors.ts";
import { permutation, streamId } from "../../runtime/rng.ts";
import type { DataRecord } from "../records.ts";

/** Keeps the last of the items with the same key, in the order in which those stand (as PaddleNLP does with prompts). */
export function lastOfEach<T>(items: readonly T[], keyOf: (item: T) => string): T[] {
  const last = new Map<string, number>();
  for (const [i, item] of items.entries()) last.set(keyOf(item), i);
  return items.filter((item, i) => last.get(keyOf(item)) === i);
}

/** The texts of a record, by what they are; `text` where it is one whole. */
export function textsOf(record: DataRecord): Record<string, string> {
  const { kind, where: _, ...fields } = record;
  const names = ["text", "prompt", "completion", "chosen", "rejected"];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = (fields as Record<string, unknown>)[name];
      return typeof value === "string" ? [[name, value]] : [];
    }),
  );
}

/** The length of the longest sequence that a model would see: the text, or the prompt with its longest answer. */
export function sequenceLength(record: DataRecord, lengthOf: (text: string) => number): number {
  const { text, prompt = "", ...answers } = textsOf(record);
  if (text !== undefined) return lengthOf(text);
  // Prompt and answer are tokenized apart, so their lengths add up.
  return lengthOf(prompt) + Math.max(0, ...Object.values(answers).map(lengthOf));
}

/** Bounds on the lengths of records. */
export interface LengthLimits {
  /** Least and most of the longest sequence, in units of `lengthOf`. */
  min?: number;
  max?: number;
  /** Most of the prompt alone. */
  maxPrompt?: number;
}

/**
 * Why a record is too short or too long, or null. A pair is as long as its longer answer makes it.
 * @param lengthOf e.g. characters, or tokens
 */
export function wrongLength(
  record: DataRecord,
  limits: LengthLimits,
  lengthOf: (text: string) => number,
): string | null {
  const { min = 0, max = Infinity, maxPrompt = Infinity } = limits;
  const { prompt } = textsOf(record);
  if (prompt !== undefined && maxPrompt < Infinity && lengthOf(prompt) > maxPrompt) return "its prompt is too long";
  if (min === 0 && max === Infinity) return null;
  const length = sequenceLength(record, lengthOf);
  return length < min ? "it is too short" : length > max ? "it is too long" : null;
}

/**
 * A random split by seed. The original splits by datasets' train_test_split; its very choice is not reproduced.
 * @throws UserError when either part would be empty
 */
export function splitTrainTest<T>(
  items: readonly T[],
  { ratio = 0.2, seed = 42, shuffle = true, keyOf }: SplitOptions<T> = {},
): { train: T[]; test: T[] } {
  if (!(ratio > 0 && ratio < 1)) throw new UserError(`the test part must be above 0 and below 1, not ${ratio}`);
  const keys = keyOf ? [...new Set(items.map(keyOf))] : items.map((_, i) => String(i));
  const count = Math.ceil(keys.length * ratio);
  if (count === 0 || count === keys.length) {
    throw new UserError(`${keys.length} different samples are too few to split off ${ratio} of them`);
  }
  const order = shuffle
    ? permutation(keys.length, seed, streamId("split_train_test"))
    : Uint32Array.from(keys, (_, i) => (i + keys.length - count) % keys.length);
  const held = new Set(Array.from(order.subarray(0, count), (i) => keys[i]));
  const train: T[] = [];
  const test: T[] = [];
  for (const [i, item] of items.entries()) (held.has(keyOf ? keyOf(item) : String(i)) ? test : train).push(item);
  return { train, test };
}

/** How `splitTrainTest` divides items. */
export interface SplitOptions<T> {
  /** The test part's share, above 0 and below 1. Default 0.2. */
  ratio?: number;
  /** Default 42. */
  seed?: number;
  /** False takes the test part from the end. Default true. */
  shuffle?: boolean;
  /** Items with the same key stay together. Default: each stands for itself. */
  keyOf?: (item: T) => string;
}
