/** Built-in environments as problems for tiny policies that begin as weak players. */
import { calculatorEnvironment, gridEnvironment, guessEnvironment } from "webrlhf/rlhf";
import type { Problem } from "./play.ts";
import { wordTokenizer } from "./words.ts";

const numbers = (n: number) => Array.from({ length: n }, (_, i) => `${i + 1}`);

/**
 * What PPO has of its own. Its critic learns faster than its policy, and from the first step on, so that it knows what is to be expected while
 * the policy still warms up. Whitened advantages, a loss that is bounded where they are negative, shorter gradients and a small KL penalty keep what
 * imitation has taught: without these, policies sometimes forgot how to end a turn while the critic was still wrong.
 */
const PPO = {
  maxSteps: 40,
  numPpoEpochs: 2,
  minibatchOrder: "shuffled",
  learningRate: 0.0015,
  warmupSteps: 0.25,
  criticLearningRate: 0.002,
  criticWarmupSteps: 0,
  whitenAdvantages: true,
  lam: 0.95,
  clipRangeValue: 0.5,
  dualClip: 3,
  maxGradNorm: 0.5,
  klCoef: 0.02,
  entropyCoef: 0.003,
} as const;

/** What all have in common. */
const settings = {
  imitation: { steps: 300, batch: 64, episodes: 4096, rate: 0.005, warmup: 0.1 },
  learning: { steps: 28, prompts: 15, samples: 8, rate: 0.002, passes: 4, entropy: 0.01, ppo: PPO },
  size: { layers: 2, hiddenSize: 48, heads: 4, maxPositions: 80 },
  maxTurns: 8,
};

/** To repeat, or to heed, what stands so many tokens before is easier to learn in one layer. */
const wide = { ...settings.size, layers: 1, hiddenSize: 64 };

/** One of `n` numbers. The player guesses at random, and three times in four heeds what it was told last. */
const guessing = (n: number): Problem => ({
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

/** One of three numbers for tests: of a smaller policy, which imitates more briefly, so that it takes seconds. */
export const littleGuessing: Problem = {
  ...guessing(3),
  size: { ...settings.size, layers: 1 },
  imitation: { steps: 80, batch: 64, episodes: 256, rate: 0.01, warmup: 0 },
  learning: { ...settings.learning, steps: 30, prompts: 12, rate: 0.005, passes: 1 },
  rows: 12,
};

/** The grid. The player walks towards the corner three times in four, and else anywhere. */
const walking: Problem = {
  ...settings,
  environment: gridEnvironment(),
  tokenizer: wordTokenizer(["row", "column", "up", "down", "left", "right", ...numbers(4)]),
  tokens: 64,
  size: wide,
  imitation: { ...settings.imitation, batch: 32, rate: 0.01 },
  learning: { ...settings.learning, steps: 14, prompts: 10, rate: 0.0015, ppo: { ...PPO, maxSteps: 22 } },
  best: 1,
  enough: 0.95,
  player(seen, draw, { row: start }) {
    const [, row, column] = /row (\d) column (\d)$/.exec(seen) ?? [null, start?.row, start?.column];
    const helping = [...(Number(row) < 4 ? ["down"] : []), ...(Number(column) < 4 ? ["right"] : [])];
    const moves = draw(0) < 0.75 ? helping : ["up", "down", "left", "right"];
    return moves[Math.floor(draw(1) * moves.length)];
  },
};

const CALL = ['<tool_call> {"name":"calculator","arguments":{"expression":"', '"}} </tool_call>'] as const;
const SIGNS = ["*", "*", "+", "-"];

/**
 * Products of two digits. The player mistakes the sign half the time, and one time in ten a factor; or it guesses at once. What it is told it
 * says.
 */
const calculating: Problem = {
  ...settings,
  environment: calculatorEnvironment(1),
  tokenizer: wordTokenizer(
    ["What", "is", ...CALL.join(" ").split(" "), "*", "+", "-", ...numbers(81), ...numbers(9).map((n) => `${n}?`)],
    "...",
  ),
  tokens: 40,
  size: wide,
  imitation: { ...settings.imitation, steps: 500, episodes: 8192, rate: 0.01 },
  learning: {
    ...settings.learning,
    ...{ steps: 34, rate: 0.0012, entropy: 0 },
    ppo: { ...PPO, learningRate: 0.001, entropyCoef: 0 },
  },
  best: 1,
  enough: 0.95,
  player(seen, draw, { row }) {
    const [, a, b] = /(\d) \* (\d)/.exec(String(row?.question)) as unknown as string[];
    const any = (k: number, least: number, most: number) => `${least + Math.floor(draw(k) * (most - least + 1))}`;
    if (seen === "") {
      if (draw(0) < 0.1) return any(1, 1, 81);
      const factor = draw(2) < 1 / 10 ? any(3, 2, 9) : b;
      return `${CALL[0]} ${a} ${SIGNS[Math.floor(draw(4) * SIGNS.length)]} ${factor} ${CALL[1]}`;
    }
    return /(\d+)$/.exec(seen)?.[1] ?? any(1, 1, 81);
  },
};

/** All of them by their environments' names. */
export const problems = { guess: guessing(3), calculator: calculating, grid: walking } as const;
