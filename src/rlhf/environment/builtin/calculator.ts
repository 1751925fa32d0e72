import { randomInt } from "../../../runtime/rng.ts";
import type { Environment } from "../environment.ts";
import { toolEnvironment } from "../tools.ts";

/** Adds, subtracts and multiplies whole numbers. */
function calculated(expression: string): string {
  const [, a, sign, b] = /^\s*(-?\d{1,12})\s*([-+*])\s*(-?\d{1,12})\s*$/.exec(expression) ?? [];
  if (sign === undefined) throw new Error("write a sum, difference or product of two whole numbers, like 12 * 7");
  const [x, y] = [BigInt(a), BigInt(b)];
  return String(sign === "+" ? x + y : sign === "-" ? x - y : x * y);
}

/**
 * Arithmetic with a calculator: the policy is asked for a product, may call the tool `calculator` with an `expression`, and says the
 * result. The last number that it says is right: 1, else 0. A calculator always helps, so that the best is 1.
 * @param digits of each factor
 */
export function calculatorEnvironment(digits = 3): Environment {
  const least = digits === 1 ? 2 : 10 ** (digits - 1);
  const factor = (seed: number, i: number, which: number) => least + randomInt(10 ** digits - least, seed, i, which);
  return toolEnvironment({
    name: "calculator",
    best: 1,
    tools: [
      {
        name: "calculator",
        description: "Computes a sum, difference or product of two whole numbers",
        parameters: {
          type: "object",
          properties: { expression: { type: "string", description: "such as 12 * 7" } },
          required: ["expression"],
        },
        run: ({ expression }) => calculated(String(expression)),
      },
    ],
    rows: (n, seed, split) =>
      Array.from({ length: n }, (_, i) => {
        const [a, b] = [0, 1].map((which) => factor(seed, i, which + (split === "test" ? 2 : 0)));
        return { question: `What is ${a} * ${b}?`, answer: String(a * b) };
      }),
    ask: (row) => [{ role: "user", content: String(row.question) }],
    reward: (text, row) => Number(/-?\d+(?!.*\d)/s.exec(text)?.[0] === String(row.answer)),
  });
}
