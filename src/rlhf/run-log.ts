/**
 * What a run leaves on disk for people and programs, besides its model:
 *
 * - `metrics.jsonl`: one line per step or evaluation event (evaluations' keys begin with `eval_`). Numbers that
 *   JSON does not know stand there as "NaN" and "Infinity". It holds nothing that depends on the clock, so a run that was
 *   killed and resumed leaves the same bytes as one that was not.
 * - `timing.jsonl`: the clock's part, per step, with the parts that it is made of, and the GPU's memory; evaluations and saves.
 * - `changes.jsonl`: settings that were changed on the way, which the loop keeps by itself.
 * - `data.jsonl`: what became of the rows of each part of the data.
 * - `rollouts.jsonl`: responses token by token, where `show_rollouts` asks for some.
 * - `samples.jsonl`, `eval_rows.jsonl`, `raft.jsonl`, `monitor.jsonl`: texts and tables that trainers send along.
 * - `runs`, `wandb`, `trackio.json`: what loggers keep (see loggers/).
 * - `trainer_state.json`: the Hugging Face Trainer's file of that name, with the same log_history.
 */
import type { Files } from "../runtime/files.ts";
import { readJsonLines, readText, writeJson } from "../runtime/json-files.ts";
import type { Best } from "./best.ts";
import { CHANGES } from "./changes.ts";
import type { TrainEvent } from "./events.ts";
import type { LoggedMetrics, Loggers } from "./loggers/logger.ts";
import { readRecord, recordOf } from "./record.ts";
import { lineOf, linesOf, METRICS, type Row, TIMING } from "./run-lines.ts";

/** Settings that trainer_state.json repeats. */
export interface StateSettings {
  readonly loggingSteps?: number;
  readonly saveSteps?: number;
  readonly evalSteps?: number;
  readonly numTrainEpochs?: number | null;
  readonly perDeviceTrainBatchSize?: number;
}

/** Writes the files that a run leaves for people and programs besides its model, as its events come. */
export class RunLog {
  readonly #files: Files;
  readonly #dir: string;
  readonly #settings: StateSettings;
  readonly #loggers: Loggers | null;
  #history: Row[] = [];
  /**
   * Lines that earlier attempts wrote and the cut-back kept, by "file:kind:step": what is told again is not written twice,
   * and of what was cut off in the middle the rest is.
   */
  #kept = new Map<string, number>();
  #maxSteps = 0;
  #step = 0;
  #started = false;
  #best: Best | null = null;

  /** @param loggers hear the lines of metrics.jsonl besides, each once, whatever is told again. Default: nobody */
  constructor(files: Files, dir: string, settings: StateSettings = {}, loggers: Loggers | null = null) {
    this.#files = files;
    this.#dir = dir;
    this.#settings = settings;
    this.#loggers = loggers;
  }

