/** Rules of judges as names of data write them: "length=-0.15+noise=0.1". */
import { type WorldRule, worldJudges } from "./judges.ts";

const numbers = ["truth", "length", "first", "temperature", "noise"] as const;

/**
 * The rule that a name says: parts that are joined by "+", each a number of the rule (`length=-0.15`) or the worth of a word
 * (`words.friend=2`), with a judge of `worldJudges` to begin with, if any (`shorter+noise=0.1`). Null for what is none.
 */
export function worldRuleNamed(name: string): WorldRule | null {
  const [first, ...rest] = name.split("+");
  const known = Object.hasOwn(worldJudges, first);
  const rule: Record<string, unknown> = known ? { ...worldJudges[first as keyof typeof worldJudges] } : {};
  const said = new Set<string>();
  for (const part of known ? rest : [first, ...rest]) {
    const found = /^([a-z]+)(?:\.([A-Za-z]+))?=(-?\d+(?:\.\d+)?)$/.exec(part);
    if (!found || said.has(`${found[1]}.${found[2]}`)) return null;
    const [, key, word, written] = found;
    const value = Number(written);
    said.add(`${key}.${word}`);
    if (key === "words" && word !== undefined) rule.words = { ...(rule.words as object), [word]: value };
    else if (word === undefined && (numbers as readonly string[]).includes(key)) rule[key] = value;
    else return null;
  }
  const { temperature = 0, noise = 0 } = rule as WorldRule;
  return temperature >= 0 && noise >= 0 && noise <= 1 ? (rule as WorldRule) : null;
}
