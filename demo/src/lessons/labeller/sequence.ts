/** Which pair lies on the table next. */
import type { Answer } from "../../lib/labels.ts";
import type { Pair } from "./deck.ts";

/** Two stories to choose from. */
export interface Shown {
  prompt: string;
  left: string;
  right: string;
}

/** Of five pairs one comes again with its sides swapped, four pairs later. */
const PERIOD = 5;
const FIRST_AGAIN = 7;
const BACK = 4;

/** The next pair of the deck that was not answered, or now and then one that was; null when all are done. */
export function nextPair(deck: readonly Pair[], answers: readonly Answer[]): Shown | null {
  const at = answers.length;
  if (at >= FIRST_AGAIN && (at - FIRST_AGAIN) % PERIOD === 0) {
    const { prompt, left, right, choice } = answers[at - BACK];
    if (choice !== "none") return { prompt, left: right, right: left };
  }
  const answered = new Set(answers.map(keyOf));
  return deck.find((pair) => !answered.has(keyOf(pair))) ?? null;
}

const keyOf = ({ prompt, left, right }: Shown): string => JSON.stringify([prompt, ...[left, right].sort()]);
