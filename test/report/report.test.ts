import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { chartStyle, describe as describeChart, escapeXml, lineChart, showNumber, smooth, thin } from "webrlhf/report";
import type { RunRecord } from "webrlhf/rlhf";
import { looksOf } from "../../src/report/chart.ts";
import { curve, quantity, type ReportData, type RunData } from "../../src/report/data.ts";
import { buildReport } from "../../src/report/report.ts";
import { summarise } from "../../src/report/summary.ts";
import { checkXml } from "./xml.ts";

const chart = {
  id: "c",
  title: "Reward & <KL>",
  xLabel: "step",
  yLabel: "reward",
  series: [
    {
      name: "a",
      points: [
        [1, 0.5],
        [2, 2],
        [3, 1],
      ] as [number, number][],
    },
    {
      name: "b",
      points: [
        [1, 1],
        [2, Number.NaN],
        [3, Number.POSITIVE_INFINITY],
      ] as [number, number][],
    },
  ],
  references: [{ name: "ceiling", y: 3 }],
};

describe("a line chart", () => {
  it("is well-formed, titled and described in words", () => {
    const svg = lineChart(chart);
    checkXml(svg);
    expect(svg).toContain('<title id="c-title">Reward &amp; &lt;KL&gt;</title>');
    expect(svg).toContain('aria-labelledby="c-title c-desc"');
    expect(svg).toContain("a: from 0.5 at step 1, highest 2 at step 2 to 1 at step 3.");
    expect(svg).not.toMatch(/NaN|Infinity|undefined|null/);
  });

  it("tells series apart by dash and marker as well as by colour", () => {
    const svg = lineChart(chart);
    const strokes = [
      ...svg.matchAll(/stroke="var\(--chart-(\d)[^>]*stroke-width="2"[^>]*?(stroke-dasharray="([^"]*)")?\/>/g),
    ];
    expect(new Set(strokes.map((match) => `${match[1]} ${match[3]}`)).size).toBe(2);
    const marks = [...svg.matchAll(/<path d="(M[^"]*Z)"/g)].map((match) => match[1]);
    expect(new Set(marks).size).toBe(2);
  });

  it("gives none of 36 series the look of another", () => {
    const points = [[1, 1] as const];
    const svg = lineChart({ ...chart, series: Array.from({ length: 36 }, (_, i) => ({ name: `s${i}`, points })) });
    const [, legend] = svg.split(/(?=<path d="M56 36h32")/);
    const keys = [...legend.matchAll(/h32" stroke="([^"]*)" stroke-width="2"([^>]*)\/><path d="([^"]*)"/g)];
    expect(new Set(keys.map(([, ...look]) => look.join())).size).toBe(36);
  });

  it("shows runs that differ after a comma in one colour", () => {
    expect(looksOf(["old, seed 1", "new, seed 1", "old, seed 2", "new, seed 2", "new"])).toEqual([0, 1, 6, 7, 2]);
    expect(looksOf(["a", "b", "c"])).toEqual([0, 1, 2]);
    const many = Array.from({ length: 14 }, (_, i) => `${i % 7}, ${i}`);
    expect(new Set(looksOf(many)).size).toBe(14);
  });

  it.each([
    ["nothing", []],
    ["one point", [{ name: "a", points: [[1, 1]] as [number, number][] }]],
    [
      "a flat line",
      [
        {
          name: "a",
          points: [
            [1, 0],
            [2, 0],
          ] as [number, number][],
        },
      ],
    ],
  ])("draws %s without nonsense", (_, series) => {
    const svg = lineChart({ ...chart, series, references: [] });
    checkXml(svg);
    expect(svg).not.toMatch(/NaN|Infinity/);
  });

  it("keeps the axis' name clear of long tick labels", () => {
    const points = [0.70012, 0.70013, 0.70014].map((y, x) => [x, y] as const);
    const svg = lineChart({ ...chart, series: [{ name: "a", points }], references: [] });
    const labels = [...svg.matchAll(/<text x="([\d.]+)" y="[\d.]+" text-anchor="end">([^<]*)</g)];
    expect(Math.max(...labels.map(([, , text]) => text.length))).toBeGreaterThan(6);
    for (const [, end, text] of labels) expect(Number(end) - text.length * 6.8).toBeGreaterThan(20);
  });

  it("wraps a title that is wider than the chart", () => {
    const title = "The stories: judged and true reward over all the steps";
    const titles = (width: number) =>
      [...lineChart({ ...chart, title, width }).matchAll(/y="(\d+)" font-size="14"[^>]*>([^<]*)</g)].map((m) =>
        m.slice(1),
      );
    expect(titles(640)).toEqual([["18", title]]);
    const narrow = titles(280);
    expect(narrow.map(([, text]) => text).join(" ")).toBe(title);
    expect(narrow.map(([y]) => y)).toEqual(["18", "36", "54"]);
    for (const [, text] of narrow) expect(text.length * 7.5).toBeLessThan(280 - 56);
    // Nothing lies on the second line.
    expect(lineChart({ ...chart, title, width: 280 })).toContain('d="M56 72h32"');
  });

  it("draws a band behind a line, and fits the axis to it", () => {
    const [a, b] = chart.series;
    const band = [
      [1, -8, 0.5],
      [2, -6, 2],
      [3, Number.NaN, 1],
    ] as const;
    const svg = lineChart({ ...chart, series: [{ ...a, band }, b] });
    checkXml(svg);
    const area = /<path d="M([^"]*)Z" fill="var\(--chart-0,[^"]*" fill-opacity/.exec(svg);
    expect(area?.[1].split("L").length).toBe(4);
    expect(svg).toContain(">−8<");
    expect(svg).not.toContain("NaN");
  });

  it("draws upright bars, fits the axis to them, and leaves out those without numbers", () => {
    const [a, b] = chart.series;
    const bars = [
      [1, -8, 0.5],
      [2, -6, 2],
      [3, Number.NaN, 1],
    ] as const;
    const svg = lineChart({ ...chart, series: [{ ...a, bars }, b] });
    checkXml(svg);
    const [, drawn] =
      /<path d="([MV\d. ]+)" fill="none" stroke="var\(--chart-0,[^"]*" stroke-opacity="\.6"/.exec(svg) ?? [];
    const ends = [...drawn.matchAll(/M([\d.]+) ([\d.]+)V([\d.]+)/g)].map(([, ...at]) => at.map(Number));
    expect(ends).toHaveLength(2);
    expect(ends[1][0]).toBeGreaterThan(ends[0][0]);
    for (const [, low, high] of ends) expect(low).toBeGreaterThan(high); // y points down
    expect((ends[0][1] - ends[0][2]) / (ends[1][1] - ends[1][2])).toBeCloseTo(8.5 / 8, 1);
    expect(svg).toContain(">−8<");
    expect(svg).not.toContain("NaN");
  });

  it("keeps the axis within what it is told, and says so where something lies beyond", () => {
    const points = [
      [1, 1],
      [2, -500],
    ] as const;
    const inside = lineChart({ ...chart, series: [{ name: "a", points }], within: [-3, 4] });
    expect(inside).toContain(">−3<");
    expect(inside).not.toContain(">−100<");
    expect(inside).toContain("on the edge: beyond −3 and 4");
    expect(inside).toContain("a: from 1 at step 1 to −500 at step 2.");
    expect(lineChart({ ...chart, within: [-30, 40] })).not.toContain("beyond");
  });

  it("stays well-formed for any numbers and names", () => {
    const point = fc.tuple(fc.double({ min: -1e9, max: 1e9 }), fc.double());
    fc.assert(
      fc.property(
        fc.array(fc.record({ name: fc.string({ unit: "binary" }), points: fc.array(point, { maxLength: 30 }) }), {
          maxLength: 4,
        }),
        (series) => {
          const svg = lineChart({ ...chart, series });
          checkXml(svg);
          expect(svg).not.toContain("NaN,");
        },
      ),
      { numRuns: 100 },
    );
  });

  it("has readable colours for light and dark pages", () => {
    for (const [block, background] of [chartStyle.split("\n")[0], chartStyle.split("\n")[1]].map((css, i) => [
      css,
      i === 0 ? "#ffffff" : "#14181d",
    ])) {
      const colours = [...block.matchAll(/--chart-\d:(#[0-9a-f]{6})/g)].map((match) => match[1]);
      expect(colours.length).toBe(6);
      for (const colour of colours) expect(contrast(colour, background), colour).toBeGreaterThan(4.5);
    }
  });
});

describe("helpers", () => {
  it("thin keeps the first and the last", () => {
    expect(thin([1, 2, 3, 4, 5, 6, 7], 3)).toEqual([1, 4, 7]);
    expect(thin([1, 2], 3)).toEqual([1, 2]);
  });

  it("smooth leaves constants alone and skips what is not a number", () => {
    expect(
      smooth(
        [
          [0, 2],
          [1, Number.NaN],
          [2, 2],
        ],
        3,
      ).map(([, y]) => y),
    ).toEqual([2, 2, 2]);
    expect(describeChart({ xLabel: "step", series: [{ name: "x", points: [] }] })).toBe("x: no data.");
  });

  it("escapes text", () => {
    expect(escapeXml(`<a b="c">&'\u0000\ud800`)).toBe("&lt;a b=&quot;c&quot;&gt;&amp;&#39;\ufffd\ufffd");
    expect(escapeXml("fox 🦊")).toBe("fox 🦊");
  });

  it("shows numbers briefly", () => {
    expect([0, 0.5, 1.23456, 123456, 1e-7, -2, Number.NaN, null].map((n) => showNumber(n))).toEqual([
      "0",
      "0.5",
      "1.23",
      "123456",
      "1.00e−7",
      "−2",
      "not a number",
      "–",
    ]);
  });

  it("finds a quantity under the names that trainers give it", () => {
    expect(quantity({ step: 1, "objective/kl": 2 }, "kl")).toBe(2);
    expect(quantity({ step: 1, eval_kl: 3 }, "kl")).toBe(3);
    expect(curve([{ step: 1, kl: 1 }, { step: 2 }], "kl")).toEqual([[1, 1]]);
  });
});

const evil = `</td><script>alert("x")</script>&<!--`;
const policy = (label: string, reward: number, gold: number | null, kl: number) => ({
  label,
  n: 256,
  reward,
  reward_std: 2,
  gold,
  gold_std: gold === null ? null : 0.2,
  kl,
  mean_length: 30,
  distinct_1: 0.2,
  distinct_2: 0.5,
});
const steps = Array.from({ length: 50 }, (_, i) => ({
  step: i + 1,
  epoch: 0,
  "objective/scores": i / 10,
  gold: 0.3 + Math.sin(i / 20) / 4,
  "objective/kl": i / 5,
  distinct_1: 0.3,
  tokens: 10,
}));
const data: ReportData = {
  title: `quick ${evil}`,
  description: evil,
  facts: [["adapter", evil]],
  rewardModels: [{ label: "reward", pairs: 100, accuracy: 0.8, noise_ceiling: 0.85, length_baseline: 0.5 }],
  runs: [
    {
      name: "reward",
      title: "Reward model",
      verb: "reward",
      record: null,
      steps: [{ step: 1, loss: 0.7, accuracy: 0.5, tokens: 1 }],
      evals: [{ step: 1, eval_accuracy: 0.6 }],
    },
    { name: `ppo ${evil}`, title: `PPO ${evil}`, verb: "ppo", record: null, steps, evals: [], seconds: 12 },
    { name: "sft", title: "SFT", verb: "sft", record: null, steps: [{ step: 1, loss: 2, tokens: 1 }], evals: [] },
  ],
  policies: [policy("SFT", 0, 0.3, 0), policy(evil, 3, 0.5, 4)],
  samples: [{ prompt: evil, responses: [{ label: evil, text: evil, reward: 1, gold: null }] }],
};

describe("the report", () => {
  const html = buildReport(data);

  it("is well-formed and escapes every text", () => {
    checkXml(html.replace(/^<!doctype html>\n/, ""));
    expect(html).not.toContain("<script");
    expect(html).toContain("&lt;script&gt;");
  });

  it("needs nothing from outside", () => {
    expect(html).not.toMatch(/(src|href)=/);
    expect(html.replaceAll('xmlns="http://www.w3.org/2000/svg"', "")).not.toMatch(/https?:|url\(|@import/);
  });

  it("gives ids once, and a table of data to every chart", () => {
    const ids = [...html.matchAll(/ id="([^"]*)"/g)].map((match) => match[1]);
    expect(new Set(ids).size).toBe(ids.length);
    expect(html.match(/<svg /g)?.length).toBe(html.match(/<details>/g)?.length);
  });

  it("shows the comparison, the gain, the ceiling and the over-optimisation plot", () => {
    expect(html).toContain("+1 sd");
    expect(html).toContain("noise ceiling 0.85");
    expect(html).toContain("square root of the KL");
    expect(html).toContain("0.5 ± 0.2");
  });

  it("can do with nothing, and without a true reward", () => {
    const empty: ReportData = { title: "x", facts: [], rewardModels: [], runs: [], policies: [], samples: [] };
    checkXml(buildReport(empty).replace(/^<!doctype html>\n/, ""));
    const real = buildReport({ ...data, policies: [policy("SFT", 0, null, 0), policy("PPO", 1, null, 2)] });
    expect(real).not.toContain("true reward</th>");
  });

  it("shows what a policy that learns from pairs holds of the answers", () => {
    const pairs = {
      name: "dpo",
      title: "DPO",
      verb: "dpo",
      record: null,
      steps: [1, 2].map((step) => ({
        step,
        loss: 0.7 / step,
        "rewards/chosen": step,
        "rewards/rejected": -step,
        "rewards/accuracies": 0.5,
      })),
      evals: [{ step: 2, eval_loss: 0.4, "eval_rewards/accuracies": 0.75 }],
    };
    const html = buildReport({ ...data, runs: [pairs] });
    checkXml(html.replace(/^<!doctype html>\n/, ""));
    const titles = [...html.matchAll(/Implicit rewards of the answers|Pairs ranked rightly|Distance from the start/g)];
    expect(new Set(titles.map(([title]) => title))).toEqual(
      new Set(["Implicit rewards of the answers", "Pairs ranked rightly"]),
    );
    for (const name of ["chosen", "rejected", "held out"]) expect(html).toContain(name);
  });

  it("is summed up for programs", () => {
    const summary = summarise(data);
    expect(summary.policies[1].gold_gain_sd).toBeCloseTo(1);
    expect(summary.runs[1]).toMatchObject({ verb: "ppo", steps: 50, seconds: 12 });
    expect(summary.runs[1].last.reward).toBeCloseTo(4.7);
    expect(summary.runs[1].gold_peak?.step).toBeLessThan(50);
    expect(summary.runs[0].gold_peak).toBeNull();
    expect(summary.runs[0]).toMatchObject({ last: { loss: 0.7, accuracy: 0.5 }, evaluation: { eval_accuracy: 0.6 } });
    expect(JSON.parse(JSON.stringify(summary))).toEqual(summary);
  });
});

describe("runs with records", () => {
  const run = (name: string, learning_rate: number, state: RunRecord["state"] = "finished"): RunData => ({
    name,
    title: name,
    verb: "dpo",
    record: {
      verb: "dpo",
      webrlhf: "0.1.0",
      adapter: evil,
      settings: { learning_rate, beta: 0.1, seed: null },
      inputs: [{ setting: "dataset_name", name: evil, sha256: "ab".repeat(32) }],
      parents: [],
      state,
      steps: 2,
    },
    steps: [1, 2].map((step) => ({ step, loss: learning_rate * step, tokens: 1 })),
    evals: [{ step: 2, eval_loss: 0.25 }],
  });
  const html = buildReport({ ...data, runs: [run("one", 0.5), run("two", 0.125, "stopped")] });

  it("show what they were, which settings differ, and how they ended", () => {
    checkXml(html.replace(/^<!doctype html>\n/, ""));
    const differing = /Settings that differ:.*?<\/table>/s.exec(html)![0];
    expect(differing).toContain('<th scope="row">learning_rate</th><td>0.5</td><td>0.125</td>');
    expect(differing).not.toMatch(/beta|dataset_name|adapter/);
    expect(html).toContain("dpo: 2 runs compared");
    expect(html).toContain("dpo, not finished: stopped");
    expect(html).toContain("held-out loss");
    expect(html).toContain("sha256 abababababab");
  });

  it("are not given a verb that nobody recorded", () => {
    const unknown = { ...run("one", 1), verb: null, record: null };
    const html = buildReport({ ...data, runs: [unknown] });
    expect(html).toContain("<td>not recorded</td>");
    expect(html).not.toMatch(/sft|raft|Tokens guessed rightly|nats per token/);
    expect(summarise({ ...data, runs: [unknown] }).runs[0].verb).toBeNull();
  });
});

function contrast(a: string, b: string): number {
  const luminance = (hex: string) =>
    [1, 3, 5]
      .map((i) => Number.parseInt(hex.slice(i, i + 2), 16) / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
      .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}
