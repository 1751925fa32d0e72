/**
 * Continuous batching: requests come at any time, a fixed number of slots decodes them together, and a sequence that ends
 * makes room for the next one in the queue. Tokens are read every few steps, while the steps after them already run.
 *
 * What is sampled depends on the request alone (its seed names its random numbers), up to the rounding of matrix products,
 * whose kernels are chosen by the number of rows.
 */
import { UserError } from "../runtime/errors.ts";
import type { SlotStep } from "../tensor/ops/sample.ts";
import type { TopTokens } from "../tensor/ops/top-tokens.ts";
import { type EngineSample, Generation, type GenerationRequest, type Piece } from "./generation.ts";
import type { CausalLM } from "./models.ts";
import { slotOptions } from "./sampling.ts";
import { SlotDecoder, type Steps } from "./slot-decoder.ts";

/** The size and the rhythm of an `Engine`. */
export interface EngineOptions {
  /** Sequences decoded at once. Default 8. */
  slots?: number;
  /** Tokens per sequence, prompt and response together; the key/value cache is this long. Default: the model's context. */
  capacity?: number;
  /** Samples that may wait while all slots are taken. Default: no limit. */
  maxWaiting?: number;
  /** Decode steps between reads. Default: as many as take about 50 ms, at most 16. */
  stepsPerRead?: number;
  /** Decode all slots even when few are taken: with `stepsPerRead` set, equal requests then give equal bits. */
  fixedRows?: boolean;
}

/** An `Engine`'s queue is full; try again later. */
export class EngineBusyError extends Error {
  override readonly name = "EngineBusyError";
}

const MAX_STEPS = 16;
const TURN_MS = 50;
/** Prompt tokens run in one turn (but always one prompt): bounds memory, and how long others wait for their next token. */
const PREFILL_TOKENS = 4096;

/** A turn that was enqueued and not read yet. */
interface Turn {
  joined: EngineSample[];
  occupants: (EngineSample | null)[];
  steps: number;
  /** When it was enqueued. */
  at: number;
  result: Promise<Steps>;
}

/** A model that answers requests as they come, many at once: continuous batching over a fixed number of slots. */
export class Engine {
  readonly slots: number;
  readonly capacity: number;
  private readonly model: CausalLM;
  private readonly decoder: SlotDecoder;
  private readonly options: EngineOptions;
  private readonly waiting: EngineSample[] = [];
  private readonly occupants: (EngineSample | null)[];
  private running: Promise<void> | null = null;
  private failure: Error | null = null;
  /** Slots whose sequences were stopped, until the GPU is told. */
  private readonly leaving = new Set<number>();
  private stepMs = 0;
  private delivered = 0;

  /** Allocates the key/value cache. Throws `UserError` where it does not fit. */
  constructor(model: CausalLM, options: EngineOptions = {}) {
    const { slots = 8, capacity = model.config.maxPositions } = options;
    if (capacity > model.config.maxPositions) {
      throw new UserError(`${capacity} tokens per sequence exceed the model's context of ${model.config.maxPositions}`);
    }
    this.model = model;
    this.slots = slots;
    this.capacity = capacity;
    this.options = options;
    this.occupants = new Array(slots).fill(null);
    this.decoder = new SlotDecoder(model, slots, capacity, options.stepsPerRead ?? MAX_STEPS);
  }

  /** Samples waiting for a slot, and samples in one. */
  get load(): { waiting: number; active: number } {
    return { waiting: this.waiting.length, active: this.occupants.filter((s) => s !== null).length };
  }

  /** The error that ended the engine, if any: the GPU was lost, or ran out of memory. */
  get failed(): Error | null {
    return this.failure;
  }

  /**
   * Queues a request. Pieces of its samples come as they are read; leaving the loop early, or the signal, cancels it.
   * Throws `UserError` for a request that cannot be served, `EngineBusyError` when too many samples wait.
   */
  submit(request: GenerationRequest): Generation {
    if (this.failure) throw this.failure;
    const { ids, params, samples = 1, streams, top = 0 } = request;
    const { config } = this.model;
    if (ids.length === 0) throw new UserError("the prompt is empty: a model needs at least one token to go on from");
    const foreign = ids.find((id) => id >= config.vocabSize);
    if (foreign !== undefined) {
      throw new UserError(`the prompt holds token ${foreign}, but the vocabulary has ${config.vocabSize} entries`);
    }
    if (ids.length + params.maxNewTokens > this.capacity) {
      throw new UserError(
        `the prompt has ${ids.length} tokens; with ${params.maxNewTokens} new ones it exceeds the context of ` +
          `${this.capacity}: shorten the prompt or the response`,
      );
    }
    const room = (this.options.maxWaiting ?? Number.POSITIVE_INFINITY) + this.slots - this.load.active;
    if (samples + this.waiting.length > room) {
      throw new EngineBusyError(`${this.waiting.length} samples are waiting already`);
    }
    const generation = new Generation(request, () => this.wake());
    for (let sample = 0; sample < samples; sample++) {
      const options = slotOptions(params, config, streams ? streams[sample] : sample);
      this.waiting.push({ generation, sample, sequence: { prompt: ids, options, top }, sent: 0, enqueued: 0 });
    }
    this.wake();
    return generation;
  }

  /** Cancels what runs, and frees the memory. */
  async close(): Promise<void> {
    this.failure ??= new Error("the engine is closed");
    this.failAll(this.failure);
    await this.running;
    this.decoder.free();
  }

  private wake(): void {
    if (this.running || this.failure) return;
    // On a later turn of the event loop, so that requests submitted together are admitted together.
    this.running = Promise.resolve()
      .then(() => this.loop())
      .catch((error: Error) => {
        this.failure = error;
        this.failAll(error);
      })
      .finally(() => {
        this.running = null;
        if (this.waiting.length > 0) this.wake();
      });
  }

