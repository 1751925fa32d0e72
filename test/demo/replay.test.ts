/** The replay page: what a run elsewhere left is dropped on it, played, and read without a mouse. */
import fs from "node:fs/promises";
import { createRequire } from "node:module";
import type { Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { memoryFiles, zipFiles } from "webrlhf";
import { type Recording, recordingText } from "webrlhf/report";
import { chartOf, numbersOf, samplesAt, shownAtFirst, stepsOf } from "../../demo/src/replay/charts.ts";
import { replayWords } from "../../demo/src/replay/words.ts";
import { type BuiltPage, builtPage, hasBrowser } from "./built-page.ts";

const steps = Array.from({ length: 12 }, (_, i) => i + 1);
const recording: Recording = {
  ...{ format: "webrlhf recording 1", title: "Two stages", webrlhf: "1.0.0", adapter: "an adapter" },
  runs: [
    {
      ...{
        name: "ppo",
        title: "PPO",
        verb: "ppo",
        settings: { kl_coef: 0.1, "<b>": ["<img src=x onerror=alert(1)>"] },
      },
      metrics: [
        ...steps.map((step) => ({ step, epoch: 0, "objective/scores": step / 10, loss: 1 / step, tokens: 5 })),
        { step: 12, eval_loss: 0.5 },
      ],
      logged: 40,
      samples: [2, 6].map((step) => ({ step, prompt: "One <b>day", response: `after ${step}`, gold: step })),
    },
    {
      ...{ name: "sft", title: "SFT", verb: "sft", settings: {} },
      metrics: [{ step: 1, loss: 2 }],
      logged: 1,
      samples: [],
    },
  ],
};
const [run] = recording.runs;

describe("a recorded run", () => {
  it("is drawn up to a step, with all of it pale behind", () => {
    const chart = chartOf(run, "loss", 6, replayWords.en);
    expect(chart.series.map(({ name, points, faint }) => [name, points.length, faint ?? false])).toEqual([
      ["training", 12, true],
      ["held out", 1, true],
      ["training", 6, false],
      ["held out", 0, false],
    ]);
    expect(chart.series[2].points.at(-1)).toEqual([6, 1 / 6]);
  });

  it("shows known numbers first, and no places", () => {
    expect(numbersOf(run)).toEqual(["objective/scores", "loss"]);
    expect(shownAtFirst(run)).toEqual(["objective/scores", "loss"]);
    expect(shownAtFirst({ ...run, metrics: [{ step: 1, odd: 1 }] })).toEqual(["odd"]);
    expect(stepsOf(run)).toEqual(steps);
  });

  it("has the samples of the last step before one", () => {
    expect(samplesAt(run, 1)).toEqual([]);
    expect(samplesAt(run, 5).map(({ step }) => step)).toEqual([2]);
    expect(samplesAt(run, 12).map(({ step }) => step)).toEqual([6]);
  });
});

describe.skipIf(!hasBrowser)("the replay page", { timeout: 300_000 }, () => {
  let built: BuiltPage;
  beforeAll(async () => {
    built = await builtPage();
  }, 300_000);
  afterAll(() => built?.close());

  const drop = async (page: Page, name: string, content: string) => {
    const data = await page.evaluateHandle(
      ([name, content]) => {
        const data = new DataTransfer();
        data.items.add(new File([content], name));
        return data;
      },
      [name, content],
    );
    await page.dispatchEvent(".drop", "drop", { dataTransfer: data });
  };
  const points = (page: Page, figure: string) => page.locator(`[data-figure=${figure}]`).getAttribute("data-points");
  const violations = async (page: Page) => {
    await page.evaluate(await fs.readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8"));
    const found = await page.evaluate(() =>
      (globalThis as unknown as { axe: { run(): Promise<{ violations: { id: string }[] }> } }).axe.run(),
    );
    return found.violations.map(({ id }) => id);
  };

  it("plays a dropped recording, refuses a damaged one in words, and has nothing that axe finds", async () => {
    const { page, errors } = await built.open([], "replay/");
    expect(await violations(page)).toEqual([]);
    await drop(page, "run.json", recordingText(recording));
    await page.getByRole("heading", { name: "Two stages" }).waitFor();
    expect(await points(page, "replay-loss")).toBe("13");
    expect(await points(page, "replay-objective-scores")).toBe("12");
    await page.getByText("13 of 40 logged rows").waitFor();
    await page.locator("summary").evaluateAll((all) => {
      for (const one of all) one.parentElement?.setAttribute("open", "");
    });
    expect(await violations(page)).toEqual([]);

    // By keyboard: back to the second step, then played to the end.
    const slider = page.getByRole("slider");
    await slider.focus();
    await page.keyboard.press("Home");
    await page.keyboard.press("ArrowRight");
    expect(await points(page, "replay-loss")).toBe("2");
    await page.getByText("after 2").waitFor();
    await page.getByRole("button", { name: "Play" }).press("Enter");
    await expect.poll(() => points(page, "replay-loss"), { timeout: 30_000 }).toBe("13");
    await page.getByText("after 6").waitFor();

    await page.getByRole("combobox").selectOption("SFT");
    expect(await points(page, "replay-loss")).toBe("1");

    await drop(page, "bad.jsonl", '{"step":1,"loss":1}\n{"step":2,"loss":"<img>"}\n{"step":3,"loss":1}\n');
    await expect.poll(() => page.getByRole("alert").innerText()).toContain("bad.jsonl line 2: loss is no number");
    await page.getByRole("heading", { name: "Two stages" }).waitFor(); // what was shown stays
    expect(errors).toEqual([]);
  });

  it("opens a zip file and bare numbers by its picker, and what a lesson's page was given", async () => {
    const { page, errors } = await built.open([], "zh/replay/");
    const packed = memoryFiles();
    await packed.writeFile(
      "out/sft/metrics.jsonl",
      '{"step":1,"loss":1,"tokens":1}\n{"step":2,"loss":0.5,"tokens":1}\n',
    );
    const buffer = Buffer.from(await (await zipFiles(packed, ["out"])).arrayBuffer());
    const picker = page.locator("input[type=file]");
    await picker.setInputFiles({ name: "run.zip", mimeType: "application/zip", buffer });
    await expect.poll(() => points(page, "replay-loss")).toBe("2");
    const bare = Buffer.from('{"step":1,"loss":1}\n');
    await picker.setInputFiles({ name: "metrics.jsonl", mimeType: "text/plain", buffer: bare });
    await expect.poll(() => points(page, "replay-loss")).toBe("1");

    await page.goto(`${built.address}lessons/sft/`, { waitUntil: "networkidle" });
    const data = await page.evaluateHandle((content) => {
      const data = new DataTransfer();
      data.items.add(new File([content], "run.json"));
      return data;
    }, recordingText(recording));
    await page.dispatchEvent(".runbar", "drop", { dataTransfer: data });
    await page.getByRole("alert").getByRole("link", { name: "Replay" }).click();
    await page.getByRole("heading", { name: "Two stages" }).waitFor();
    expect(errors).toEqual([]);
  });
});
