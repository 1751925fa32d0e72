/** What people said of pairs of answers, as rows of preferences and as figures. */
import type { ChatMessage } from "./chat-template.ts";

/** Two answers to a prompt that people compare. */
export interface ComparedPair {
  prompt: string | ChatMessage[];
  answers: readonly [string, string];
}

/** What one person said of a pair. */
export interface PersonsVote {
  /** Who said it; the same person has the same one everywhere. */
  who: string;
  /** What that person wants to be called. */
  name: string;
  /** The better answer; null where the person could not say. */
  better: 0 | 1 | null;
  /** Which answer lay first. */
  first: 0 | 1;
  seconds: number;
}

/** A pair with what was said of it. */
export interface VotedPair {
  pair: ComparedPair;
  votes: readonly PersonsVote[];
}

/** Which answer more people found better than the other; null of none, or of as many. */
export function majority(votes: readonly PersonsVote[]): 0 | 1 | null {
  const balance = votes.reduce((sum, { better }) => sum + (better === null ? 0 : better === 1 ? 1 : -1), 0);
  return balance === 0 ? null : balance > 0 ? 1 : 0;
}

/** Names by who they are of; where two people took the same one, the later has a number behind it. */
export function namesOf(pairs: readonly VotedPair[]): Map<string, string> {
  const names = new Map<string, string>();
  const taken = new Set<string>();
  for (const { who, name } of pairs.flatMap(({ votes }) => votes)) {
    if (names.has(who)) continue;
    const asked = name || "somebody";
    let own = asked;
    for (let i = 2; taken.has(own); i++) own = `${asked} (${i})`;
    names.set(who, own);
    taken.add(own);
  }
  return names;
}

/** A pair in TRL's columns: text stays text, and answers to messages are messages. */
function columnsOf({ prompt, answers }: ComparedPair, better: 0 | 1): object {
  const side = (text: string) => (typeof prompt === "string" ? text : [{ role: "assistant", content: text }]);
  return { prompt, chosen: side(answers[better]), rejected: side(answers[better === 0 ? 1 : 0]) };
}

const seconds = (time: number): number => Math.round(10 * time) / 10;

/**
 * Pairs that a majority decided, as JSON lines: prompt, chosen, rejected, and votes, what everybody said. Others are left out.
 * @param names from `namesOf`
 */
export function preferenceLines(pairs: readonly VotedPair[], names: ReadonlyMap<string, string>): string {
  const lines = pairs.map(({ pair, votes }) => {
    const better = majority(votes);
    if (better === null) return "";
    const said = votes.map((vote) => ({
      labeller: names.get(vote.who),
      said: vote.better === null ? "none" : vote.better === better ? "chosen" : "rejected",
      seconds: seconds(vote.seconds),
    }));
    return `${JSON.stringify({ ...columnsOf(pair, better), votes: said })}\n`;
  });
  return lines.join("");
}

/**
 * Everybody's decisions as JSON lines: prompt, chosen, rejected, labeller, seconds. A pair that several people decided is there as
 * often.
 * @param names from `namesOf`
 */
export function voteLines(pairs: readonly VotedPair[], names: ReadonlyMap<string, string>): string {
  const lines = pairs.flatMap(({ pair, votes }) =>
    votes.map(({ who, better, seconds: time }) => {
      if (better === null) return "";
      return `${JSON.stringify({ ...columnsOf(pair, better), labeller: names.get(who), seconds: seconds(time) })}\n`;
    }),
  );
  return lines.join("");
}

/** What the votes on some pairs come to. */
export interface VoteFigures {
  votes: number;
  people: number;
  /** Votes of people who could not say. */
  none: number;
  /** Pairs that a majority decided, and pairs that people said something of without one. */
  decided: number;
  undecided: number;
  /** Share of alike decisions among every two on one pair; NaN of none. */
  agreement: number;
  /** Two decisions on one pair. */
  comparisons: number;
  /**
   * Agreement beyond chance: 0 as of coins, 1 always alike. Which answer is called the first one is arbitrary, so that chance is one
   * half, and Cohen's kappa is 2 · agreement - 1.
   */
  kappa: number;
  /** Share of decisions for the answer that lay first; NaN of none. Far from 0.5 people favour a place. */
  firstPlace: number;
}

/** Counts what the votes come to. */
export function voteFigures(pairs: readonly VotedPair[]): VoteFigures {
  const votes = pairs.flatMap((one) => one.votes);
  const decisions = votes.filter(({ better }) => better !== null);
  let [alike, comparisons] = [0, 0];
  for (const { votes: own } of pairs) {
    const [a, b] = [0, 1].map((side) => own.filter(({ better }) => better === side).length);
    comparisons += ((a + b) * (a + b - 1)) / 2;
    alike += (a * (a - 1) + b * (b - 1)) / 2;
  }
  const said = pairs.filter((one) => one.votes.length > 0);
  const decided = said.filter((one) => majority(one.votes) !== null).length;
  const agreement = alike / comparisons;
  return {
    votes: votes.length,
    people: new Set(votes.map(({ who }) => who)).size,
    none: votes.length - decisions.length,
    decided,
    undecided: said.length - decided,
    agreement,
    comparisons,
    kappa: 2 * agreement - 1,
    firstPlace: decisions.filter(({ better, first }) => better === first).length / decisions.length,
  };
}
