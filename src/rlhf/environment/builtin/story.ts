import { useVerbOf } from "../../../data/world/words.ts";
import { goldBreakdown, parseWish, type Wish } from "../../../data/world.ts";
import type { Environment } from "../environment.ts";

/** What a critic asks for, in words that the world's tokenizer knows; what is missing the most comes first. */
const ASKS = {
  object: ({ hero, object }: Wish) => ` ${hero} wanted the ${object}.`,
  sense: ({ hero, object }: Wish) => ` ${hero} wanted it ${useVerbOf(object)}.`,
  kind: ({ hero }: Wish) => ` ${hero} wanted it shared.`,
  happy: ({ hero }: Wish) => ` ${hero} wanted it happy.`,
  hero: ({ hero }: Wish) => ` ${hero} wanted it.`,
} as const;

/**
 * A story of the built-in world, written twice: after the first a critic asks for what it lacks, and the second is worth its true reward,
 * 3.5 at best. A story that lacks nothing is the last. The prompts are the world's.
 */
export function storyEnvironment(): Environment {
  return {
    name: "story",
    best: 3.5,
    reset({ prompt }) {
      const wish = parseWish(prompt.text);
      if (!wish) throw new Error(`${JSON.stringify(prompt.text.slice(0, 80))} is no prompt of builtin:world`);
      return {
        step({ text, turn, ended }) {
          const worth = goldBreakdown(prompt.text, text);
          const lacking = (Object.keys(ASKS) as (keyof typeof ASKS)[]).find((part) => worth[part] <= 0);
          if (turn > 0 || !lacking || !ended) return { reward: worth.total, done: true };
          return { observation: ASKS[lacking](wish) };
        },
      };
    },
  };
}
