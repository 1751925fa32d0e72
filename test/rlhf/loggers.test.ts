import { describe, expect, it } from "vitest";
import { type Files, memoryFiles } from "webrlhf";
import { loggerNames, openLoggers } from "webrlhf/open";
import {
  type Logger,
  Loggers,
  RunLog,
  type TrainEvent,
  tensorboardLogger,
  trackioLogger,
  wandbLogger,
  writeRecord,
} from "webrlhf/rlhf";
import { idleLogging } from "../../src/open/loggers.ts";
import { fieldsOf, type Scalar, scalarsOf, wandbRecordsOf } from "../event-files.ts";

const start = (step: number): TrainEvent => ({ type: "start", stage: "sft", step, maxSteps: 4, parameters: 1 });
const step = (n: number, loss = 1 / n): TrainEvent => ({
  ...{ type: "step", step: n, maxSteps: 4, epoch: n / 4, metrics: { loss }, tokens: 8, seconds: 0.1 },
});
const evaluation = (n: number): TrainEvent => ({ type: "eval", step: n, metrics: { loss: n / 8 } });
const end: TrainEvent = { type: "end", step: 4, metrics: {} };

const heard: string[] = [];
const logged = async (files: Files, events: TrainEvent[], loggers: readonly Logger[], patience?: number) => {
  heard.length = 0;
  const log = new RunLog(files, "out", {}, new Loggers(loggers, (text) => heard.push(text), patience));
  for (const event of events) await log.add(event);
  return log;
};

async function eventFiles(files: Files, folder = "out/runs"): Promise<Uint8Array[]> {
  const names = await files.list(folder);
  return Promise.all(names.map(async (name) => (await files.read(`${folder}/${name}`)) as Uint8Array));
}
const scalars = async (files: Files, folder?: string): Promise<Scalar[]> =>
  (await eventFiles(files, folder)).flatMap(scalarsOf);
const steps = (found: readonly Scalar[], name: string) =>
  found.filter((one) => one.name === name).map(({ step }) => step);

describe("loggers", () => {
  it("hear each line once, as a function of step and numbers, also where a run goes on and evaluates again", async () => {
    const files = memoryFiles();
    const lines: [number, object][] = [];
    const hear = (step: number, metrics: object) => void lines.push([step, metrics]);
    await logged(files, [start(0), step(1), step(2, Number.NaN), evaluation(2)], [hear]);
    await logged(files, [start(2), evaluation(2), step(3)], [hear]);
    expect(lines).toEqual([
      [1, { epoch: 0.25, loss: 1, tokens: 8 }],
      [2, { epoch: 0.5, loss: Number.NaN, tokens: 8 }],
      [2, { eval_loss: 0.25 }],
      [3, { epoch: 0.75, loss: 1 / 3, tokens: 8 }],
    ]);
  });

  it("are told of the run's settings, where it goes on, and of its end, once", async () => {
    const files = memoryFiles();
    const facts = { verb: "sft", webrlhf: "1", adapter: null, inputs: [], parents: [] };
    const record = { ...facts, settings: { learning_rate: 1 }, state: "running", steps: null } as const;
    await writeRecord(files, "out/run.json", record);
    const told: unknown[] = [];
    const logger: Logger = {
      name: "mine",
      start: async (run) => void told.push(run),
      log: () => {},
      end: async (state) => void told.push(state),
    };
    const log = await logged(files, [start(2), step(3), end], [logger]);
    await log.close();
    await (await logged(files, [start(3)], [logger])).close();
    const settings = { learning_rate: 1 };
    expect(told).toEqual([{ step: 2, settings }, "finished", { step: 3, settings }, "stopped"]);
  });

  it("that fail or hang are named once, and neither stop the run nor lose its lines", async () => {
    const files = memoryFiles();
    let calls = 0;
    const full: Logger = { name: "full", log: () => Promise.reject(new Error(`no space (${++calls})`)) };
    const hangs: Logger = { name: "hangs", log: () => new Promise(() => {}) };
    const lines: number[] = [];
    const good = (step: number) => void lines.push(step);
    await logged(files, [start(0), step(1), step(2), step(3), end], [full, hangs, good], 20);
    expect(heard.sort()).toEqual([
      "full hears no more of this run, whose numbers are in metrics.jsonl: no space (1)",
      "hangs hears no more of this run, whose numbers are in metrics.jsonl: no answer in 0.02 s",
    ]);
    expect(lines).toEqual([1, 2, 3]);
    const text = new TextDecoder().decode((await files.read("out/metrics.jsonl")) as Uint8Array);
    expect(text.trim().split("\n")).toHaveLength(3);
  });
});

