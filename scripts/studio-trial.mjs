#!/usr/bin/env node
/**
 * The studio with a real model in Chromium: loaded from a hub, asked, trained by DPO, packed; then PEFT and webrlhf open what was
 * packed, and their logits are compared; at last a second visit, which is to download nothing.
 *
 *   node scripts/studio-trial.mjs --model SmolLM2-135M-Instruct.Q4_1.gguf --python python3
 *   --weights float32|int8|int4   how the base is kept in the tab (default int8)
 *   --write FILE                  adds the figures to a table in Markdown
 *   --zip FILE                    keeps what was packed
 *
 * The model is served by a hub on loopback, with ranges. Without a model, a Python with transformers, peft and gguf, or a
 * browser, nothing is tried, and why is said.
 */
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { fromSource } from "./source.mjs";

const root = path.resolve(import.meta.dirname, "..");
const { values: flags } = parseArgs({
  options: {
    model: { type: "string" },
    python: { type: "string", default: "python3" },
    weights: { type: "string", default: "int8" },
    write: { type: "string" },
    zip: { type: "string" },
  },
});

const REPO = "HuggingFaceTB/SmolLM2-135M-Instruct-GGUF";
const pairs = [
  {
    prompt: "What is the capital of France?",
    chosen: "Paris, of course! It lies on the Seine.",
    rejected: "The capital of France is Paris.",
  },
  { prompt: "Name a colour.", chosen: "Blue, of course! The sky has it.", rejected: "Red." },
].map(({ prompt, chosen, rejected }) => ({
  prompt: [{ role: "user", content: prompt }],
  chosen: [{ role: "assistant", content: chosen }],
  rejected: [{ role: "assistant", content: rejected }],
}));
const question = "What is the capital of France?";
const LONG = { timeout: 1_200_000 };
/** Logits may differ by so much of the largest one: they are of float32 here, which has seven digits. */
const CLOSE = 1e-4;

const lacking = whyNot();
if (lacking) {
  console.log(`skipped: ${lacking}`);
  process.exit(0);
}

function whyNot() {
  if (!flags.model) return "--model names no GGUF file of SmolLM2-135M-Instruct";
  if (!fs.existsSync(flags.model)) return `there is no file ${flags.model}`;
  const probe = spawnSync(flags.python, ["-c", "import torch, transformers, peft, gguf"]);
  if (probe.error) return `${flags.python} does not start`;
  return probe.status === 0 ? "" : `${flags.python} lacks torch, transformers, peft or gguf`;
}

const began = Date.now();
const say = (text) => console.log(`${((Date.now() - began) / 1000).toFixed(1).padStart(7)} s  ${text}`);
/** Rows of the table: what was done, its figure. */
const rows = [];
const row = (what, figure) => {
  rows.push([what, String(figure)]);
  say(`${what}: ${figure}`);
};

const alias = [
  { find: /^webrlhf$/, replacement: path.join(root, "src/index.ts") },
  { find: /^webrlhf\/(\w+)$/, replacement: `${root}/src/$1/index.ts` },
];
await fromSource(trial, { root, configFile: false, resolve: { alias } });

async function trial(load) {
  const { builtPage, hasBrowser, webgpu } = await load("/test/demo/built-page.ts");
  const { fakeHub } = await load("/test/demo/fake-hub.ts");
  if (!hasBrowser) return console.log("skipped: there is no Chromium here; WEBRLHF_CHROMIUM may name one");
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "webrlhf-studio-"));
  const hub = await fakeHub(REPO, { [path.basename(flags.model)]: flags.model });
  const built = await builtPage();
  try {
    const { page, errors } = await built.open(webgpu, "studio/");
    const before = await firstVisit(page, hub, folder);
    await secondVisit(page, hub, before);
    if (errors.length > 0) throw new Error(`errors in the page: ${errors.join("; ")}`);
    await compare(load, folder);
    if (flags.write) write();
  } finally {
    await built.close();
    await hub.close();
    fs.rmSync(folder, { recursive: true });
  }
}

