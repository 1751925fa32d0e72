import { permutation } from "../../../runtime/rng.ts";
import type { Environment, EnvironmentRow } from "../environment.ts";

/** Guesses that always suffice to find one of so many numbers: by halving what is left. */
export const guessesFor = (numbers: number): number => Math.ceil(Math.log2(numbers + 1));

/**
 * Number guessing: the policy names numbers until it has the secret one, the row's `number`, and is told "higher" or "lower". It
 * has as many turns as halving needs, so that the best policy always wins. Right: 1; out of turns: 0.
 */
export function guessEnvironment(numbers = 7, turns = guessesFor(numbers)): Environment {
  const say = (content: string) => [{ role: "user", content }];
  return {
    name: "guess",
    best: 1,
    rows: (n, seed) => {
      const rows: EnvironmentRow[] = [];
      for (let round = 0; rows.length < n; round++) {
        for (const at of permutation(numbers, seed, round)) rows.push({ number: at + 1 });
      }
      return rows.slice(0, n);
    },
    reset({ prompt: { row } }) {
      const secret = Number(row?.number);
      if (!Number.isInteger(secret)) throw new Error(`the row has no whole number in the column "number"`);
      return {
        observation: say(`guess a number from 1 to ${numbers}`),
        step({ text, turn }) {
          const guess = /^\s*(\d+)\s*$/.exec(text)?.[1];
          if (guess !== undefined && Number(guess) === secret) return { reward: 1, done: true };
          if (turn + 1 >= turns) return { done: true };
          if (guess === undefined) return { observation: say("a number") };
          return { observation: say(Number(guess) < secret ? "higher" : "lower") };
        },
      };
    },
  };
}