describe("TensorBoard's event files", () => {
  const board = (files: Files, more: object = {}) => tensorboardLogger(files, { outputDir: "out", ...more });

  it("hold the run's numbers by transformers' names", async () => {
    const files = memoryFiles();
    await logged(files, [start(0), step(1), step(2, Number.NaN), evaluation(2)], [board(files)]);
    expect(await scalars(files)).toEqual([
      { step: 1, name: "train/epoch", value: 0.25 },
      { step: 1, name: "train/loss", value: 1 },
      { step: 1, name: "train/tokens", value: 8 },
      { step: 2, name: "train/epoch", value: 0.5 },
      { step: 2, name: "train/loss", value: Number.NaN },
      { step: 2, name: "train/tokens", value: 8 },
      { step: 2, name: "eval/loss", value: 0.25 },
    ]);
  });

  it("are cut back where a run goes on, whatever the kill left of the last line", async () => {
    const files = memoryFiles();
    await logged(files, [start(0), step(1), step(2), step(3)], [board(files)]);
    const [name] = await files.list("out/runs");
    const whole = (await files.read(`out/runs/${name}`)) as Uint8Array;
    await files.writeFile(`out/runs/${name}`, whole.subarray(0, -5));
    expect(steps(await scalars(files), "train/loss")).toEqual([1, 2]);
    await files.writeFile(`out/runs/${name}`, whole);
    await logged(files, [start(1), step(2), step(3), end], [board(files)]);
    expect(await files.list("out/runs")).toHaveLength(2);
    expect(steps(await scalars(files), "train/loss")).toEqual([1, 2, 3]);
  });

  it("of an earlier run make room for one that begins anew, and those of other runs stay", async () => {
    const files = memoryFiles();
    const shared = { loggingDir: "logs", runName: "a b" };
    await logged(files, [start(0), step(1)], [board(files, shared)]);
    await logged(files, [start(0), step(1)], [board(files, { ...shared, outputDir: "elsewhere" })]);
    await files.append("logs/notes.txt", "mine");
    await logged(files, [start(0), step(2)], [board(files, shared)]);
    const names = await files.list("logs");
    expect(names).toHaveLength(3);
    expect(names[0]).toMatch(/^events\.out\.tfevents\.\d+\.a_b-[0-9a-f]{8}$/);
    await files.remove("logs/notes.txt");
    expect(steps(await scalars(files, "logs"), "train/loss").sort()).toEqual([1, 2]);
  });
});

describe("an offline run of wandb", () => {
  const run = (files: Files) => wandbLogger(files, { outputDir: "out", project: "p" });
  const folders = (files: Files) => files.list("out/wandb");
  const logOf = async (files: Files) => {
    const [folder] = await folders(files);
    return (await files.read(`out/wandb/${folder}/run-${folder.slice(-8)}.wandb`)) as Uint8Array;
  };
  /** Global steps of the records of history. */
  const historyOf = async (files: Files) =>
    wandbRecordsOf(await logOf(files)).flatMap((record) => {
      const found = /train\/global_step\W+(\d+)/.exec(new TextDecoder("latin1").decode(record));
      return fieldsOf(record).some(([field]) => field === 2) ? [Number(found?.[1])] : [];
    });

  it("is one run where the run goes on, also with records that are longer than a block", async () => {
    const files = memoryFiles();
    const facts = { verb: "sft", webrlhf: "1", adapter: null, inputs: [], parents: [] };
    const settings = { prompt: "x".repeat(100_000) };
    await writeRecord(files, "out/run.json", { ...facts, settings, state: "running", steps: null });
    const many = Array.from({ length: 300 }, (_, i) => step(i + 1));
    await logged(files, [start(0), ...many], [run(files)]);
    const before = await folders(files);
    await logged(files, [start(200), step(201), step(202), end], [run(files)]);
    expect(heard).toEqual([]);
    expect(await folders(files)).toEqual(before);
    expect(await historyOf(files)).toEqual(Array.from({ length: 202 }, (_, i) => i + 1));
    const numbers = wandbRecordsOf(await logOf(files)).map((record) => fieldsOf(record)[0]);
    expect(numbers).toEqual(numbers.map((_, i) => [1, i + 1]));
  });

  it("is another one where the run begins anew", async () => {
    const files = memoryFiles();
    await logged(files, [start(0), step(1), end], [run(files)]);
    const before = await folders(files);
    await logged(files, [start(0), step(2)], [run(files)]);
    expect(await folders(files)).toHaveLength(1);
    expect(await folders(files)).not.toEqual(before);
    expect(await historyOf(files)).toEqual([2]);
  });
});

