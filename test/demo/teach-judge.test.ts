/** A judge of a class's labels, beside the class itself. */
import { describe, expect, it } from "vitest";
import deck from "../../demo/src/lessons/labeller/deck.json" with { type: "json" };
import { queries } from "../../demo/src/lessons/labeller/queries.ts";
import { leans, type Rule } from "../../demo/src/lessons/labeller/rules.ts";
import { decideHere } from "../../demo/src/lessons/labeller/without-gpu.ts";
import { type Label, labelsOf } from "../../demo/src/lib/labels.ts";
import { MOST_POOLED, PARTS, planOf, pooledLabels, verdictOf } from "../../demo/src/teach/class-judge.ts";
import { pairsOf } from "../../demo/src/teach/pool.ts";
import { type Pupil, pupilOf } from "../../demo/src/teach/pupils.ts";
import { tinyStart } from "./tiny-start.ts";

/** Numbers in [0, 1), the same each time. */
function lots(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Students who follow a rule and err so often. */
function classOf(rule: Rule, students: number, error: number, seed = 1): Pupil[] {
  const lot = lots(seed);
  return Array.from({ length: students }, (_, i) =>
    pupilOf(
      String(i),
      labelsOf(
        deck.map(({ prompt, left, right, ...gold }) => {
          const first = leans(rule, { left, right, ...gold }) > 0 !== lot() < error;
          return { prompt, left, right, choice: first ? ("left" as const) : ("right" as const) };
        }),
      ),
    ),
  );
}

const judged = (pupils: readonly Pupil[]) => {
  const { pairs, parts } = planOf(pupils) as NonNullable<ReturnType<typeof planOf>>;
  const ahead: (number | null)[] = [];
  for (const { labels, pairs: asked, places } of parts) {
    for (const [i, decided] of decideHere(labels, asked).entries()) ahead[places[i]] = decided;
  }
  return { pairs, ahead, verdict: verdictOf(pairs, ahead) };
};

describe("a judge of the class", () => {
  it("never decides a pair that it learned from, and learns from all others", () => {
    const pupils = classOf("friend", 3, 0.2);
    const { pairs, parts } = planOf(pupils) as NonNullable<ReturnType<typeof planOf>>;
    const key = ({ prompt, chosen, rejected }: Label) => JSON.stringify([prompt, ...[chosen, rejected].sort()]);
    expect(parts).toHaveLength(PARTS);
    expect(parts.flatMap(({ places }) => places).sort((a, b) => a - b)).toEqual(pairs.map((_, i) => i));
    for (const { labels, pairs: asked } of parts) {
      const learned = new Set(labels.map(key));
      for (const pair of asked) expect(learned.has(key(pair))).toBe(false);
      expect(labels).toHaveLength(pooledLabels(pairs).length - 3 * asked.length);
    }
    expect(pooledLabels(pairs)).toHaveLength(3 * deck.length);
  });

  it("is near the class's majority where they follow a rule it can learn, and far below where it cannot", () => {
    const { verdict } = judged(classOf("friend", 12, 0.2));
    expect(verdict?.decisions).toBe(12 * deck.length);
    expect(verdict?.majority.value).toBeCloseTo(0.8, 1);
    // Two students who err in a fifth of cases agree in 0.8² + 0.2² of them.
    expect(verdict?.classmate.value).toBeCloseTo(0.68, 1);
    expect(verdict?.judge.value).toBeGreaterThan(verdict?.classmate.value as number);
    // Of a rule by lot nothing can be learned, and yet the class agrees.
    const lot = lots(5);
    const side = deck.map(() => lot() < 0.5);
    const stubborn = Array.from({ length: 6 }, (_, i) =>
      pupilOf(
        String(i),
        deck.map(({ prompt, left, right }, k) => ({
          prompt,
          chosen: side[k] ? left : right,
          rejected: side[k] ? right : left,
        })),
      ),
    );
    const hopeless = judged(stubborn).verdict;
    expect(hopeless?.majority.value).toBe(1);
    expect(hopeless?.gap.value).toBeLessThan(-2 * (hopeless?.gap.se ?? 0));
  });

  it("is compared decision by decision", () => {
    const pupils = classOf("shorter", 5, 0.3, 3).map((pupil, i) => ({ ...pupil, labels: pupil.labels.slice(i) }));
    const { pairs, ahead, verdict } = judged(pupils);
    const sum = { judge: 0, classmate: 0, majority: 0, of: 0 };
    for (const [p, { votes, forA, forB }] of pairs.entries()) {
      if (forA + forB < 2) continue;
      for (const [i, vote] of votes.entries()) {
        if (!vote) continue;
        const others = votes.filter((other, k) => other && k !== i);
        const alike = others.filter((other) => other === vote).length;
        sum.of++;
        sum.judge += Number((ahead[p] as number) > 0 === (vote === "a"));
        sum.classmate += alike / others.length;
        sum.majority += alike * 2 > others.length ? 1 : alike * 2 === others.length ? 0.5 : 0;
      }
    }
    expect(verdict?.decisions).toBe(sum.of);
    for (const who of ["judge", "classmate", "majority"] as const) {
      expect(verdict?.[who].value, who).toBeCloseTo(sum[who] / sum.of, 12);
      expect(verdict?.[who].se, who).toBeGreaterThan(0);
    }
    expect(verdict?.gap.value).toBeCloseTo((sum.judge - sum.majority) / sum.of, 12);
  });

  it("is not made of too little, nor of more than a page can train", () => {
    const [one, two] = classOf("friend", 2, 0);
    expect(planOf([one])).toBeNull();
    expect(planOf([one, { ...two, labels: two.labels.slice(0, 7) }])).toBeNull();
    expect(planOf([one, { ...two, labels: two.labels.slice(0, 8) }])).not.toBeNull();
    const pairs = pairsOf([one, two]);
    expect(
      verdictOf(
        pairs,
        pairs.map((_, i) => (i < 7 ? 1 : null)),
      ),
    ).toBeNull();
    const crowd = Array.from({ length: 100 }, (_, i) => ({ ...one, name: String(i) }));
    const { parts } = planOf(crowd) as NonNullable<ReturnType<typeof planOf>>;
    for (const { labels } of parts) expect(labels.length).toBeLessThanOrEqual(MOST_POOLED);
    expect(
      decideHere(
        [],
        pairs.map(({ prompt, a, b }) => ({ prompt, chosen: a, rejected: b })),
      ),
    ).toEqual(pairs.map(() => null));
    expect(decideHere(one.labels, [{ prompt: "p", chosen: "a", rejected: "b" }])).toEqual([null]);
  });

  it("is trained in the worker as lesson 4 trains one's own", async () => {
    const { signal } = new AbortController();
    const around = { start: await tinyStart(), signal, run: null };
    const { pairs, parts } = planOf(classOf("friend", 2, 0)) as NonNullable<ReturnType<typeof planOf>>;
    const { labels, pairs: asked } = parts[0];
    const few = { labels: labels.slice(0, 10), pairs: asked.slice(0, 4), seed: 1 };
    const ahead = (await queries.decide(few, around)) as number[];
    expect(ahead).toHaveLength(4);
    const turned = few.pairs.map(({ prompt, chosen, rejected }) => ({ prompt, chosen: rejected, rejected: chosen }));
    const back = (await queries.decide({ ...few, pairs: turned }, around)) as number[];
    for (const [i, value] of back.entries()) expect(value).toBeCloseTo(-ahead[i], 5);
    expect(pairs.length).toBe(deck.length);
    await expect(queries.decide({ ...few, pairs: [{}] }, around)).rejects.toThrow();
  });
});
