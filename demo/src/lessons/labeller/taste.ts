/** Which rule labels look like. */
import type { Label } from "../../lib/labels.ts";
import { leans, type Rule, rules } from "./rules.ts";

/** On how many labels that a rule decides it decides as they do. */
export interface Likeness {
  /** By rule: [agreeing, decided by the rule]. */
  agrees: Record<Rule, [same: number, of: number]>;
  /** The rule that agrees most often; of equals the first. */
  nearest: Rule;
}

/** @param gold the true reward of a story; null where there is none, as for prompts from elsewhere */
export function likeness(labels: readonly Label[], gold: (prompt: string, story: string) => number | null): Likeness {
  const agrees = {} as Likeness["agrees"];
  for (const rule of rules) {
    const leaning = labels.map(({ prompt, chosen, rejected }) => {
      const [goldLeft, goldRight] = [gold(prompt, chosen), gold(prompt, rejected)];
      if (rule === "truth" && (goldLeft === null || goldRight === null)) return 0;
      return leans(rule, { left: chosen, right: rejected, goldLeft: goldLeft ?? 0, goldRight: goldRight ?? 0 });
    });
    const decided = leaning.filter((lean) => lean !== 0);
    agrees[rule] = [decided.filter((lean) => lean > 0).length, decided.length];
  }
  const share = (rule: Rule) => agrees[rule][0] / (agrees[rule][1] || 1);
  return { agrees, nearest: rules.reduce((best, rule) => (share(rule) > share(best) ? rule : best), rules[0]) };
}
