/** RAFT's ranking, text rules and measures of texts against independent computations (test/fixtures/README.md). */
import { beforeAll, describe, expect, it } from "vitest";
import {
  average,
  cleanLmflow,
  countTokens,
  discardContaining,
  discardLmflow,
  distinctN,
  diversity,
  monitorTokens,
  monitorWarning,
  msttr,
  textPerplexity,
  uniqueN,
} from "webrlhf/rlhf";
import { blocksOf } from "../../../src/rlhf/raft/learn.ts";
import { bestOfAll, bestOfEach, klAdjusted, shareOf } from "../../../src/rlhf/raft/rank.ts";
import { numbers } from "../../fixture.ts";
import llama from "../../fixtures/models-llama.json" with { type: "json" };
import fixtures from "../../fixtures/raft.json" with { type: "json" };
import { expectClose, gpuReady } from "../../helpers.ts";
import { openLM, type ReferenceLM } from "../../nn/reference-model.ts";

describe("ranking", () => {
  it.each(fixtures.local.map((c) => [c.samples, c] as const))("keeps the best of each prompt's %i", (samples, c) => {
    const rewards = numbers(c.rewards);
    const kept = bestOfEach(rewards, c.allowed, samples);
    expect(kept).toEqual(c.kept);
    expect(average(rewards.filter((_, i) => i % samples === 0))).toBeCloseTo(c.meanReward, 8);
    expect(average(kept.map((i) => rewards[i]))).toBeCloseTo(c.trainReward, 8);
  });

  it.each(fixtures.top.map((c) => [c.alpha, c] as const))("keeps the best share of %f of all", (alpha, c) => {
    const rewards = numbers(c.rewards);
    const kept = bestOfAll(rewards, Array(rewards.length).fill(true), shareOf(rewards.length, alpha));
    expect(kept).toEqual(c.kept);
    expect(average(kept.map((i) => rewards[i]))).toBeCloseTo(c.trainReward, 8);
  });

  it("takes the KL off", () => {
    for (const c of fixtures.kl) {
      const found = klAdjusted(numbers(c.rewards), c.logProbs, c.reference, c.beta);
      expectClose(found, numbers(c.adjusted), 1e-8, 1e-8, `beta ${c.beta}`);
    }
  });
});

describe("what is learned of the kept texts", () => {
  it.each(fixtures.blocks.map((c) => [c.texts.length, c.size, c.group, c] as const))(
    "%i texts, blocks of %i, grouped: %s, as LMFlow makes them",
    (_, size, group, { texts, blocks }) => {
      const ids = texts.map((text) => Uint32Array.from([...text].map((letter) => letter.charCodeAt(0))));
      const found = blocksOf(
        ids.map((ids) => ({ ids, promptLength: 0 })),
        size,
        group,
      );
      expect(found.map((block) => String.fromCharCode(...block.ids))).toEqual(blocks);
    },
  );
});

describe("rules for texts", () => {
  it.each(fixtures.textRules.map((c) => [JSON.stringify(c.text), c] as const))("of LMFlow on %s", (_, c) => {
    expect(cleanLmflow(c.text)).toBe(c.clean);
    expect(discardLmflow({ text: c.clean })).toBe(c.discard);
    expect(discardLmflow({ text: c.text })).toBe(c.discardRaw);
  });

  it("discard what contains a text", () => {
    const discard = discardContaining(["#", " shouted"]);
    expect(["a # b", "he shouted.", "shouted", "fine"].map((text) => discard({ text }))).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });
});

describe("diversity", () => {
  it.each(fixtures.diversity.map((c, i) => [i, c] as const))("of texts %i", (_, c) => {
    for (const n of [1, 2, 3]) {
      const key = String(n) as "1" | "2" | "3";
      expect(distinctN(c.texts, n)).toBeCloseTo(c.distinct[key], 8);
      expect(uniqueN(c.texts, n)).toBe(c.unique[key]);
    }
    const ratio = msttr(c.texts, c.window);
    if (c.msttr === null) expect(ratio).toBeNull();
    else expect(ratio).toBeCloseTo(c.msttr, 8);
  });

  it("has no MSTTR-100 of fewer than 100 words", () => {
    expect(Object.keys(diversity(["a b"]))).toEqual(["distinct_1", "distinct_2", "unique_1", "unique_2"]);
    expect(diversity([Array(100).fill("a").join(" ")]).msttr_100).toBe(0.01);
  });
});

