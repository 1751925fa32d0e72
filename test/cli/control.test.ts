/** The program's own runs hear what `webrlhf control` asks for, and make another run's changes. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { main } from "webrlhf/cli";
import { gpuReady } from "../helpers.ts";
import { silentTerminal } from "./terminal.ts";

let dir: string;
beforeAll(async () => {
  process.setMaxListeners(100);
  await gpuReady();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-control-"));
});
afterAll(() => rm(dir, { recursive: true }));

const shape = "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --max_position_embeddings 64";
const rows = "--max_train_samples 16 --per_device_train_batch_size 4 --logging_steps 1 --seed 3";

/** Trains in a folder; `hears` is called with every line that is said. */
async function sft(folder: string, steps: number, more: string[] = [], hears: (text: string) => void = () => {}) {
  const terminal = silentTerminal();
  terminal.line = hears;
  const words = [
    "sft",
    ...`${shape} ${rows} --max_steps ${steps}`.split(" "),
    "--output_dir",
    join(dir, folder),
    ...more,
  ];
  return main(words, terminal);
}

async function ask(folder: string, ...words: string[]): Promise<[number, string]> {
  const said: string[] = [];
  const terminal = silentTerminal();
  terminal.line = (text) => void said.push(text);
  const code = await main(["control", join(dir, folder), ...words], terminal);
  return [code, said.join("\n")];
}
const contents = (folder: string, name: string) => readFile(join(dir, folder, name), "base64");

it("changes a run's learning rate, stops it as Ctrl-C does, and lets another run be the same", async () => {
  const asked: Promise<[number, string]>[] = [];
  const once = (text: string, at: RegExp, ...words: string[]) => {
    if (at.test(text)) asked.push(ask("first", ...words));
  };
  const code = await sft("first", 100_000, [], (text) => {
    if (asked.length === 0) once(text, /step 2\b|\b2\/100000/, "set", "learning_rate", "0.0123");
    if (asked.length === 1) once(text, /learning_rate is 0.0123/, "stop");
  });
  expect(code).toBe(130);
  expect((await Promise.all(asked)).map(([code]) => code)).toEqual([0, 0]);
  const changes = join(dir, "first/changes.jsonl");
  const [change] = (await readFile(changes, "utf8"))
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(change).toMatchObject({ setting: "learning_rate", to: 0.0123 });
  const names = await readdir(join(dir, "first"));
  expect(names).not.toContain("control");
  expect(JSON.parse(await readFile(join(dir, "first/run.json"), "utf8")).state).toBe("stopped");
  expect(names.some((name) => name.startsWith("checkpoint-"))).toBe(true);
  // Both go on to a few steps past the change.
  const metrics = (await readFile(join(dir, "first/metrics.jsonl"), "utf8")).trim().split("\n");
  const steps = metrics.length;
  expect(
    await sft("second", 100_000, ["--changes_from", changes, "--save_steps", String(steps)], () => {
      if (asked.length === 2)
        void readFile(join(dir, "second/metrics.jsonl"), "utf8").then(
          (text) => {
            if (asked.length === 2 && text.trim().split("\n").length > steps) asked.push(ask("second", "stop"));
          },
          () => {},
        );
    }),
  ).toBe(130);
  const again = (await readFile(join(dir, "second/metrics.jsonl"), "utf8")).trim().split("\n");
  expect(again.slice(0, steps)).toEqual(metrics);
  expect(await contents("second", "changes.jsonl")).toBe(await contents("first", "changes.jsonl"));
});

it("says why nobody can be asked, and what a wish needs", async () => {
  expect(await ask("nowhere", "pause")).toEqual([1, expect.stringContaining("no run is at work here")]);
  expect((await ask("first", "set", "learning_rate"))[0]).not.toBe(0);
  expect((await ask("first", "hurry"))[1]).toContain("one of pause, continue, save, stop, set");
  expect(await sft("third", 1, ["--changes_from", join(dir, "none.jsonl")])).toBe(1);
});
