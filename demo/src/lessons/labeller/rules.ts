/** Tastes that are a rule: what one's own labels, and the judge made of them, are compared with. */

/** The rules there are. "truth" is the true reward of the built-in world. */
export const rules = ["friend", "shorter", "truth"] as const;
export type Rule = (typeof rules)[number];

/** Two stories with their true rewards, where they are known. */
export interface Sides {
  left: string;
  right: string;
  goldLeft: number;
  goldRight: number;
}

export const namesFriend = (story: string): boolean => /\bfriend\b/.test(story);

export const wordsOf = (story: string): number => story.split(/\s+/).filter(Boolean).length;

/** How much a rule prefers the left story: above 0 it does, below 0 it prefers the right one, at 0 it cannot tell. */
export function leans(rule: Rule, { left, right, goldLeft, goldRight }: Sides): number {
  if (rule === "friend") return Number(namesFriend(left)) - Number(namesFriend(right));
  if (rule === "shorter") return wordsOf(right) - wordsOf(left);
  return goldLeft - goldRight;
}
