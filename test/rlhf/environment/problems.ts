/** Built-in environments as problems for tiny policies that begin as weak players. */
import { calculatorEnvironment, gridEnvironment, guessEnvironment } from "webrlhf/rlhf";
import type { Problem } from "./play.ts";
import { wordTokenizer } from "./words.ts";

const numbers = (n: number) => Array.from({ length: n }, (_, i) => `${i + 1}`);

/** What all have in common. */
const settings = {
  imitation: { steps: 500, episodes: 2048, rate: 0.01 },
  learning: { steps: 40, prompts: 12, samples: 8, rate: 0.005, ppoRate: 0.003, entropy: 0.01 },
  size: { hiddenSize: 48, heads: 4, maxPositions: 80 },
  maxTurns: 8,
};

/** One of `n` numbers. The player guesses at random, and three times in four heeds what it was told last. */
export const guessing = (n: number): Problem => ({
  ...settings,
  environment: guessEnvironment(n),
  tokenizer: wordTokenizer([..."guess a number from to higher lower".split(" "), ...numbers(n)]),
  tokens: 24,
  best: 1,
  enough: 0.95,
  // Each number as often in every step: the policy cannot see which one is asked for.
  rows: settings.learning.prompts,
  player(seen, draw) {
    const said = /^(\d+) (higher|lower)/.exec(seen);
    const any = 1 + Math.floor(draw(0) * n);
    if (!said || draw(1) < 0.25) return `${any}`;
    const than = Number(said[1]);
    const [low, high] = said[2] === "higher" ? [than + 1, n] : [1, than - 1];
    return `${low > high ? any : low + Math.floor(draw(2) * (high - low + 1))}`;
  },
});

/** The grid. The player walks towards the corner half of the time, and anywhere the other half. */
const walking: Problem = {
  ...settings,
  environment: gridEnvironment(),
  tokenizer: wordTokenizer(["row", "column", "up", "down", "left", "right", ...numbers(4)]),
  tokens: 64,
  learning: { ...settings.learning, steps: 25 },
  best: 1,
  enough: 0.95,
  player(seen, draw, { row: start }) {
    const [, row, column] = /row (\d) column (\d)$/.exec(seen) ?? [null, start?.row, start?.column];
    const helping = [...(Number(row) < 4 ? ["down"] : []), ...(Number(column) < 4 ? ["right"] : [])];
    const moves = draw(0) < 0.5 ? helping : ["up", "down", "left", "right"];
    return moves[Math.floor(draw(1) * moves.length)];
  },
};

const CALL = ['<tool_call> {"name":"calculator","arguments":{"expression":"', '"}} </tool_call>'] as const;
const SIGNS = ["*", "*", "+", "-"];

/**
 * Products of two digits. The player mistakes the sign half the time, and one time in five a factor; or it guesses at once. It says a
 * number of its own in place of the calculator's one time in five.
 */
const calculating: Problem = {
  ...settings,
  environment: calculatorEnvironment(1),
  tokenizer: wordTokenizer(
    ["What", "is", ...CALL.join(" ").split(" "), "*", "+", "-", ...numbers(81), ...numbers(9).map((n) => `${n}?`)],
    "...",
  ),
  tokens: 40,
  best: 1,
  enough: 0.95,
  player(seen, draw, { row }) {
    const [, a, b] = /(\d) \* (\d)/.exec(String(row?.question)) as unknown as string[];
    const any = (k: number, least: number, most: number) => `${least + Math.floor(draw(k) * (most - least + 1))}`;
    if (seen === "") {
      if (draw(0) < 0.1) return any(1, 1, 81);
      const factor = draw(2) < 1 / 5 ? any(3, 2, 9) : b;
      return `${CALL[0]} ${a} ${SIGNS[Math.floor(draw(4) * SIGNS.length)]} ${factor} ${CALL[1]}`;
    }
    const told = /(\d+)$/.exec(seen)?.[1];
    return told === undefined || draw(0) < 1 / 5 ? any(1, 1, 81) : told;
  },
};

/** All of them by their environments' names. */
export const problems = { guess: guessing(3), calculator: calculating, grid: walking } as const;
