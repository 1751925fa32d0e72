/** Who draws the iterations' responses, and when: ahead, where the settings say so. */
import type { SampledRow } from "../../data/scored-rows.ts";
import type { CausalLM } from "../../nn/models.ts";
import type { TextTokenizer } from "../../nn/text-tokenizer.ts";
import type { Files } from "../../runtime/files.ts";
import { type AheadSettings, versionOf } from "../ahead.ts";
import type { Sampler, SamplingOptions } from "../sampler.ts";
import type { RolloutSource } from "../source.ts";
import { drawRows, type NumberedPrompt, sampleRows } from "./sample.ts";
import { sampleStage } from "./stages.ts";

/** What the iterations of a run draw, and where it is kept. */
export interface DrawnRun {
  policy: CausalLM;
  tokenizer: TextTokenizer;
  files: Files;
  folderOf(iteration: number): string;
  /** The prompts of each iteration, of the first one first. */
  slices: readonly (readonly NumberedPrompt[])[];
  /** How responses are drawn. */
  sampling: Omit<SamplingOptions, "iteration"> & { samples: number };
  /** They are episodes, which the policy plays here. */
  acting: boolean;
  progress?: ((iteration: number, done: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * The responses of a run's iterations, drawn as soon as the policy whose turn it is is there. A policy's version is the iterations
 * that it was trained in: iteration 1 begins with version 0. What was drawn ahead is in the iterations' folders.
 */
export class IterationDraws {
  readonly #by: Sampler | RolloutSource;
  readonly #run: DrawnRun;
  readonly #settings: AheadSettings;
  readonly #under = new Map<number, Promise<SampledRow[] | null>>();
  #published: number | null = null;

  /** @param by a function draws when its iteration begins, a source ahead */
  constructor(by: Sampler | RolloutSource, run: DrawnRun, settings: AheadSettings) {
    this.#by = by;
    this.#run = run;
    this.#settings = settings;
  }

  /** Iterations from `next` on that a version draws, as far as they may be drawn when `next` begins. */
  turns(version: number, next: number): number[] {
    const last = Math.min(next + this.#settings.maxStaleness, this.#run.slices.length);
    const all = Array.from({ length: Math.max(0, last - next + 1) }, (_, i) => next + i);
    return all.filter((iteration) => versionOf(iteration - 1, this.#settings) === version);
  }

  /** Asks for what the policy, which is of this version now, is to draw. It may change afterwards. */
  async ask(version: number, next: number): Promise<void> {
    for (const iteration of this.turns(version, next)) {
      if (this.#under.has(iteration)) continue;
      await new Promise<void>((resolve) => {
        const rows = this.#draw(iteration, version, resolve);
        this.#under.set(iteration, rows);
        // What it throws is thrown where the rows are needed.
        rows.then(
          () => resolve(),
          () => resolve(),
        );
      });
    }
  }

  /** The responses of an iteration that was asked for; null where the signal stopped it. */
  async rows(iteration: number): Promise<SampledRow[] | null> {
    const rows = this.#under.get(iteration);
    if (!rows) throw new Error(`iteration ${iteration} was not asked for`);
    this.#under.delete(iteration);
    return rows;
  }

  /** Gives up what is under way, and waits until nothing writes any more. */
  async close(): Promise<void> {
    if (typeof this.#by !== "function") await this.#by.close?.();
    await Promise.allSettled(this.#under.values());
  }

  #draw(iteration: number, version: number, requested: () => void): Promise<SampledRow[] | null> {
    const { policy, tokenizer, files, folderOf, slices, sampling, acting, signal } = this.#run;
    const prompts = slices[iteration - 1];
    const progress = (done: number, total: number) => this.#run.progress?.(iteration, done, total);
    const by = this.#by;
    return sampleStage(files, `${folderOf(iteration)}/responses.jsonl`, prompts, sampling.samples, (log) => {
      if (typeof by === "function") {
        // Somebody else samples, so that what is missing of a call may be asked for alone.
        const whole = acting ? { mayDrop: true } : ({ redo: "rows", promptsAtOnce: 256 } as const);
        return sampleRows(by, prompts, log, { ...sampling, iteration, ...whole, progress, ...(signal && { signal }) });
      }
      return drawRows(by, prompts, log, {
        ...sampling,
        iteration,
        version,
        promptsPerJob: this.#settings.promptsPerJob,
        half: policy.half,
        kvCache: policy.kvCache,
        batchInvariant: policy.batchInvariant,
        tokenizer,
        progress,
        signal,
        requested,
        publish: async () => {
          if (this.#published !== version) await by.publish(version, policy);
          this.#published = version;
        },
      });
    });
  }
}
