// Patterns in linear time against JavaScript's own matcher, on patterns and texts by chance.
import { expect, it } from "vitest";
import { LinearRegex } from "../../src/data/tokenizer/linear-regex.ts";
import { RandomStream } from "../../src/runtime/rng.ts";

const random = new RandomStream(5);
const pick = <T>(list: readonly T[]): T => list[random.int(list.length)];

function pattern(depth: number): string {
  const atom = () => pick(["a", "b", "[ab]", "[^a]", "\\p{L}", ".", "\\u{1F642}", "[\\s\\S]"]);
  if (depth === 0) return atom();
  const inner = () => pattern(depth - 1);
  switch (random.int(8)) {
    case 0:
      return `(?:${inner()}|${inner()})`;
    case 1:
      return `(?:${inner()})${pick(["*", "+", "?", "{2}", "{1,2}", "{0,3}", "{2,}", "*?", "+?", "??"])}`;
    case 2:
      return `(?${pick(["=", "!", "<=", "<!"])}${inner()})${inner()}`;
    case 3:
      return pick(["^", "$", ""]) + inner();
    default:
      return inner() + inner();
  }
}

const matches = (find: (from: number) => readonly [number, number] | null, text: string) => {
  const found: (readonly [number, number])[] = [];
  for (let from = 0; from <= text.length; ) {
    const next = find(from);
    if (!next) break;
    found.push(next);
    const step = (text.codePointAt(next[1]) ?? 0) > 0xffff ? 2 : 1;
    from = next[1] > next[0] ? next[1] : next[1] + step;
  }
  return found;
};

it("matches where JavaScript matches", () => {
  let compared = 0;
  for (let i = 0; i < 4000; i++) {
    const source = pattern(random.int(4));
    let linear: LinearRegex;
    try {
      linear = new LinearRegex(source);
    } catch (error) {
      expect((error as Error).message).toBe("it repeats what can be nothing");
      continue;
    }
    const native = new RegExp(source, "gu");
    const text = Array.from({ length: random.int(9) }, () => pick(["a", "b", "a", "\n", "\u{1F642}"])).join("");
    const run = linear.over(text);
    const expected = matches((from) => {
      native.lastIndex = from;
      const found = native.exec(text);
      return found && [found.index, found.index + found[0].length];
    }, text);
    // V8 (Node 20) may find nothing between the halves of a character, where the standard has no place to match.
    if (expected.some(([at]) => /^[\udc00-\udfff]/.test(text.slice(at)))) continue;
    expect(
      matches((from) => run.find(from), text),
      `${source} on ${JSON.stringify(text)}`,
    ).toEqual(expected);
    compared++;
  }
  expect(compared).toBeGreaterThan(2500);
});
