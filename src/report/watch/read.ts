/** Reads runs that may be at work from their folders, bounded, and again only where a file has changed. */

import { CHANGES, type Change, readChanges } from "../../rlhf/changes.ts";
import { type Standing, standingOf, type Wish, waitingWishes } from "../../rlhf/controls.ts";
import { type RunRecord, readRecord, recordOf } from "../../rlhf/record.ts";
import type { Files } from "../../runtime/files.ts";
import { absolute, basename, join } from "../../runtime/paths.ts";
import { metricsOf } from "../collect.ts";
import type { Metrics } from "../data.ts";
import type { SeenResponse } from "../diagnoses/evidence.ts";

/** Bytes that are read of a file's end: a table of more than that shows its newest part. */
const MOST = 16 << 20;
/** Runs in one place, and folders that are looked through for them. */
const MOST_RUNS = 200;

/** A response that its run showed token by token. */
export interface ShownResponse extends SeenResponse {
  readonly texts?: readonly string[];
  readonly rewards?: readonly number[];
}

/** A sample of a response with its score. */
export interface ShownSample {
  readonly step: number;
  readonly prompt: string;
  readonly response: string;
  readonly reward?: number | null;
}

/** Where a run lies. */
export interface RunPlace {
  /** Its path under the folder that is watched. */
  readonly name: string;
  readonly folder: string;
}

/** A run as its folder has it at the moment. */
export interface WatchedRun {
  readonly name: string;
  readonly record: RunRecord | null;
  readonly steps: readonly Metrics[];
  readonly evals: readonly Metrics[];
  readonly timing: readonly { readonly step: number; readonly seconds: number; readonly tokens: number }[];
  /** All numbers of timing.jsonl: parts of steps, evaluations and saves, memory. */
  readonly usage: readonly Metrics[];
  readonly rollouts: readonly ShownResponse[];
  readonly samples: readonly ShownSample[];
  /** How it stands, where it is at work and says so. */
  readonly standing: Standing | null;
  /** What it was asked for and has not heard yet. */
  readonly waiting: readonly Wish[];
  /** Settings that were changed on its way. */
  readonly changes: readonly Change[];
  /** Who has its folder: null where nobody has, undefined where that cannot be seen. */
  readonly holder: Awaited<ReturnType<NonNullable<Files["holder"]>>> | undefined;
}

type Row = Record<string, unknown>;

/** Follows the runs below a folder. */
export class RunWatcher {
  readonly #files: Files;
  readonly #dir: string;
  readonly #known = new Map<string, { size: number; rows: Row[] }>();

  constructor(files: Files, dir: string) {
    this.#files = files;
    this.#dir = dir;
  }

  /** The runs: the folder itself, those in it, and those in them. Sorted, 200 at most. */
  async places(): Promise<RunPlace[]> {
    const found: RunPlace[] = [];
    const look = async (name: string, depth: number): Promise<void> => {
      if (found.length >= MOST_RUNS) return;
      const folder = name === "" ? this.#dir : join(this.#dir, name);
      const inside = await this.#files.list(folder);
      if (inside.includes("metrics.jsonl")) found.push({ name: name || basename(absolute(folder)), folder });
      if (depth === 2) return;
      for (const one of inside) {
        const isPlain = !one.includes(".") && !/^(checkpoint-|iteration_)\d+$/.test(one);
        if (isPlain) await look(name === "" ? one : `${name}/${one}`, depth + 1);
      }
    };
    await look("", 0);
    return found;
  }

  /** A run as it is now. */
  async read({ name, folder }: RunPlace): Promise<WatchedRun> {
    const rows = (file: string) => this.#rows(join(folder, file));
    const metrics = (await rows("metrics.jsonl")).map(metricsOf);
    const timing = await rows("timing.jsonl");
    return {
      name,
      record: await readRecord(this.#files, recordOf(folder)),
      steps: metrics.filter((row) => "tokens" in row),
      evals: metrics.filter((row) => !("tokens" in row)),
      timing: timing.filter(isTiming),
      usage: timing.map(metricsOf),
      rollouts: newest((await rows("rollouts.jsonl")).filter(isResponse)),
      samples: newest((await rows("samples.jsonl")).filter(isSample)),
      standing: await standingOf(this.#files, folder),
      waiting: await waitingWishes(this.#files, folder),
      changes: await readChanges(this.#files, join(folder, CHANGES)).catch(() => []),
      holder: await this.#files.holder?.(folder),
    };
  }

  /** The rows of a table, or of its end where it is long; a line that is being written is none yet. */
  async #rows(path: string): Promise<Row[]> {
    const file = await this.#files.open(path);
    if (file === null) return [];
    try {
      const known = this.#known.get(path);
      if (known?.size === file.size) return known.rows;
      const from = Math.max(0, file.size - MOST);
      const text = new TextDecoder().decode(await file.read(from, file.size - from));
      const lines = text.split("\n").slice(from > 0 ? 1 : 0, -1);
      const rows = lines.flatMap((line) => {
        try {
          const row: unknown = JSON.parse(line);
          return typeof row === "object" && row !== null && !Array.isArray(row) ? [row as Row] : [];
        } catch {
          return [];
        }
      });
      this.#known.set(path, { size: file.size, rows });
      return rows;
    } finally {
      await file.close();
    }
  }
}

const newest = <R extends { step: number }>(rows: readonly R[]): R[] =>
  rows.filter(({ step }) => step === rows.at(-1)?.step);

const isTiming = (row: Row): row is Row & { step: number; seconds: number; tokens: number } =>
  ["step", "seconds", "tokens"].every((key) => typeof row[key] === "number");

const isSample = (row: Row): row is Row & ShownSample =>
  typeof row.step === "number" && typeof row.prompt === "string" && typeof row.response === "string";

const isNumbers = (value: unknown): boolean =>
  value === undefined || (Array.isArray(value) && value.every((one) => typeof one === "number"));

const isResponse = (row: Row): row is Row & ShownResponse =>
  isSample(row) &&
  typeof row.score === "number" &&
  typeof row.ended === "boolean" &&
  ["kl", "rewards", "values", "returns"].every((key) => isNumbers(row[key])) &&
  (row.texts === undefined || (Array.isArray(row.texts) && row.texts.every((text) => typeof text === "string")));
