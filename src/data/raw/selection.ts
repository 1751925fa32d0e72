/** Which pairs are made of several scored answers to one prompt. */
import { randomInt, streamId } from "../../runtime/rng.ts";
import type { ChatMessage } from "../chat-template.ts";
import { checkMessages, isConversation } from "../messages.ts";
import type { Columns, Entry } from "../readers.ts";
import type { RawRow } from "./dataset.ts";

export interface Scored {
  text: string;
  score: number;
}

/** The better answer first. */
export type Pair = readonly [chosen: Scored, rejected: Scored];

/** How pairs are chosen among the answers to a prompt. */
export type PairRule = (answers: readonly Scored[], key: string, seed: number) => Pair[];

/** All n(n-1)/2 pairs, without those of equal scores. */
export const allPairs: PairRule = (answers) => {
  const pairs: Pair[] = [];
  for (let i = 0; i < answers.length; i++) {
    for (let j = i + 1; j < answers.length; j++) {
      const [a, b] = [answers[i], answers[j]];
      if (a.score !== b.score) pairs.push(a.score > b.score ? [a, b] : [b, a]);
    }
  }
  return pairs;
};

/**
 * The best answer (the first of several) against one that is worse, each as likely; no pair where all are equal. The
 * choice is a function of seed and prompt. Answers as good as the best are not drawn: otherwise ties would cost more
 * prompts than the published sets have lost (HelpSteer keeps 8,206 of fewer than 9,000).
 */
export const bestAgainstRandom: PairRule = (answers, key, seed) => {
  if (answers.length === 0) return [];
  const best = answers.reduce((a, b) => (b.score > a.score ? b : a));
  const worse = answers.filter(({ score }) => score < best.score);
  if (worse.length === 0) return [];
  return [[best, worse[randomInt(worse.length, seed, streamId(key), streamId("best against random"))]]];
};

/** Lets at most `limit` rows of each key pass, the first ones. */
export function atMost(limit: number): (key: string) => boolean {
  const seen = new Map<string, number>();
  return (key) => {
    const count = (seen.get(key) ?? 0) + 1;
    seen.set(key, count);
    return count <= limit;
  };
}

/** Rows by key, keys in the order of their first row. */
export async function grouped(
  rows: AsyncIterable<RawRow>,
  keyOf: (row: RawRow) => string,
): Promise<Map<string, RawRow[]>> {
  const groups = new Map<string, RawRow[]>();
  for await (const row of rows) {
    const key = keyOf(row);
    const group = groups.get(key);
    if (group) group.push(row);
    else groups.set(key, [row]);
  }
  return groups;
}

/**
 * Why two conversations are no valid pair, or null: an even number of messages, as many in both, user and assistant in
 * turns, none empty, and alike but for the last one.
 */
export function invalidPair(chosen: readonly ChatMessage[], rejected: readonly ChatMessage[]): string | null {
  if (chosen.length === 0 || chosen.length % 2 !== 0) return "its number of messages is odd";
  if (chosen.length !== rejected.length) return "the conversations differ in length";
  for (const messages of [chosen, rejected]) {
    for (const [i, { role, content }] of messages.entries()) {
      if (role !== (i % 2 === 0 ? "user" : "assistant")) return "user and assistant do not take turns";
      if (typeof content !== "string" || content.trim() === "") return "a message is empty";
    }
  }
  const last = chosen.length - 1;
  if (chosen.some(({ content }, i) => i < last && content !== rejected[i].content)) {
    return "the conversations part before their last message";
  }
  return null;
}

/** Why a record is no valid pair, or null; one that is not two whole conversations has a prompt alike by the way it is read. */
export function unsoundPair({ row, record }: Entry): string | null {
  if (record.kind !== "preference") return null;
  const { chosen, rejected } = row.value as Columns;
  if (isConversation(chosen) && isConversation(rejected)) {
    const side = (value: unknown, name: string) => checkMessages(value, name, record.where ?? "a pair");
    return invalidPair(side(chosen, "chosen"), side(rejected, "rejected"));
  }
  const answers = [record.chosen, record.rejected];
  if (answers.some((answer) => answer.trim() === "")) return "an answer is empty";
  if (answers.some((answer) => /\n\n(Human|Assistant):/.test(answer))) return "an answer holds further turns";
  return record.prompt.trim() === "" ? "the prompt is empty" : null;
}
