// Runs where WEBRLHF_PYTHON, or else python3, has the trackers' own packages.
import { execFile, spawn } from "node:child_process";
import { mkdtemp, readdir, rm, stat, truncate } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
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
import { python, whyNot } from "./python.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-trackers-"));
});
afterEach(() => rm(dir, { recursive: true }));

const settings = {
  learning_rate: 1e-4,
  model_name_or_path: "m",
  bf16: false,
  reward_funcs: ["a", "b"],
  max_steps: null,
};

/** A run that was killed after its third step, and resumed from its second. */
async function resumed(logger: () => Promise<Logger>, killed: () => Promise<void>): Promise<void> {
  const files = await diskFiles();
  const facts = { verb: "grpo", webrlhf: "1", adapter: null, inputs: [], parents: [] };
  await writeRecord(files, join(dir, "run.json"), { ...facts, settings, state: "running", steps: null });
  const log = async (events: TrainEvent[]) => {
    const run = new RunLog(files, dir, {}, new Loggers([await logger()], (text) => expect(text).toBe("")));
    for (const event of events) await run.add(event);
  };
  const start = (step: number): TrainEvent => ({ type: "start", stage: "grpo", step, maxSteps: 4, parameters: 1 });
  const step = (n: number): TrainEvent => ({
    ...{ type: "step", step: n, maxSteps: 4, epoch: n / 4, tokens: 8, seconds: 0.1 },
    metrics: { loss: n === 3 ? Number.NaN : n, "objective/kl": n / 4 },
  });
  await log([start(0), step(1), step(2), { type: "eval", step: 2, metrics: { loss: 0.5 } }, step(3)]);
  await killed();
  await log([start(2), step(3), step(4), { type: "end", step: 4, metrics: {} }]);
}

const check = async (script: string, ...args: string[]) => {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const { stdout } = await promisify(execFile)(python, [path, ...args], { cwd: dir, maxBuffer: 1 << 26 });
  return JSON.parse(stdout.trim().split("\n").at(-1) as string);
};

const noBoard = whyNot(["tensorboard"]);
if (noBoard) console.log(`skipped, TensorBoard: ${noBoard}`);

describe.skipIf(noBoard)("TensorBoard", () => {
  it("shows a run that was killed and resumed, with its settings", { timeout: 120_000 }, async () => {
    const files = await diskFiles();
    await resumed(
      async () => tensorboardLogger(files, { outputDir: dir }),
      async () => {
        const [name] = await readdir(join(dir, "runs"));
        const path = join(dir, "runs", name);
        await truncate(path, (await stat(path)).size - 3);
      },
    );
    const shown = await check("./check_tensorboard.py", dir);
    expect(shown.scalars).toMatchObject({
      "train/loss": [
        [1, 1],
        [2, 2],
        [3, "NaN"],
        [4, 4],
      ],
      "train/objective/kl": [1, 2, 3, 4].map((n) => [n, n / 4]),
      "eval/loss": [[2, 0.5]],
    });
    expect(shown.texts).toEqual(["args/text_summary"]);
    expect(shown.text).toContain(`"learning_rate": 0.0001`);
    const hparams = (shown.hparams as { name: string; type: string }[]).map(({ name, type }) => [name, type]);
    expect(hparams.sort()).toEqual([
      ["bf16", "DATA_TYPE_BOOL"],
      ["learning_rate", "DATA_TYPE_FLOAT64"],
      ["model_name_or_path", "DATA_TYPE_STRING"],
      ["reward_funcs", "DATA_TYPE_STRING"],
    ]);
  });
});

const noStore = whyNot(["wandb"]);
if (noStore) console.log(`skipped, wandb: ${noStore}`);