  private failAll(error: Error): void {
    for (const { generation } of [...this.waiting, ...this.occupants.flatMap((s) => s ?? [])]) generation.fail(error);
    this.waiting.length = 0;
    this.occupants.fill(null);
  }

  private async loop(): Promise<void> {
    let pending: Turn | null = null;
    for (;;) {
      const next = this.enqueue();
      if (!next && !pending) return;
      if (pending) {
        const result = await pending.result;
        this.clock(pending);
        this.deliver(pending, result);
      }
      pending = next;
    }
  }

  /** How long a step takes, smoothed. A turn starts when it is enqueued and the one before it is done. */
  private clock({ at, steps }: Turn): void {
    const now = performance.now();
    const ms = (now - Math.max(at, this.delivered)) / Math.max(1, steps);
    this.stepMs = this.stepMs === 0 ? ms : 0.7 * this.stepMs + 0.3 * ms;
    this.delivered = now;
  }

  /** Enqueues a turn of everything that is known to have work to do; null if nothing has. */
  private enqueue(): Turn | null {
    if (this.failure) return null;
    this.occupants.forEach((sample, slot) => {
      if (!sample?.generation.gone(sample.sample)) return;
      this.leaving.add(slot);
      this.occupants[slot] = null;
    });
    const joining = this.admit();
    for (const { slot, sample } of joining) {
      this.leaving.delete(slot); // whoever joins overwrites what is left
      sample.enqueued = 1; // the prefill gives the first token
    }
    const busy = this.occupants.flatMap((s) => s ?? []);
    const left = Math.max(0, ...busy.map((s) => s.sequence.options.maxNewTokens - s.enqueued));
    if (joining.length === 0 && left === 0) return null;
    const steps = Math.min(left, this.stepsPerRead());
    for (const sample of busy) sample.enqueued += steps;
    const rows = this.rows();
    const joins = joining.map(({ slot, sample }) => ({ slot, sequence: sample.sequence }));
    const result = this.decoder.turn([...this.leaving], joins, steps, rows);
    result.catch(() => {}); // reported where it is awaited
    this.leaving.clear();
    const occupants = this.occupants.slice(0, rows);
    return { joined: joining.map((j) => j.sample), occupants, steps, at: performance.now(), result };
  }

  /** Takes from the queue what fits into free slots. */
  private admit(): { slot: number; sample: EngineSample }[] {
    const joining: { slot: number; sample: EngineSample }[] = [];
    const most = Math.min(PREFILL_TOKENS, this.model.tokensPerPass);
    let tokens = 0;
    let last: Uint32Array | null = null;
    while (this.waiting.length > 0) {
      const [sample] = this.waiting;
      if (sample.generation.gone(sample.sample)) {
        this.waiting.shift();
        continue;
      }
      const slot = this.occupants.indexOf(null);
      const { prompt } = sample.sequence;
      const more = prompt === last ? 0 : prompt.length;
      if (slot < 0 || (joining.length > 0 && tokens + more > most)) break;
      this.waiting.shift();
      this.occupants[slot] = sample;
      joining.push({ slot, sample });
      tokens += more;
      last = prompt;
    }
    return joining;
  }

  private stepsPerRead(): number {
    const { stepsPerRead } = this.options;
    if (stepsPerRead !== undefined) return stepsPerRead;
    return this.stepMs === 0 ? 2 : Math.max(1, Math.min(MAX_STEPS, Math.round(TURN_MS / this.stepMs)));
  }

  /** Rows of a decode step: the slots up to the last one taken, rounded up so that few kernels are compiled. */
  private rows(): number {
    if (this.options.fixedRows) return this.slots;
    const taken = this.occupants.findLastIndex((s) => s !== null) + 1;
    return Math.min(this.slots, 2 ** Math.ceil(Math.log2(taken)));
  }

  private deliver(turn: Turn, result: Steps): void {
    turn.joined.forEach((sample, row) => {
      this.give(sample, [{ step: -1, row, from: result.first }], result);
    });
    turn.occupants.forEach((sample, row) => {
      if (sample) {
        const places = result.steps.map((from, step) => ({ step, row, from }));
        this.give(sample, places, result);
      }
    });
  }

  /** Hands a sample the tokens it got in some steps, and frees its slot when it has ended. */
  private give(sample: EngineSample, places: { step: number; row: number; from: SlotStep }[], result: Steps): void {
    const ids: number[] = [];
    const logProbs: number[] = [];
    const top: TopTokens[] = [];
    const { sequence, generation } = sample;
    let finish: Piece["finish"] = null;
    for (const { step, row, from } of places) {
      if (sample.sent + ids.length >= sequence.options.maxNewTokens || finish) break;
      const id = from.tokens[row];
      ids.push(id);
      logProbs.push(from.rawLogProbs[row]);
      if (sequence.top > 0) top.push(cut(result.top(step, row), sequence.top));
      if (from.done[row]) finish = sequence.options.endIds.includes(id) ? "stop" : "length";
    }
    if (ids.length === 0) return;
    sample.sent += ids.length;
    if (finish) {
      const slot = this.occupants.indexOf(sample);
      if (slot >= 0) this.occupants[slot] = null;
      // Turns already enqueued still hold the sample; it takes nothing more.
      sample.sent = sequence.options.maxNewTokens;
    }
    generation.push({ sample: sample.sample, ids, logProbs, top: sequence.top > 0 ? top : null, finish });
  }
}

const cut = ({ ids, logProbs }: TopTokens, n: number): TopTokens => ({
  ids: ids.subarray(0, n),
  logProbs: logProbs.subarray(0, n),
});