  /** Takes one event; when the promise resolves the line is in the file. */
  async add(event: TrainEvent): Promise<void> {
    switch (event.type) {
      case "start":
        this.#maxSteps = event.maxSteps;
        this.#step = event.step;
        this.#best = event.best ?? null;
        await this.#cutBack(event.step);
        this.#started = true;
        await this.#loggers?.start({ step: event.step, settings: await this.#recorded() });
        return;
      case "step":
        this.#step = event.step;
        this.#maxSteps = event.maxSteps;
        break;
      case "eval":
        this.#best = event.best ?? null;
        break;
      case "checkpoint":
        for (const { file, rows } of linesOf(event)) await this.#append(file, rows);
        await this.#writeState();
        return;
      case "end":
        if (!this.#started) return; // the run was finished before
        this.#step = event.step;
        await this.#sync();
        await this.#writeState();
        await this.#loggers?.end("finished");
        return;
    }
    for (const { file, rows } of linesOf(event)) await this.#append(file, rows, usageOf(event));
  }

  /** What a checkpoint's trainer_state.json says of the run so far; every line of the log is on disk by then. */
  async forCheckpoint(): Promise<Record<string, unknown>> {
    await this.#sync();
    return this.#state();
  }

  /** Brings trainer_state.json up to date when the run broke off, and lets its loggers end. */
  async close(): Promise<void> {
    if (!this.#started) return;
    await this.#loggers?.end("stopped");
    await this.#writeState();
  }

  /** What the record of the run says of its settings. */
  async #recorded(): Promise<Readonly<Record<string, unknown>>> {
    return (await readRecord(this.#files, recordOf(this.#dir)).catch(() => null))?.settings ?? {};
  }

  /** Drops every line past the checkpoint's step; a fresh start (step 0) drops them all. */
  async #cutBack(step: number): Promise<void> {
    this.#kept.clear();
    this.#history = [];
    for (const file of (await this.#files.list(this.#dir)).filter(
      (name) => name.endsWith(".jsonl") && name !== CHANGES,
    )) {
      const path = `${this.#dir}/${file}`;
      const before = await readText(this.#files, path);
      const all = await readJsonLines<Row>(this.#files, path);
      // Tables are known by their steps: other lines are not this log's.
      if (before === null || all.some((row) => typeof row.step !== "number")) continue;
      const rows = step === 0 ? [] : all.filter((row) => row.step <= step);
      for (const row of rows) {
        const key = `${file}:${kindOf(file, row)}:${row.step}`;
        this.#kept.set(key, (this.#kept.get(key) ?? 0) + 1);
      }
      if (file === METRICS) this.#history = rows;
      const after = rows.map((row) => `${JSON.stringify(row)}\n`).join("");
      if (after !== before) await this.#files.writeFile(path, after);
    }
    // The file is there from the start, so that a viewer can follow it.
    await this.#files.append(`${this.#dir}/${METRICS}`, "");
  }

  /** @param besides what loggers hear with the first row */
  async #append(file: string, rows: Row[], besides: LoggedMetrics = {}): Promise<void> {
    if (rows.length === 0) return;
    const key = `${file}:${kindOf(file, rows[0])}:${rows[0].step}`;
    const kept = this.#kept.get(key) ?? 0;
    this.#kept.set(key, Math.max(0, kept - rows.length));
    const fresh = rows.slice(kept);
    const lines = fresh.map(lineOf);
    if (lines.length === 0) return;
    if (file === METRICS) this.#history.push(...lines.map((line) => JSON.parse(line) as Row));
    await this.#files.append(`${this.#dir}/${file}`, lines.map((line) => `${line}\n`).join(""));
    if (file === METRICS)
      for (const row of fresh) await this.#loggers?.log(row.step, { ...numbersOf(row), ...besides });
  }

  async #sync(): Promise<void> {
    for (const name of await this.#files.list(this.#dir)) {
      if (name.endsWith(".jsonl")) await this.#files.sync?.(`${this.#dir}/${name}`);
    }
  }

  #writeState(): Promise<void> {
    return writeJson(this.#files, `${this.#dir}/trainer_state.json`, this.#state());
  }

  #state(): Record<string, unknown> {
    const steps = this.#history.filter((row) => "tokens" in row);
    return {
      best_global_step: this.#best?.step ?? null,
      best_metric: this.#best?.value ?? null,
      best_model_checkpoint: this.#best?.checkpoint ?? null,
      epoch: steps.at(-1)?.epoch ?? 0,
      eval_steps: this.#settings.evalSteps ?? 0,
      global_step: this.#step,
      is_hyper_param_search: false,
      is_local_process_zero: true,
      is_world_process_zero: true,
      log_history: this.#history,
      logging_steps: this.#settings.loggingSteps ?? 1,
      max_steps: this.#maxSteps,
      num_input_tokens_seen: steps.reduce((sum, row) => sum + Number(row.tokens), 0),
      num_train_epochs: this.#settings.numTrainEpochs ?? 1,
      save_steps: this.#settings.saveSteps ?? 0,
      stateful_callbacks: {},
      total_flos: 0,
      train_batch_size: this.#settings.perDeviceTrainBatchSize ?? 1,
      trial_name: null,
      trial_params: null,
    };
  }
}

/** The numbers of a line, whose step stands by itself. */
const numbersOf = ({ step: _, ...row }: Row): LoggedMetrics =>
  Object.fromEntries(Object.entries(row).filter((entry): entry is [string, number] => typeof entry[1] === "number"));

/** What trackers hear of an event besides its line in metrics.jsonl, which holds nothing of the clock. */
function usageOf(event: TrainEvent): LoggedMetrics {
  if (event.type === "eval") return event.seconds === undefined ? {} : { "time/eval": event.seconds };
  if (event.type !== "step" || !event.usage) return {};
  const { tokens, seconds, usage } = event;
  return { ...usage, ...(seconds > 0 && { tokens_per_second: tokens / seconds }) };
}

function kindOf(file: string, row: Row): string {
  if (file === TIMING) return "time/eval" in row ? "eval" : "time/save" in row ? "save" : "step";
  if (file !== METRICS) return "row";
  return "tokens" in row ? "step" : "eval";
}