describe.skipIf(noStore)("wandb", () => {
  it("reads a run that was killed and resumed, with its settings", { timeout: 120_000 }, async () => {
    const files = await diskFiles();
    const file = async () => {
      const [folder] = await readdir(join(dir, "wandb"));
      return join(dir, "wandb", folder, `run-${folder.split("-").at(-1)}.wandb`);
    };
    await resumed(
      async () => wandbLogger(files, { outputDir: dir, project: "p", runName: "r" }),
      async () => truncate(await file(), (await stat(await file())).size - 3),
    );
    const found = await check("./check_wandb.py", await file());
    expect(found.run).toMatchObject({ run_id: (await file()).slice(-14, -6), project: "p", display_name: "r" });
    expect(found.config).toEqual(settings);
    expect(found.metrics).toEqual(["train/global_step", "*"]);
    expect(found.history.map((row: Record<string, unknown>) => [row._step, row["train/global_step"]])).toEqual([
      [0, 1],
      [1, 2],
      [2, 2],
      [3, 3],
      [4, 4],
    ]);
    expect(found.history[2]).toMatchObject({ "eval/loss": 0.5 });
    expect(found.history[3]).toMatchObject({ "train/loss": "nan", "train/objective/kl": 0.75 });
    expect(found.summary).toMatchObject({ "train/loss": 4, "eval/loss": 0.5, "train/global_step": 4 });
    expect(found.exit).toEqual([0]);
  });

  it("uploads it, to a server that says what wandb's would", { timeout: 120_000 }, async () => {
    const files = await diskFiles();
    const uploaded: Record<string, number>[] = [];
    const entity = { id: "e", name: "e" };
    const bucket = { id: "x", name: "b", displayName: "r", sweepName: null, historyLineCount: 0, config: "{}" };
    const answers: [string, object][] = [
      ["mutation UpsertBucket", { upsertBucket: { bucket: { ...bucket, project: { id: "p", name: "p", entity } } } }],
      ["", { viewer: { id: "v", entity: "e", flags: "{}", teams: { edges: [] } }, serverInfo: { features: [] } }],
    ];
    const server = createServer(async (request, response) => {
      let body = "";
      for await (const piece of request) body += piece;
      const data = answers.find(([part]) => body.includes(part))?.[1];
      const rows: string[] = JSON.parse(body || "{}").files?.["wandb-history.jsonl"]?.content ?? [];
      for (const row of rows) uploaded.push(JSON.parse(row.replace("NaN", "null")));
      response.setHeader("Content-Type", "application/json");
      response.end(JSON.stringify(request.url?.includes("graphql") ? { data } : {}));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    try {
      await resumed(
        async () => wandbLogger(files, { outputDir: dir, project: "p" }),
        async () => {},
      );
      const [folder] = await readdir(join(dir, "wandb"));
      const env = {
        ...{ ...process.env, HOME: dir, WANDB_API_KEY: "a".repeat(40), WANDB_ERROR_REPORTING: "false" },
        WANDB_BASE_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      };
      await promisify(execFile)(python, ["-m", "wandb", "sync", join(dir, "wandb", folder)], {
        cwd: dir,
        env,
        timeout: 60_000,
      });
      expect(uploaded.map((row) => row["train/global_step"])).toEqual([1, 2, 2, 3, 4]);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
});

const noTrackio = whyNot(["trackio"]);
if (noTrackio) console.log(`skipped, Trackio: ${noTrackio}`);

describe.skipIf(noTrackio)("Trackio", () => {
  it("has each line of a run that was killed and resumed once", { timeout: 120_000 }, async () => {
    const files = await diskFiles();
    const script = fileURLToPath(new URL("./check_trackio.py", import.meta.url));
    const serving = spawn(python, [script, "serve", join(dir, "trackio")], {
      cwd: dir,
      stdio: ["pipe", "pipe", "ignore"],
    });
    try {
      let said = "";
      const serverUrl = await new Promise<string>((resolve, reject) => {
        serving.on("exit", () => reject(new Error(said)));
        serving.stdout.on("data", (piece) => {
          said += piece;
          const found = /\{"url": "([^"]+)"\}/.exec(said);
          if (found) resolve(found[1]);
        });
      });
      await resumed(
        async () => trackioLogger(files, { outputDir: dir, serverUrl, project: "p", runName: "r" }),
        async () => {},
      );
    } finally {
      serving.stdin.end();
      serving.kill();
    }
    const { run, rows, config } = await check("./check_trackio.py", "read", join(dir, "trackio"), "p");
    expect(run).toBe("r");
    expect(rows.map((row: Record<string, unknown>) => [row.step, row["train/loss"] ?? row["eval/loss"]])).toEqual(
      [
        [1, 1],
        [2, 2],
        [2, 0.5],
        [3, Number.NaN],
        [4, 4],
      ].map(([step, loss]) => [step, Number.isNaN(loss) ? "nan" : loss]),
    );
    expect(config).toMatchObject(settings);
  });
});
