/** Runs as files that a page replays: what the command line makes is what the page reads, and strangers' files are not believed. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { memoryFiles, zipFiles } from "webrlhf";
import { main } from "webrlhf/cli";
import { type Recording, readRecording, readRun, recordFolder, recordingLimits, recordingText } from "webrlhf/report";
import { silentTerminal } from "../cli/terminal.ts";

const model = resolve(import.meta.dirname, "../../models/world-sft");
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-recording-"));
});
afterAll(() => rm(dir, { recursive: true }));

async function webrlhf(...words: string[]) {
  const terminal = silentTerminal();
  const code = await main(words, terminal);
  return { code, text: terminal.written.join("") };
}

const line = (row: object) => `${JSON.stringify(row)}\n`;
const metrics = [1, 2, 3].map((step) => line({ step, epoch: 0, loss: 1 / step, tokens: 10 })).join("");
const small: Recording = {
  ...{ format: "webrlhf recording 1", title: "A run", webrlhf: "1.0.0", adapter: null },
  runs: [
    {
      ...{ name: "ppo", title: "PPO", verb: "ppo", settings: { klCoef: 0.1 }, logged: 2 },
      metrics: [
        { step: 1, loss: 1 },
        { step: 2, loss: null },
      ],
      samples: [{ step: 1, prompt: "a", response: "b", gold: 1 }],
    },
  ],
};

describe("a recording", () => {
  it("of a run in a terminal has the run's numbers, samples and settings", { timeout: 120_000 }, async () => {
    const [out, file] = [join(dir, "run"), join(dir, "run.json")];
    const words = ["--model_name_or_path", model, "--max_steps", "2", "--per_device_train_batch_size", "4"];
    const run = await webrlhf("sft", ...words, "--dataset_name", "builtin:world", "--output_dir", out);
    expect(run.code, run.text).toBe(0);
    const exported = await webrlhf("export", "--to-page", out, file);
    expect(exported.code, exported.text).toBe(0);
    const recording = await readRun("run.json", new Blob([await readFile(file)]));
    const rows = (await readFile(join(out, "metrics.jsonl"), "utf8")).trimEnd().split("\n");
    expect(recording.runs).toHaveLength(1);
    expect(recording.runs[0].metrics).toEqual(rows.map((row) => JSON.parse(row)));
    expect(recording.runs[0].verb).toBe("sft");
    expect(recording.runs[0].settings).toMatchObject({ max_steps: 2 });
    expect(recording.adapter).not.toBeNull();
    // The folder itself, packed, gives the same.
    const packed = memoryFiles();
    for (const name of ["metrics.jsonl", "run.json"]) {
      await packed.writeFile(`runs/run/${name}`, await readFile(join(out, name)));
    }
    expect(await readRun("x.zip", await zipFiles(packed, ["runs"]))).toEqual(recording);
    // And so do its bare numbers.
    const bare = await readRun("metrics.jsonl", new Blob([await readFile(join(out, "metrics.jsonl"))]));
    expect(bare.runs[0].metrics).toEqual(recording.runs[0].metrics);
  });

  it("of a recipe's folder has the stages in the order they ran", async () => {
    const files = memoryFiles();
    for (const [order, name] of ["sft", "ppo"].entries()) {
      await files.writeFile(`out/${name}/metrics.jsonl`, metrics);
      await files.writeFile(
        `out/${name}/done.json`,
        JSON.stringify({ name, title: `Stage ${name}`, verb: name, order }),
      );
    }
    await files.writeFile(
      "out/ppo/samples.jsonl",
      line({ step: 1, prompt: "p", response: "r".repeat(20_000), gold: "NaN" }),
    );
    const { runs, title } = await recordFolder(files, "out");
    expect(title).toBe("out");
    expect(runs.map((run) => [run.name, run.title])).toEqual([
      ["sft", "Stage sft"],
      ["ppo", "Stage ppo"],
    ]);
    expect(runs[1].samples[0].gold).toBeNull();
    expect(runs[1].samples[0].response).toHaveLength(recordingLimits.text);
  });

  it("is read as it was written", async () => {
    expect(readRecording(recordingText(small), "x.json")).toEqual(small);
    expect(await readRun("x.json", new Blob([JSON.stringify(small, null, 2)]))).toEqual(small);
    const packed = memoryFiles();
    await packed.writeFile("deep/recording.json", recordingText(small));
    expect(await readRun("x.zip", await zipFiles(packed, ["deep"]))).toEqual(small);
  });

  it("of a long run is thinned, and says of how many rows", async () => {
    const files = memoryFiles();
    const rows = Array.from({ length: 25_001 }, (_, i) => line({ step: i + 1, loss: 1 }));
    await files.writeFile("long/metrics.jsonl", rows.join(""));
    const [run] = (await recordFolder(files, "long")).runs;
    expect(run.logged).toBe(25_001);
    expect(run.metrics.length).toBeLessThanOrEqual(recordingLimits.rows);
    expect(run.metrics.at(-1)?.step).toBe(25_001);
  });

  it("of a run that was killed in the middle of a line has the lines before it", async () => {
    const [run] = (await readRun("metrics.jsonl", new Blob([`${metrics}{"step":4,"lo`]))).runs;
    expect(run.metrics).toHaveLength(3);
  });

  it("is refused by the command line where there is no run", async () => {
    await mkdir(join(dir, "empty"), { recursive: true });
    const { code, text } = await webrlhf("export", "--to-page", join(dir, "empty"), join(dir, "none.json"));
    expect(code).not.toBe(0);
    expect(text).toMatch(/no training run/);
    await writeFile(join(dir, "empty/metrics.jsonl"), `${metrics}[1]\n${metrics}`);
    const damaged = await webrlhf("export", "--to-page", join(dir, "empty"), join(dir, "none.json"));
    expect(damaged.text).toMatch(/metrics\.jsonl line 4: is no object/);
  });
});

describe("a stranger's file", () => {
  const refusal = async (name: string, content: BlobPart) => {
    const error = await readRun(name, new Blob([content])).then(
      () => null,
      (thrown: Error) => thrown,
    );
    expect(error?.name, `${name} was taken`).toBe("UserError");
    return error?.message;
  };
  const changed = (change: (recording: Recording) => object) => {
    const copy = structuredClone(small);
    change(copy);
    return JSON.stringify(copy);
  };
  const samples = Array.from({ length: recordingLimits.samples + 1 }, () => small.runs[0].samples[0]);
  const wide = Object.fromEntries(Array.from({ length: 401 }, (_, i) => [`m${i}`, 1]));

  it.each([
    ["a.jsonl", `${metrics}{"step":4,"loss":"<b>"}\n${metrics}`, /^a\.jsonl line 4: loss is no number/],
    ["a.jsonl", `{"loss":1}\n`, /^a\.jsonl line 1: has no step/],
    ["a.jsonl", `{"step":"1"}\n`, /^a\.jsonl line 1: step is no number/],
    ["a.jsonl", `${metrics}oops\n${metrics}`, /^a\.jsonl line 4: not valid JSON/],
    ["a.jsonl", line({ step: 1, ...wide }), /line 1: has more than 400 numbers/],
    ["a.json", "", /^a\.json: not valid JSON/],
    ["a.json", "[1]", /^a\.json: format /],
    ["a.json", "[".repeat(100_000), /^a\.json: not valid JSON/],
    ["a.json", changed((r) => Object.assign(r, { format: "other" })), /^a\.json: format is not/],
    [
      "a.json",
      changed((r) => Object.assign(r.runs[0].metrics[1], { loss: "1" })),
      /: runs\.0\.metrics\.1\.loss is no number/,
    ],
    ["a.json", changed((r) => Object.assign(r, { runs: [] })), /^a\.json: runs is empty/],
    ["a.json", changed((r) => Object.assign(r, { title: "x".repeat(201) })), /title has more than 200/],
    ["a.json", changed((r) => Object.assign(r.runs[0], { samples })), /samples has more than/],
  ])("is refused by name, line and key: %s, %#", async (name, content, words) => {
    expect(await refusal(name, content)).toMatch(words);
  });

  it("that is packed is unpacked no further than its tables, and only where they are small", async () => {
    expect(await refusal("a.zip", "PK nothing")).toMatch(/^a\.zip: cannot unpack/);
    const other = memoryFiles();
    await other.writeFile("x/notes.txt", "hello");
    expect(await refusal("a.zip", await zipFiles(other, ["x"]))).toMatch(/^a\.zip: .*no training run/);
    const bomb = memoryFiles();
    await bomb.writeFile("x/metrics.jsonl", new Uint8Array(recordingLimits.bytes + 1).fill(32));
    expect(await refusal("bomb.zip", await zipFiles(bomb, ["x"]))).toMatch(/^bomb\.zip: .*would have \d+ bytes/);
    const beside = memoryFiles();
    await beside.writeFile("x/metrics.jsonl", metrics);
    await beside.writeFile("x/weights.txt", new Uint8Array(recordingLimits.bytes + 1)); // never opened
    expect((await readRun("x.zip", await zipFiles(beside, ["x"]))).runs[0].metrics).toHaveLength(3);
  });

  it("that is too large is not read", async () => {
    const large = {
      size: recordingLimits.bytes + 1,
      slice: () => new Blob(["{}"]),
      text: () => Promise.reject(new Error("read")),
    };
    await expect(readRun("big.json", large as unknown as Blob)).rejects.toThrow(/^big\.json is larger than 64 MiB/);
  });
});