describe("Trackio", () => {
  const sent: { url: string; token: string | null; logs: Record<string, unknown>[] }[] = [];
  const server = (status: number) =>
    (async (url: URL, { headers, body }: RequestInit) => {
      const { logs } = JSON.parse(body as string).kwargs;
      sent.push({ url: String(url), token: new Headers(headers).get("x-trackio-write-token"), logs });
      return new Response('{"data":null}', { status });
    }) as typeof fetch;
  const run = (files: Files, status = 200) =>
    trackioLogger(files, { outputDir: "out", serverUrl: "http://h:1/t?write_token=s", fetch: server(status) });

  it("is sent each line with an id that stays where the run goes on", async () => {
    sent.length = 0;
    const files = memoryFiles();
    await logged(files, [start(0), step(1, Number.POSITIVE_INFINITY), evaluation(1)], [run(files)]);
    await logged(files, [start(1), step(2)], [run(files)]);
    await logged(files, [start(0), step(1)], [run(files)]);
    expect(sent[0]).toMatchObject({ url: "http://h:1/t/api/bulk_log", token: "s" });
    const logs = sent.flatMap((one) => one.logs);
    expect(logs[0]).toMatchObject({ project: "huggingface", step: 1, metrics: { "train/loss": "Infinity" } });
    const [first, second, third, other] = logs.map(({ log_id }) => String(log_id).split("-"));
    expect([first, second, third].map(([, ...rest]) => rest.join())).toEqual(["train,1", "eval,1", "train,2"]);
    expect(new Set([first[0], second[0], third[0]]).size).toBe(1);
    expect(other[0]).not.toBe(first[0]);
  });

  it("that refuses is named once", async () => {
    sent.length = 0;
    const files = memoryFiles();
    await logged(files, [start(0), step(1), step(2)], [run(files, 500)]);
    expect(sent).toHaveLength(1);
    expect(heard).toEqual([expect.stringMatching(/^trackio hears no more .*http:\/\/h:1 answered 500/)]);
  });
});

describe("names of loggers", () => {
  it("are those of transformers, and unknown ones are refused before anything is opened", () => {
    const url = { trackioServerUrl: "http://h" };
    expect(loggerNames({ reportTo: ["none"] })).toEqual([]);
    expect(loggerNames({ reportTo: ["jsonl", "wandb", "wandb"] })).toEqual(["wandb"]);
    expect(loggerNames({ reportTo: ["all"] })).toEqual(["tensorboard", "wandb"]);
    expect(loggerNames({ reportTo: ["all"], ...url })).toEqual(["tensorboard", "wandb", "trackio"]);
    expect(() => loggerNames({ reportTo: ["tensorbord"] })).toThrow('did you mean "tensorboard"');
    expect(() => loggerNames({ reportTo: ["trackio"] })).toThrow("trackio_server_url");
    expect(() => loggerNames({ reportTo: ["trackio"], trackioServerUrl: "h:1" })).toThrow("http://");
    expect(idleLogging({ reportTo: ["wandb"], loggingDir: "x", runName: "y" })).toEqual(["logging_dir"]);
  });

  it("make loggers that write into the run's folder", async () => {
    const files = memoryFiles();
    const loggers = openLoggers({ reportTo: ["tensorboard", "wandb"], files, outputDir: "out" });
    await logged(files, [start(0), step(1)], loggers);
    expect(await files.list("out")).toEqual(["metrics.jsonl", "runs", "timing.jsonl", "wandb"]);
    expect((await files.list("out/runs"))[0]).toMatch(/\.out-[0-9a-f]{8}$/);
  });
});
