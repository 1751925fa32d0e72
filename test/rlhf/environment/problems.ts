/** The built-in environments as problems for tiny policies of whole words. */
import { gridEnvironment, guessEnvironment } from "webrlhf/rlhf";
import type { Problem } from "./play.ts";

const numbers = (n: number) => Array.from({ length: n }, (_, i) => `${i + 1}`);

/** One of `n` numbers. The player guesses at random, and half the time heeds what it was told last. */
export const guessing = (n: number): Problem => ({
  environment: guessEnvironment(n),
  words: [..."guess a number from to higher lower".split(" "), ...numbers(n)],
  tokens: 24,
  learning: { steps: 50, prompts: 12, samples: 8, rate: 0.007, ppoRate: 0.006 },
  best: 1,
  enough: 0.95,
  player(seen, draw) {
    const said = /^(\d+).* (higher|lower)/.exec(seen);
    const any = 1 + Math.floor(draw(0) * n);
    if (!said || draw(1) < 0.5) return `${any}`;
    const than = Number(said[1]);
    const [low, high] = said[2] === "higher" ? [than + 1, n] : [1, than - 1];
    return `${low > high ? any : low + Math.floor(draw(2) * (high - low + 1))}`;
  },
});

/** The grid. The player walks right or down mostly, whether that helps or not. */
export const walking: Problem = {
  environment: gridEnvironment(),
  words: [..."row column up down left right".split(" "), ...numbers(4)],
  tokens: 48,
  learning: { steps: 40, prompts: 12, samples: 8, rate: 0.007, ppoRate: 0.006 },
  best: 1,
  enough: 0.95,
  player: (_, draw) => ["right", "down", "right", "down", "left", "up"][Math.floor(draw(0) * 6)],
};

/** All of them by their environments' names. */
export const problems = { guess: guessing(3), grid: walking } as const;
