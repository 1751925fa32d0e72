/** The questions that the page suggests, as knobs. */
import { defaultKnobs } from "./knobs.ts";
import type { Knobs } from "./protocol.ts";

export interface Exhibit {
  readonly name: string;
  readonly question: string;
  /** What makes it this question. */
  readonly asks: Partial<Knobs>;
  /** Sizes and a seed in which the answer can be seen. */
  readonly size?: Partial<Knobs>;
  /** Recorded besides, because one seed could mislead. */
  readonly otherSeeds?: readonly number[];
}

export const exhibits: readonly Exhibit[] = [
  { name: "The ordinary case", question: "Do both rewards rise?", asks: {} },
  {
    name: "No KL penalty",
    question: "What happens to the truth when nothing holds the policy back?",
    asks: { klCoef: 0 },
    size: { seed: 46, rolloutSize: 32, rewardPairs: 512, steps: 30 },
    otherSeeds: [42, 43, 44, 45, 47],
  },
  { name: "A poor judge", question: "What does a reward model of 64 pairs teach?", asks: { rewardPairs: 64 } },
  {
    name: "RAFT instead",
    question: "Is it enough to imitate one's own best stories?",
    asks: { algorithm: "raft" },
    size: { rolloutSize: 128, steps: 12 },
  },
];

export const knobsOf = ({ asks, size }: Exhibit): Knobs => ({ ...defaultKnobs, ...size, ...asks });

const specific = [...exhibits].sort((a, b) => Object.keys(b.asks).length - Object.keys(a.asks).length);

/** The question that these knobs ask, in whatever size; null: one of the visitor's own. */
export function exhibitOf(knobs: Knobs): Exhibit | null {
  const matches = (exhibit: Exhibit) => {
    const wanted = knobsOf(exhibit);
    const keys: (keyof Knobs)[] = ["algorithm", "learningRate", ...(Object.keys(exhibit.asks) as (keyof Knobs)[])];
    if (knobs.algorithm === "ppo") keys.push("klCoef"); // RAFT has none
    return keys.every((key) => knobs[key] === wanted[key]);
  };
  return specific.find(matches) ?? null;
}
