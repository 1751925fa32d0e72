/**
 * Word problems of two steps with small numbers, as GSM8K's but made by seed. As a module of a dataset this gives those of a split:
 * `--dataset_name ./examples/arithmetic/problems.ts`. `rewards/arithmetic.ts` verifies their answers, `arithmetic/tool.ts` lets a
 * policy do the sums with a calculator.
 */

/** A word problem: a number, and what becomes of it twice. */
export interface Problem {
  prompt: readonly { role: "user"; content: string }[];
  /** The sums that lead to the answer, such as "7 + 5 = 12". */
  working: readonly string[];
  answer: number;
}

const NAMES = ["Tom", "Mia", "Ben", "Zoe", "Sam", "Lily"];
const THINGS = ["pears", "cards", "books", "balls", "hats", "pens"];
const HAS = ["has", "keeps"];
const JOINS = ["and", "then"];
/** What verbs do to a number. */
const VERBS = { "+": ["buys", "finds", "gets"], "-": ["eats", "loses", "sells"] } as const;
type Sign = keyof typeof VERBS;
const SIGNS: readonly Sign[] = ["+", "-"];
/** The share of all problems that is held out. */
const HELD_OUT = 0.2;

/** A stream of uniform numbers in [0, 1) for a seed (Vigna's splitmix, 32 bits). */
export function randomNumbers(seed: number): () => number {
  let state = Math.imul(seed + 1, 0x9e3779b9);
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let mixed = Math.imul(state ^ (state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
  };
}

const pick = <T>(from: readonly T[], random: () => number): T => from[Math.floor(random() * from.length)];

/** The numbers and signs of a problem. */
type Sums = readonly [start: number, ...changes: (readonly [sign: Sign, by: number])[]];

const after = (value: number, sign: Sign, by: number): number => (sign === "+" ? value + by : value - by);

/** All of them with numbers up to `most` that stay at or above 0, each once, in an order of its own; the last fifth is held out. */
function allSums(most: number): Sums[] {
  const all: Sums[] = [];
  for (let start = 1; start <= most; start++) {
    for (const first of SIGNS) {
      for (let x = 1; x <= most; x++) {
        for (const second of SIGNS) {
          for (let y = 1; y <= most; y++) {
            const between = after(start, first, x);
            if (between >= 0 && after(between, second, y) >= 0) all.push([start, [first, x], [second, y]]);
          }
        }
      }
    }
  }
  const random = randomNumbers(7);
  const keyed = all.map((sums) => ({ sums, key: random() }));
  return keyed.sort((a, b) => a.key - b.key).map(({ sums }) => sums);
}

function told([start, ...changes]: Sums, random: () => number): Problem {
  const [name, things] = [pick(NAMES, random), pick(THINGS, random)];
  const deeds = changes.map(([sign, by]) => `${pick(VERBS[sign], random)} ${by}`);
  const content = `${name} ${pick(HAS, random)} ${start} ${things}, ${deeds.join(` ${pick(JOINS, random)} `)}. How many are left?`;
  let value = start;
  const working = changes.map(([sign, by]) => {
    const before = value;
    value = after(value, sign, by);
    return `${before} ${sign} ${by} = ${value}`;
  });
  return { prompt: [{ role: "user", content }], working, answer: value };
}

/**
 * n problems for a seed. Those of "test" have numbers and signs together that no problem of "train" has, whatever their words.
 * @param most the largest number in them; results may be larger
 */
export function problems(n: number, seed: number, split: "train" | "test" = "train", most = 6): Problem[] {
  const all = allSums(most);
  const trained = Math.round(all.length * (1 - HELD_OUT));
  const own = split === "test" ? all.slice(trained) : all.slice(0, trained);
  const random = randomNumbers(seed);
  return Array.from({ length: n }, () => told(pick(own, random), random));
}

/** Rows for the command line. */
export default ({ split }: { split: string }): Problem[] =>
  split === "test" ? problems(400, 2, "test") : problems(2000, 1, "train");
