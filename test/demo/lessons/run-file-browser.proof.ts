/** A lesson's run leaves its page as a file, and goes on from it in another browser. */
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openDevice, unzipFiles } from "webrlhf";
import { openModel } from "webrlhf/open";
import { readRun } from "webrlhf/report";
import { type BuiltPage, builtPage, hasBrowser, webgpu } from "../built-page.ts";

const lesson = `lessons/sft/#${new URLSearchParams({ size: "S", seed: "7", ask: JSON.stringify({ steps: 25 }) })}`;

const phase = (page: Page) => page.locator("article.lesson").getAttribute("data-phase");
const points = async (page: Page) => Number(await page.locator("[data-figure=sft-loss]").getAttribute("data-points"));
const numbers = (page: Page) => page.locator("[data-check]").allInnerTexts();
const opener = (page: Page) => page.locator(".runbar input[type=file]");
const ended = { timeout: 240_000, interval: 250 };

describe.skipIf(!hasBrowser)("a run's file", { timeout: 500_000 }, () => {
  let built: BuiltPage;
  let folder: string;
  beforeAll(async () => {
    built = await builtPage();
    folder = await fs.mkdtemp(path.join(os.tmpdir(), "webrlhf-run-"));
  }, 300_000);
  afterAll(async () => {
    await built?.close();
    await fs.rm(folder, { recursive: true });
  });

  it("saved after a step, ends in another browser with the same numbers, and is refused by another lesson", async () => {
    const zip = path.join(folder, "run.zip");
    const first = await built.open(webgpu, lesson);
    const save = first.page.locator("[data-save]");
    expect(await save.isDisabled()).toBe(true);
    await first.page.getByRole("button", { name: "One step", disabled: false }).click({ timeout: 120_000 });
    await expect.poll(() => phase(first.page), ended).toBe("paused");
    await expect.poll(() => points(first.page), ended).toBe(1);
    const [saved] = await Promise.all([first.page.waitForEvent("download"), save.click()]);
    expect(saved.suggestedFilename()).toBe("run.zip");
    await saved.saveAs(zip);
    await first.page.getByRole("button", { name: "Go on", exact: true }).click();
    await expect.poll(() => phase(first.page), ended).toBe("done");
    const [whole] = await Promise.all([first.page.waitForEvent("download"), save.click()]);
    const blob = new Blob([await fs.readFile(await whole.path())]);
    const files = await unzipFiles(blob);
    expect(await files.list("")).toEqual(expect.arrayContaining(["README.txt", "recipe.yaml", "run.json", "sft"]));
    const { metrics } = (await readRun("run.zip", blob)).runs.find(({ name }) => name === "sft") ?? { metrics: [] };
    expect(metrics.filter((row) => "tokens" in row)).toHaveLength(25);
    await openDevice();
    const model = await openModel("files/run/sft", { files });
    expect(model.tokenizer?.vocabSize).toBe(model.config.vocabSize);
    model.destroy();
    const undisturbed = await numbers(first.page);
    expect(first.errors).toEqual([]);

    const second = await built.open(webgpu, "lessons/ppo/");
    await second.page.locator(".runbar .primary:enabled").waitFor({ timeout: 120_000 });
    await opener(second.page).setInputFiles(zip);
    const refusal = second.page.locator(".runbar [role=alert]");
    await refusal.getByRole("link", { name: "Supervised fine-tuning" }).click({ timeout: 60_000 });
    await second.page.getByRole("heading", { level: 1, name: "Supervised fine-tuning" }).waitFor(); // it is another page now
    await second.page.locator(".runbar .primary:enabled").waitFor();
    await opener(second.page).setInputFiles({ name: "x.zip", mimeType: "application/zip", buffer: Buffer.from("x") });
    await expect.poll(() => refusal.allInnerTexts()).toEqual([expect.stringMatching(/not opened: .*zip/)]);
    await opener(second.page).setInputFiles(zip);
    await expect.poll(() => phase(second.page), ended).toBe("done");
    expect(await points(second.page)).toBe(25);
    expect(await numbers(second.page)).toEqual(undisturbed);
    expect(second.page.url()).toContain("seed=7");
    expect(second.errors).toEqual([]);
  });
});
