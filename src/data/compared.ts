/** Pairs of answers out of files, for people to compare. */
import { UserError } from "../runtime/errors.ts";
import { questionOf } from "./question.ts";
import { mustBe, readEntries, readRows } from "./readers.ts";
import type { Columns } from "./schemas.ts";
import { readSampledRows } from "./scored-rows.ts";
import type { ComparedPair } from "./votes.ts";

/** Pairs, and how many there were besides. */
export interface ComparedPairs {
  pairs: ComparedPair[];
  /** Pairs of two equal answers, of which nothing can be said. */
  same: number;
}

/**
 * Every two answers to one prompt: of rows with `responses`, as `generate` writes them, and of rows of preferences, which are to be
 * decided again.
 * @param most pairs that are read
 * @throws UserError naming file and line of what is no such row, or where there is no pair
 */
export async function readComparedPairs(
  sources: readonly string[],
  most = Number.POSITIVE_INFINITY,
): Promise<ComparedPairs> {
  const found: ComparedPairs = { pairs: [], same: 0 };
  for (const source of sources) {
    const read = (await hasResponses(source)) ? ofResponses : ofPreferences;
    for await (const pair of read(source)) {
      if (pair.answers[0].trim() === pair.answers[1].trim()) found.same++;
      else if (found.pairs.push(pair) >= most) return found;
    }
  }
  if (found.pairs.length === 0) {
    const why = found.same > 0 ? `all ${found.same} pairs have two equal answers` : "no row has two answers";
    throw new UserError(`${sources.join(", ")}: ${why}, so that there is nothing to compare`);
  }
  return found;
}

async function hasResponses(source: string): Promise<boolean> {
  for await (const { value } of readRows(source)) {
    if (typeof value !== "object" || value === null) return false;
    return "responses" in value || "output" in value || "instances" in value;
  }
  return false;
}

async function* ofResponses(source: string): AsyncGenerator<ComparedPair> {
  for await (const { prompt, responses } of readSampledRows(source)) {
    for (const [k, second] of responses.entries()) {
      for (const first of responses.slice(0, k)) yield { prompt, answers: [first, second] };
    }
  }
}

async function* ofPreferences(source: string): AsyncGenerator<ComparedPair> {
  for await (const { row, record } of readEntries([source])) {
    const { prompt, chosen, rejected } = mustBe(record, "preference");
    const messages = questionOf({ ...record, row: row.value as Columns });
    yield messages
      ? { prompt: messages, answers: [chosen.trim(), rejected.trim()] }
      : { prompt, answers: [chosen, rejected] };
  }
}
