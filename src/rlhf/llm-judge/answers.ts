/** What an LLM judge's answer says. It is read strictly: a number that may mean something else is none. */
import { jsonAnswer } from "../verifiable/json.ts";
import type { JudgeSpec } from "./spec.ts";

/** An answer that does not say what was asked. Its message continues "the answer cannot be read: ". */
export class Unreadable extends Error {}

/** The place of the better one of two answers as an LLM judge saw them: A is the first. */
export type Winner = "A" | "B" | "tie";

/** The criteria's numbers, in their order. Throws `Unreadable` where one is missing or off the scale. */
export function readScores(text: string, { answer, criteria, scale }: JudgeSpec): number[] {
  const given =
    answer === "json"
      ? scoresOfJson(text)
      : scoresOfLine(
          text,
          criteria.map(({ name }) => name),
        );
  const strange = [...given.keys()].find((name) => !criteria.some((one) => one.name.toLowerCase() === name));
  if (strange !== undefined) throw new Unreadable(`"${strange}" is no criterion`);
  return criteria.map(({ name }) => {
    const score = given.get(name.toLowerCase());
    if (score === undefined) throw new Unreadable(`it gives "${name}" no number`);
    if (typeof score !== "number" || !Number.isFinite(score)) {
      throw new Unreadable(`it gives "${name}" ${JSON.stringify(score)}, which is no number`);
    }
    if (score >= scale[0] && score <= scale[1]) return score;
    throw new Unreadable(`it gives "${name}" ${score}, and the scale goes from ${scale[0]} to ${scale[1]}`);
  });
}

/** The weighted mean of the criteria's numbers. */
export function weightedMean(scores: readonly number[], { criteria }: Pick<JudgeSpec, "criteria">): number {
  const total = criteria.reduce((sum, { weight }) => sum + weight, 0);
  return criteria.reduce((sum, { weight }, k) => sum + weight * scores[k], 0) / total;
}

/** The better of two answers. Throws `Unreadable` where it is not said. */
export function readWinner(text: string, { answer }: JudgeSpec): Winner {
  const said = answer === "json" ? field(text, "winner") : /^winner:\s*(.+?)\.?$/i.exec(lastLine(text))?.[1];
  if (said === undefined) throw new Unreadable('its last line is not of the form "winner: A"');
  const word = typeof said === "string" ? said.trim() : said;
  if (word === "A" || word === "B") return word;
  if (typeof word === "string" && word.toLowerCase() === "tie") return "tie";
  throw new Unreadable(`the winner is A, B or tie, and it says ${(JSON.stringify(said) ?? "nothing").slice(0, 40)}`);
}

function field(text: string, name: string): unknown {
  const value = jsonAnswer(text);
  if (value === undefined) throw new Unreadable("it is not JSON");
  if (typeof value !== "object" || value === null || Array.isArray(value) || !Object.hasOwn(value, name)) {
    throw new Unreadable(`it is not an object with "${name}"`);
  }
  return (value as Record<string, unknown>)[name];
}

function scoresOfJson(text: string): Map<string, unknown> {
  const scores = field(text, "scores");
  if (typeof scores !== "object" || scores === null || Array.isArray(scores)) {
    throw new Unreadable('its "scores" are no object with a number for each criterion');
  }
  return new Map(Object.entries(scores).map(([name, score]) => [name.toLowerCase(), score]));
}

const lastLine = (text: string): string =>
  text
    .trimEnd()
    .split("\n")
    .at(-1)!
    .replaceAll(/[*`]/g, "") // emphasis
    .trim();

/** "correct: 4, clear: 5"; of a single criterion the number alone will do. */
function scoresOfLine(text: string, names: readonly string[]): Map<string, unknown> {
  const line = lastLine(text);
  const number = /^-?\d+(\.\d+)?$/;
  if (names.length === 1 && number.test(line)) return new Map([[names[0].toLowerCase(), Number(line)]]);
  return new Map(
    line.split(/[,;]/).map((part) => {
      const [, name, score] = /^\s*(.+?)\s*:\s*(\S+?)\.?\s*$/.exec(part) ?? [];
      if (name !== undefined && number.test(score)) return [name.toLowerCase(), Number(score)];
      throw new Unreadable(`its last line is not of the form "${names.map((one) => `${one}: NUMBER`).join(", ")}"`);
    }),
  );
}
