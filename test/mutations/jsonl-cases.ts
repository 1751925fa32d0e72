/** Damaged JSON lines: other values, other ends of lines, and bytes that are no text. */
import { RandomStream } from "../../src/runtime/rng.ts";
import { mutate } from "../io/mutate.ts";
import { damage, pick, treeOf, written } from "./json-tree.ts";

const TEXTS = [
  "",
  "a",
  "ü\u2028ß",
  '"\\/',
  "\ud83d\ude42",
  "\ud83d",
  "\ufeff",
  "\u0000\u001f\u007f\u0085",
  "__proto__",
];

export function jsonlCase(seed: number): Uint8Array {
  const random = new RandomStream(seed);
  const text = () => pick(random, TEXTS) + pick(random, TEXTS);
  const row = () =>
    pick<() => unknown>(random, [
      () => ({ prompt: text(), chosen: text(), rejected: text() }),
      () => ({ messages: [{ role: "user", content: text() }], score: random.int(9) / 4, [text()]: null }),
      () => ({ id: 2 ** random.int(70), deep: { a: [[], {}, [text()]] }, good: true }),
    ])();
  let out = random.int(20) === 0 ? "\ufeff" : "";
  for (let i = 1 + random.int(5); i > 0; i--) {
    const tree = treeOf(row());
    for (let k = random.int(4) ? 0 : 1 + random.int(3); k > 0; k--) damage(tree, random);
    let line = written(tree);
    if (random.int(8) === 0) line = pick(random, odd)(line, random);
    out +=
      line +
      (i > 1 || random.int(2) ? pick(random, ["\n", "\n", "\n", "\r\n", "\n\n", " \n\t\n", "\r", "\n\u00a0\n"]) : "");
  }
  const bytes = new TextEncoder().encode(out);
  return random.int(4) === 0 ? mutate(bytes, random) : bytes;
}

/** Lines that some readers of JSON take and others do not. */
const odd: readonly ((line: string, random: RandomStream) => string)[] = [
  (line) => `${line},`,
  (line) => line.replace(":", ": "),
  (line) => line.replace(/[}\]]+$/, (end) => `,${end}`),
  (line) => line.replace(/"[^"]*"(?=[,}\]])/, "NaN"),
  (line) => line.replace(/"[^"]*"(?=[,}\]])/, "-Infinity"),
  (line) => line.replace(/"[^"]*"(?=[,}\]])/, "'x'"),
  (line, random) =>
    line.replace(/"[^"]*"(?=[,}\]])/, pick(random, ["01", "1.", ".5", "+1", "1e5", "-0.0", "1E+2", "0x10"])),
  (line, random) =>
    line.replace(
      /"[^"]*"(?=[,}\]])/,
      pick(random, ['"\\u00e9"', '"\\ud83d\\ude42"', '"\\ude42"', '"\\x41"', '"\\u12"', '"\t"']),
    ),
  (line) => `${line} // note`,
  (line) => line + line,
  (line) => line.replace(",", "\u00a0,"),
  (line) => line.slice(0, -1),
];
