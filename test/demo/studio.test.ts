/** The studio in a browser: a model from disk answers, learns, and leaves as a zip file that the library opens. */
import fs from "node:fs/promises";
import path from "node:path";
import type { Page } from "playwright";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles, openDevice, overlayFiles, unzipFiles } from "webrlhf";
import { Engine } from "webrlhf/nn";
import { ModelOpener } from "webrlhf/open";
import { fromJsonLines } from "../../demo/src/lib/labels.ts";
import { type BuiltPage, builtPage, hasBrowser, webgpu } from "./built-page.ts";
import { type FakeHub, fakeHub } from "./fake-hub.ts";
import { violations } from "./looks.ts";

const model = path.resolve(import.meta.dirname, "../../models/world-sft");
const rows = [
  { prompt: "Tom found a ball.", chosen: " He was happy.", rejected: " He was sad." },
  { prompt: "Mia saw a dog.", chosen: " The dog was kind.", rejected: " The dog bit her." },
]
  .map((pair) => `${JSON.stringify(pair)}\n`)
  .join("");

type Given = Parameters<ReturnType<Page["getByLabel"]>["setInputFiles"]>[0];
const file = (name: string, content: string) => ({ name, mimeType: "", buffer: Buffer.from(content) });

async function opened(built: BuiltPage) {
  const one = await built.open(webgpu, "studio/");
  await one.page.locator("[data-device]:not([data-device=''])").waitFor({ timeout: 120_000 });
  return one;
}

/** Picks files, as a visitor would. */
async function pick(page: Page, files: Given) {
  await page.getByRole("radio", { name: "This device" }).check();
  await page.getByLabel("Files: one .gguf").setInputFiles(files);
}

const loadButton = (page: Page) => page.getByRole("button", { name: "Load", exact: true });

async function load(page: Page) {
  const names = await fs.readdir(model);
  await pick(
    page,
    names.map((name) => path.join(model, name)),
  );
  await page.getByLabel("Weights on the GPU").selectOption("float32");
  await loadButton(page).click();
  await page.locator("[data-opened=files]").waitFor({ timeout: 120_000 });
}

const question = "Tom found a ball.";

async function ask(page: Page, tokens: number) {
  await page.getByLabel("Longest answer, tokens").first().fill(String(tokens));
  await page.getByLabel("Your message").fill(question);
  await page.getByLabel("Your message").press("Enter");
}

/** What a side said, when it has ended. */
async function answer(page: Page, turn: number, side: "before" | "after") {
  const said = page.locator(`[data-turn="${turn}"] [data-side=${side}]`);
  await expect.poll(() => said.getAttribute("data-over"), { timeout: 120_000 }).toBe("true");
  return {
    ids: (await said.getAttribute("data-ids"))?.split(" ").map(Number),
    logProb: Number(await said.getAttribute("data-log-prob")),
  };
}

const heldBytes = async (page: Page) => Number(await page.locator("[data-held]").getAttribute("data-held"));

/** Presses Stop as soon as there is a word of an answer: a click from outside may come too late. */
const stopWhenItSpeaks = (turn: number) => {
  const watch = new MutationObserver(() => {
    const spoken = document.querySelector(`[data-turn="${turn}"] [data-ids]`)?.getAttribute("data-ids");
    const button = [...document.querySelectorAll("button")].find(({ textContent }) => textContent === "Stop");
    if (!spoken || !button) return;
    watch.disconnect();
    button.click();
    document.body.dataset.stopped = String(turn);
  });
  watch.observe(document.body, { childList: true, subtree: true, attributes: true });
};