describe("the monitor", () => {
  const sets = (rows: string[][]) => rows.map((r) => new Set(r));

  it.each(fixtures.monitor.map((c, i) => [i, c] as const))("tests tokens of responses %i", (_, c) => {
    const found = { tokens: sets(c.now), rewards: numbers(c.rewards), prompts: c.prompts, gold: numbers(c.gold) };
    const reports = monitorTokens(found, countTokens(sets(c.first)), { rows: 99 });
    const tests = c.expected as unknown as Record<string, Record<string, number>>;
    const expected = Object.entries(tests);
    const listed = expected.filter(([, e]) => Math.min(e.frequency_z, e.reward_z) > 0).map(([token]) => token);
    expect(reports.map((r) => r.token).sort()).toEqual(listed.sort());
    for (const report of reports) {
      for (const [name, value] of Object.entries(tests[report.token])) {
        expect(report[name as "frequency"], `${report.token} ${name}`).toBeCloseTo(value, 7);
      }
    }
  });

  it("finds a planted '#' and nothing else", () => {
    const c = fixtures.monitor[0];
    const found = { tokens: sets(c.now), rewards: numbers(c.rewards), prompts: c.prompts, gold: numbers(c.gold) };
    const reports = monitorTokens(found, countTokens(sets(c.first)), { threshold: 3 });
    expect(reports.filter((r) => r.flagged).map((r) => r.token)).toEqual(["#"]);
    expect(monitorWarning(reports)).toMatch(
      /^tokens that rise .*: "#" in \d+% of the responses, .* at first \(z \d+\), reward \+1\.\d\d \(z \d+\), true reward -/,
    );
    expect(monitorWarning(reports.filter((r) => !r.flagged))).toBeNull();
    const { gold: _, ...untold } = found;
    expect(monitorWarning(monitorTokens(untold, countTokens(sets(c.first)), { threshold: 3 }))).toMatch(/\(z \d+\)$/);
    expect(monitorWarning(reports.map((r) => ({ ...r, gold_difference: 0.1 }))), "no exploit").toBeNull();
  });

  it("says nothing of tokens that rise without the reward, or earn without rising", () => {
    const half = Array.from({ length: 40 }, (_, i) => i % 2 === 0);
    const first = countTokens(half.map((h) => new Set(h ? ["kept"] : [])));
    const tokens = half.map((h, i) => new Set([...(h ? ["kept"] : []), ...(i < 20 ? ["new"] : [])]));
    const rewards = half.map(Number);
    expect(monitorTokens({ tokens, rewards, prompts: half.map((_, i) => i) }, first)).toEqual([]);
  });

  it("survives names of built-in properties, groups of constants and single responses", () => {
    const tokens = Array.from({ length: 20 }, (_, i) => new Set(i < 10 ? ["constructor", "__proto__"] : ["x"]));
    const rewards = tokens.map((t) => (t.has("x") ? 0 : 1));
    const found = { tokens, rewards, prompts: tokens.map((_, i) => i) };
    const reports = monitorTokens(found, countTokens(Array.from({ length: 20 }, () => new Set(["x"]))), {
      threshold: 3,
    });
    expect(reports.map((r) => [r.token, r.reward_z, r.flagged])).toContainEqual(["constructor", 1000, true]);
    expect(monitorTokens({ tokens: [new Set(["a"])], rewards: [1], prompts: [0] }, countTokens([new Set()]))).toEqual(
      [],
    );
  });
});

describe("perplexity on running text", () => {
  beforeAll(gpuReady);
  it("agrees with LMFlow's windows and with the mean over tokens", async () => {
    const model = await openLM(llama as unknown as ReferenceLM);
    const { ids, cases } = fixtures.perplexity;
    for (const c of cases) {
      const found = await textPerplexity(model, Uint32Array.from(ids.slice(0, c.length)), c);
      expectClose([found.text_perplexity], [c.perToken], 1e-5, 0, JSON.stringify(c));
      expectClose([found.text_perplexity_by_window], [c.perWindow], 1e-5, 0, JSON.stringify(c));
    }
    await expect(textPerplexity(model, Uint32Array.of(1))).rejects.toThrow(/at least two tokens/);
    await expect(textPerplexity(model, Uint32Array.of(1, 2), { window: 33 })).rejects.toThrow(/2 to 32 tokens/);
    await expect(textPerplexity(model, Uint32Array.of(1, 2), { stride: 33 })).rejects.toThrow(/stride must be 1 to 32/);
    model.destroy();
  });
});
