/** Rows in memory as the files of published datasets. */
import { expect } from "vitest";
import { isUserError } from "webrlhf";
import type { DataSource, LoadOptions, Locate } from "webrlhf/data";

/** A JSONL file. */
export function jsonl(name: string, rows: readonly unknown[]): DataSource {
  const text = rows.map((row) => JSON.stringify(row)).join("\n");
  return { name, stream: () => new Blob([text]).stream() as ReadableStream<Uint8Array> };
}

/** Answers every request for files with these rows. */
export const given = (...rows: unknown[]): LoadOptions & { skipped: string[] } => {
  const skipped: string[] = [];
  return { skipped, locate: async () => [jsonl("rows.jsonl", rows)], onSkip: (_, reason) => void skipped.push(reason) };
};

/** Rows by "repo split". */
export const hub = (sets: Record<string, readonly unknown[]>): Locate => {
  return async ({ repo, config, split }) => {
    const key = [repo, config, split].filter((part) => part !== undefined).join(" ");
    if (!sets[key]) throw new Error(`nobody expected ${key}`);
    return [jsonl(`${key}.jsonl`, sets[key])];
  };
};

/** What a person would be told. */
export async function complaint(work: Promise<unknown> | (() => unknown)): Promise<string> {
  const error = await (typeof work === "function" ? (async () => work())() : work).then(
    () => undefined,
    (reason) => reason,
  );
  expect(isUserError(error), String(error?.stack)).toBe(true);
  return error.message;
}