async function loaded(page, address) {
  await page.locator("[data-device]").waitFor(LONG);
  await page.getByLabel("Name on the hub").fill(`${REPO}/${path.basename(flags.model)}`);
  await page.getByLabel("Mirror (HF_ENDPOINT)").fill(address);
  await page.getByLabel("Weights on the GPU").selectOption(flags.weights);
  const start = Date.now();
  await page.getByRole("button", { name: "Load", exact: true }).click();
  await page.locator("[data-opened]").waitFor(LONG);
  return (Date.now() - start) / 1000;
}

/** Asks, and gives each side's answer with its numbers. */
async function ask(page, turn, sides) {
  const start = Date.now();
  await page.getByLabel("Longest answer, tokens").first().fill("16");
  await page.getByLabel("Your message").fill(question);
  await page.getByLabel("Your message").press("Enter");
  const answers = {};
  for (const side of sides) {
    const at = page.locator(`[data-turn='${turn}'] [data-side=${side}]`);
    await page.locator(`[data-turn='${turn}'] [data-side=${side}][data-over=true]`).waitFor(LONG);
    answers[side] = {
      text: await at.locator(".story").textContent(),
      ids: (await at.getAttribute("data-ids")).split(" ").map(Number),
      logProb: Number(await at.getAttribute("data-log-prob")),
    };
  }
  return { answers, seconds: (Date.now() - start) / 1000 };
}

async function firstVisit(page, hub, folder) {
  await page.locator("[data-device]").waitFor(LONG);
  await page.getByLabel("Name on the hub").fill(`${REPO}/${path.basename(flags.model)}`);
  await page.getByLabel("Mirror (HF_ENDPOINT)").fill(hub.address);
  await page.getByLabel("Weights on the GPU").selectOption(flags.weights);
  await page.getByRole("button", { name: "What will it take?" }).click();
  await page.locator("[data-look]").waitFor(LONG);
  row("Estimate before the download", (await page.locator("[data-look] li:not(.soft)").allTextContents()).join(" "));
  row("Sent for the estimate", `${(hub.sent / 1e6).toFixed(1)} MB`);
  row("First visit: download and load", `${(await loaded(page, hub.address)).toFixed(1)} s`);
  row("Sent by the hub", `${(hub.sent / 1e6).toFixed(1)} MB`);
  const first = await ask(page, 0, ["before"]);
  row(`“${question}”`, `“${first.answers.before.text}” (${first.seconds.toFixed(1)} s, kernels compiled)`);
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.getByLabel("A file").setInputFiles({
    name: "pairs.jsonl",
    mimeType: "application/jsonl",
    buffer: Buffer.from(pairs.map((pair) => `${JSON.stringify(pair)}\n`).join("")),
  });
  await page.locator("[data-records='2']").waitFor(LONG);
  await page.getByLabel("Steps", { exact: true }).fill("3");
  await page.getByLabel("Learning rate").fill("0.0005");
  const start = Date.now();
  await page.getByRole("button", { name: "Train", exact: true }).click();
  await page.locator("[data-kept], #studio-train ~ [role=alert]").first().waitFor(LONG);
  if ((await page.locator("[data-kept]").count()) === 0) {
    throw new Error(await page.locator("[role=alert]").first().textContent());
  }
  row("3 DPO steps, LoRA rank 8, 2 pairs", `${((Date.now() - start) / 1000).toFixed(1)} s`);
  const both = await ask(page, 0, ["before", "after"]);
  row("The same question before", `“${both.answers.before.text}”`);
  row("and after", `“${both.answers.after.text}” (both ${both.seconds.toFixed(1)} s)`);
  const download = page.waitForEvent("download", LONG);
  await page.getByRole("button", { name: "Download zip (PEFT)" }).click();
  const file = path.join(folder, "adapter.zip");
  await (await download).saveAs(file);
  if (flags.zip) fs.copyFileSync(file, flags.zip);
  row("The zip file", `${(fs.statSync(file).size / 1e6).toFixed(2)} MB`);
  return both.answers;
}