describe.skipIf(!hasBrowser)("the studio", { timeout: 400_000 }, () => {
  let built: BuiltPage;
  beforeAll(async () => {
    built = await builtPage();
  }, 300_000);
  afterAll(() => built?.close());

  it("asks a model from disk, trains an adapter of it, and packs what the library opens", async () => {
    const { page, errors } = await opened(built);
    await load(page);
    await ask(page, 6);
    const plain = await answer(page, 0, "before");
    expect(await page.locator("[data-side=after]").count()).toBe(0);

    await page.getByLabel("A file").setInputFiles(file("pairs.jsonl", rows));
    await page.locator("[data-records='2']").waitFor();
    await page.getByLabel("Steps", { exact: true }).fill("2");
    await page.getByLabel("Learning rate").fill("0.01");
    await page.getByRole("button", { name: "Train", exact: true }).click();
    await page.locator("[data-kept=files-dpo-1]").waitFor({ timeout: 200_000 });
    expect(await page.locator("[data-state=done]").count()).toBe(1);
    expect(await page.locator("figure[data-figure=loss]").getAttribute("data-points")).toBe("2");

    await page.getByRole("button", { name: "New conversation" }).click();
    await ask(page, 6);
    expect((await answer(page, 0, "before")).ids).toEqual(plain.ids);
    const after = await answer(page, 0, "after");
    const download = page.waitForEvent("download");
    await page.getByLabel("The base model on the other machine").fill("my/base");
    await page.getByRole("button", { name: /^Download zip .*files-dpo-1$/ }).click();
    const zip = await unzipFiles(new Blob([await fs.readFile(await (await download).path())]));
    expect(await zip.list("")).toEqual(["files-dpo-1"]);
    expect(await zip.list("files-dpo-1")).toEqual(
      expect.arrayContaining(["README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"]),
    );
    expect(new TextDecoder().decode((await zip.read("files-dpo-1/pairs.jsonl")) as Uint8Array)).toBe(rows);
    const config = JSON.parse(
      new TextDecoder().decode((await zip.read("files-dpo-1/adapter_config.json")) as Uint8Array),
    );
    expect(config).toMatchObject({ peft_type: "LORA", base_model_name_or_path: "my/base", r: 8 });

    // The same question to what was packed, here.
    await openDevice();
    const files = overlayFiles(await diskFiles());
    for (const name of await zip.list("files-dpo-1")) {
      await files.writeFile(`unpacked/${name}`, (await zip.read(`files-dpo-1/${name}`)) as Uint8Array);
    }
    const opener = new ModelOpener({ files, baseModelNameOrPath: model });
    try {
      const tokenizer = await opener.tokenizer("unpacked");
      const ids = Uint32Array.from([...tokenizer.prefixIds, ...tokenizer.encode(question)]);
      const sides = [
        [await opener.frozenPolicy(model), plain],
        [await opener.policy("unpacked"), after],
      ] as const;
      for (const [here, said] of sides) {
        const found = { ids: [] as number[], logProb: 0 };
        const engine = new Engine(here, { slots: 1, capacity: 64 });
        const params = { maxNewTokens: 6, temperature: 0, seed: 42, eosIds: here.config.eosIds };
        for await (const piece of engine.submit({ ids, params })) {
          found.ids.push(...piece.ids);
          found.logProb += piece.logProbs.reduce((sum, value) => sum + value, 0);
        }
        await engine.close();
        expect(found.ids).toEqual(said.ids);
        expect(Math.abs(found.logProb - said.logProb)).toBeLessThan(1e-4);
      }
      expect(Math.abs(after.logProb - plain.logProb)).toBeGreaterThan(1e-3); // the adapter does something
    } finally {
      opener.destroy();
    }
    expect(errors).toEqual([]);
  });

  it("learns answers, learns to score, and prefers its own answers by that score, and axe finds nothing meanwhile", async () => {
    const { page, errors } = await opened(built);
    expect(await violations(page)).toEqual([]);
    await load(page);
    const desk = page.getByRole("region", { name: "4 Train an adapter" });
    /** Trains by a method, ends with an adapter on the shelf. */
    const train = async (method: string, knobs: Record<string, string>, kept: string) => {
      await page.getByRole("radio", { name: method }).check();
      for (const [name, value] of Object.entries(knobs)) await desk.getByLabel(name, { exact: true }).fill(value);
      await page.getByRole("button", { name: "Train", exact: true }).click();
      await page.locator(`[data-kept=${kept}], [role=alert]`).first().waitFor({ timeout: 200_000 });
      expect(await page.getByRole("alert").allTextContents()).toEqual([]);
      expect(await page.locator("[data-state=done]").count()).toBe(1);
    };
    const fresh = rows.replaceAll("rejected", "other").replaceAll("chosen", "completion");
    await page.getByLabel("A file").setInputFiles(file("stories.jsonl", fresh));
    await page.locator("[data-records='2']").waitFor();
    await train("SFT: learn the answers", { Steps: "2", "Learning rate": "0.01" }, "files-sft-1");
    expect(await page.locator("figure[data-figure=loss]").getAttribute("data-points")).toBe("2");

    // Its own answers, decided by keys: undone, and not to be told.
    const table = page.getByRole("group", { name: /^Which answer is better/ });
    await page.getByLabel("Messages, one on each line").fill("Tom found a ball.\n\nMia saw a dog.");
    await page
      .getByRole("region", { name: "Or label its own answers" })
      .getByLabel("Longest answer, tokens")
      .fill("12");
    await page.getByRole("button", { name: "Write two answers" }).click();
    const keys = [
      [" ", 0],
      ["ArrowLeft", 1],
      ["z", 0],
      ["ArrowRight", 1],
      ["ArrowRight", 2],
    ] as const;
    for (const [key, labels] of keys) {
      await page.locator("[data-ready=true]").waitFor({ timeout: 60_000 });
      await table.focus();
      await page.keyboard.press(key);
      await expect.poll(() => table.getAttribute("data-labels")).toBe(String(labels));
    }
    await page.locator("[data-ready=true]").waitFor({ timeout: 60_000 });
    expect(await page.getByRole("region", { name: "Right answer" }).innerText()).not.toBe("");
    expect(await violations(page)).toEqual([]);
    const [saved] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("button", { name: "Download labels.jsonl" }).click(),
    ]);
    const labels = fromJsonLines(await fs.readFile(await saved.path(), "utf8"));
    expect(labels.map(({ prompt }) => prompt)).toEqual(["Tom found a ball.", "Mia saw a dog."]);
    await page.getByRole("button", { name: "Train on these 2 labels" }).click();
    await page.locator("[data-records='2']", { hasText: "labels.jsonl" }).waitFor();
    await page.getByRole("radio", { name: /^Online DPO/ }).check();
    expect(await page.getByRole("button", { name: "Train", exact: true }).isDisabled()).toBe(true); // no judge yet
    await train("Reward model: learn to score answers", { Steps: "4", "Learning rate": "0.01" }, "files-reward-1");
    await train(
      "Online DPO: own answers",
      { Steps: "1", Rounds: "2", "Prompts per round": "1", "Answers per prompt": "4", "Longest answer, tokens": "8" },
      "files-iterate-1",
    );
    expect(await page.locator("figure[data-figure=loss]").getAttribute("data-points")).toBe("2"); // one step of each round
    expect(await violations(page)).toEqual([]);
    expect(errors).toEqual([]);
  });

  it("stops a download and an answer, frees what they held, and downloads nothing twice", async () => {
    const names = await fs.readdir(model);
    const hub: FakeHub = await fakeHub(
      "org/tiny",
      Object.fromEntries(names.map((name) => [name, path.join(model, name)])),
    );
    try {
      const { page, errors } = await opened(built);
      const fill = async () => {
        await page.getByLabel("Name on the hub").fill("org/tiny");
        await page.getByLabel("Mirror (HF_ENDPOINT)").fill(hub.address);
        await page.getByLabel("Weights on the GPU").selectOption("float32");
      };
      await fill();
      await page.getByRole("button", { name: "What will it take?" }).click();
      await page.getByText(/^1\.\d MB to download/).waitFor({ timeout: 60_000 });
      expect(hub.sent).toBeLessThan(100_000);

      hub.delay = 400;
      await loadButton(page).click();
      await page.getByText("Downloading: model.safetensors").waitFor({ timeout: 60_000 });
      await page.getByRole("button", { name: "Cancel" }).click();
      await expect.poll(() => loadButton(page).isEnabled(), { timeout: 60_000 }).toBe(true);
      const { sent } = hub;
      expect(sent).toBeLessThan(1_200_000);
      expect(await page.locator("[data-opened], [data-held], [role=alert]").count()).toBe(0);
      await new Promise((resolve) => setTimeout(resolve, 1000));
      expect(hub.sent - sent).toBeLessThanOrEqual(1 << 16); // a piece that was on its way

      hub.delay = 0;
      await loadButton(page).click();
      await page.locator("[data-opened='org/tiny']").waitFor({ timeout: 120_000 });
      expect(hub.sent).toBeLessThan(1_400_000); // it went on where it was stopped

      const held: number[] = [];
      await page.getByLabel("Temperature").first().fill("5"); // babble does not end by itself
      for (let i = 0; i < 3; i++) {
        await page.evaluate(stopWhenItSpeaks, i);
        await ask(page, 50);
        await page.locator(`[data-stopped="${i}"]`).waitFor({ timeout: 120_000 });
        await expect.poll(() => loadButton(page).isEnabled(), { timeout: 60_000 }).toBe(true);
        const said = page.locator(`[data-turn="${i}"] [data-side=before]`);
        expect(await said.getAttribute("data-over")).toBe("false");
        held.push(await heldBytes(page));
      }
      expect(held[2]).toBeLessThanOrEqual(held[1]);
      await page.getByRole("button", { name: "Unload" }).click();
      await expect.poll(() => heldBytes(page)).toBeLessThan(held[2] - 1_000_000);

      const before = hub.requests;
      await page.reload();
      await page.locator("[data-device]:not([data-device=''])").waitFor({ timeout: 120_000 });
      expect(await page.getByLabel("Name on the hub").inputValue()).toBe("org/tiny");
      await loadButton(page).click();
      await page.locator("[data-opened='org/tiny']").waitFor({ timeout: 120_000 });
      expect(hub.requests).toBe(before);
      expect(errors).toEqual([]);
    } finally {
      await hub.close();
    }
  });

  it("says in words what is no model, no name, no hub and no data, and goes on", async () => {
    const hub = await fakeHub("org/other", {});
    try {
      const { page, errors } = await opened(built);
      const alert = page.getByRole("alert");
      const refused = async (words: RegExp) => {
        await loadButton(page).click();
        await expect.poll(() => alert.allTextContents(), { timeout: 60_000 }).toEqual([expect.stringMatching(words)]);
        await expect.poll(() => loadButton(page).isEnabled()).toBe(true);
      };
      const read = (name: string) => fs.readFile(path.join(model, name), "utf8").then((text) => file(name, text));
      const [config, tokenizer] = await Promise.all(["config.json", "tokenizer.json"].map(read));
      const disk: [Given, RegExp][] = [
        [file("story.gguf", "once upon a time"), /story\.gguf.*GGUF/],
        [file("notes.txt", "hello"), /this is no model: among notes\.txt/],
        [[file("config.json", '{"model_type": '), file("model.safetensors", "x")], /config\.json/],
        [[file("config.json", "{}"), file("model.safetensors", "x")], /config\.json/],
        [[config, tokenizer, file("model.safetensors", "not weights")], /model\.safetensors/],
        [[file("adapter_config.json", "{}"), file("adapter_model.safetensors", "")], /is an adapter, not a model/],
        [[file("a.gguf", ""), file("b.gguf", "")], /pick one of a\.gguf, b\.gguf/],
      ];
      for (const [files, words] of disk) {
        await pick(page, files);
        await refused(words);
      }
      await page.getByRole("radio", { name: "Hugging Face hub" }).check();
      const named: [string, string, RegExp][] = [
        ["nonsense", "", /is no name on the hub: write org\/name/],
        ["../../etc/passwd", "", /is no name on the hub/],
        ["org/none", "ftp://example.org", /is no address of a hub/],
        ["org/none", "https://user:word@example.org", /is no address of a hub/],
        ["org/none", hub.address, /org\/none: there is no such model here/],
        ["org/other", hub.address, /org\/other/],
      ];
      for (const [name, mirror, words] of named) {
        await page.getByLabel("Name on the hub").fill(name);
        await page.getByLabel("Mirror (HF_ENDPOINT)").fill(mirror);
        await refused(words);
      }
      await load(page);
      expect(await alert.count()).toBe(0);

      const data: [string, string, RegExp][] = [
        ["pairs.jsonl", `${rows}{"prompt": `, /pairs\.jsonl:3/],
        ["pairs.json", "[{]", /pairs\.json/],
        ["pairs.csv", "a,b\n1,2\n", /pairs\.csv/],
        ["pairs.parquet", "PAR1", /pairs\.parquet/],
        ["pairs.jsonl", "", /the dataset is empty/],
      ];
      for (const [name, content, words] of data) {
        await page.getByLabel("A file").setInputFiles(file(name, content));
        await expect.poll(() => alert.allTextContents(), { timeout: 60_000 }).toEqual([expect.stringMatching(words)]);
        expect(await page.getByRole("button", { name: "Train", exact: true }).isDisabled()).toBe(true);
      }
      await page.getByLabel("Or paste rows").fill("prompt,chosen,rejected\nA,B,C\nD,E,F\n");
      await page.getByRole("button", { name: "Take the pasted rows" }).click();
      await page.locator("[data-records='2']").waitFor();
      expect(await alert.count()).toBe(0);
      expect(errors).toEqual([]);
    } finally {
      await hub.close();
    }
  });
});