async function secondVisit(page, hub, before) {
  const { sent, requests } = hub;
  await page.reload();
  row("Second visit: load", `${(await loaded(page, hub.address)).toFixed(1)} s`);
  row("Sent by the hub then", `${hub.sent - sent} bytes in ${hub.requests - requests} requests`);
  if (hub.sent !== sent) throw new Error("the second visit downloaded something");
  await page.getByRole("button", { name: "Let it answer" }).click();
  const { answers } = await ask(page, 0, ["before", "after"]);
  const same = (side) => answers[side].ids.join() === before[side].ids.join();
  row("The same answers then", same("before") && same("after") ? "yes" : "no");
  if (!same("before") || !same("after")) throw new Error("the second visit answers otherwise");
}

/** Opens the zip file's folder with PEFT and with webrlhf, on the same base in float32. */
async function compare(load, folder) {
  const { unzipFiles, diskFiles, openDevice, closeDevice } = await load("/src/index.ts");
  const { ModelOpener } = await load("/src/open/index.ts");
  const { logitsOf } = await load("/test/interop/python.ts");
  const zip = await unzipFiles(new Blob([fs.readFileSync(path.join(folder, "adapter.zip"))]));
  const [name] = await zip.list("");
  const adapter = path.join(folder, name);
  fs.mkdirSync(adapter);
  for (const file of await zip.list(name))
    fs.writeFileSync(path.join(adapter, file), await zip.read(`${name}/${file}`));
  const metrics = fs
    .readFileSync(path.join(adapter, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const losses = metrics.flatMap(({ loss }) => (typeof loss === "number" ? [loss.toFixed(4)] : []));
  row("Loss at each step", losses.slice(0, 3).join(", "));
  await openDevice();
  const opener = new ModelOpener({ files: await diskFiles(), baseModelNameOrPath: path.resolve(flags.model) });
  const model = await opener.policy(adapter);
  const tokenizer = await opener.tokenizer(adapter);
  const text = tokenizer.chatTemplate.render([{ role: "user", content: question }], { addGenerationPrompt: true });
  const ids = Array.from(tokenizer.encode(`${text}Paris, of course!`));
  const ours = await logitsOf(model, [ids]);
  opener.destroy();
  const request = { model: path.resolve(flags.model), adapter, ids, out: path.join(folder, "logits.bin") };
  const told = spawnSync(flags.python, [path.join(root, "scripts/studio_trial.py"), JSON.stringify(request)], {
    encoding: "utf8",
    env: { ...process.env, HF_HUB_OFFLINE: "1" },
  });
  if (told.status !== 0) throw new Error(`PEFT does not open it: ${told.stderr.slice(-2000)}`);
  const { effect, versions } = JSON.parse(told.stdout.trim().split("\n").at(-1));
  const theirs = new Float32Array(fs.readFileSync(request.out).buffer.slice(0));
  let worst = 0;
  let largest = 0;
  for (let i = 0; i < ours.length; i++) {
    worst = Math.max(worst, Math.abs(ours[i] - theirs[i]));
    largest = Math.max(largest, Math.abs(theirs[i]));
  }
  const relative = worst / largest;
  row("PEFT opens the folder", versions);
  row("Largest logit, and what the adapter changes", `${largest.toFixed(2)}, ${effect.toExponential(1)}`);
  row(
    `Logits of ${ids.length} tokens × ${ours.length / ids.length}: webrlhf against PEFT`,
    `differ by ${worst.toExponential(1)} at most, ${relative.toExponential(1)} of the largest`,
  );
  await closeDevice();
  if (ours.length !== theirs.length || !(relative < CLOSE)) throw new Error(`the logits differ by ${worst}`);
}

function write() {
  const table = rows.map(([what, figure]) => `| ${what} | ${figure.replaceAll("|", "\\|")} |`);
  const head = [
    `## Weights in ${flags.weights}`,
    "",
    `${path.basename(flags.model)}, ${(fs.statSync(flags.model).size / 1e6).toFixed(1)} MB; Chromium with SwiftShader on ` +
      `${os.availableParallelism()} cores of a CPU that others use, too: times are no more than orders of magnitude.`,
    "",
    "| | |",
    "|---|---|",
  ];
  fs.appendFileSync(flags.write, `${[...head, ...table].join("\n")}\n\n`);
}
