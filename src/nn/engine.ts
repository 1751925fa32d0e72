/**
 * Continuous batching: requests come at any time, a fixed number of slots decodes them together, and a sequence that ends
 * makes room for the next one in the queue. Tokens are read every few steps, while the steps after them already run.
 *
 * What is sampled depends on the request alone (its seed names its random numbers), up to the rounding of matrix products,
 * whose kernels are chosen by the number of rows.
 */
import { UserError } from "../runtime/errors.ts";
import type { TopTokens } from "../tensor/ops/top-tokens.ts";
import { longestRun, MAX_STEPS, Pace, PREFILL_TOKENS, type Work } from "./engine-pace.ts";
import { PromptRunner, partOf } from "./engine-prompts.ts";
import { EngineQueue } from "./engine-queue.ts";
import { nonFinite } from "./finite.ts";
import { type EngineSample, Generation, type GenerationRequest, type Piece, SCORES } from "./generation.ts";
import type { CausalLM } from "./models.ts";
import { slotOptions } from "./sampling.ts";
import { SlotDecoder, type SlotSequence, type SlotToken, type Steps } from "./slot-decoder.ts";

/** The size and the rhythm of an `Engine`. */
export interface EngineOptions {
  /** Sequences decoded at once. Default 8. */
  slots?: number;
  /** Tokens per sequence, prompt and response together; the key/value cache is this long. Default: the model's context. */
  capacity?: number;
  /**
   * Samples that may wait while all slots are taken; where some request took most of the room, others still get an equal
   * share. Default: no limit.
   */
  maxWaiting?: number;
  /** Decode steps between reads. Default: as many as take about 50 ms, at most 16. */
  stepsPerRead?: number;
  /** Prompt tokens run between reads, at most. Default: as many as take about 50 ms. */
  promptTokens?: number;
  /** Decode all slots even when few are taken: with `stepsPerRead` set, equal requests then give equal bits. */
  fixedRows?: boolean;
}

/** What stands for the options of a prompt that is scored only. */
const SCORING = { maxNewTokens: 1, seed: 0 };

/** An `Engine`'s queue is full; try again later. */
export class EngineBusyError extends Error {
  override readonly name = "EngineBusyError";
}

/** A turn that was enqueued and not read yet. */
interface Turn {
  joined: EngineSample[];
  scored: { sample: EngineSample; from: number; last: boolean }[];
  occupants: (EngineSample | null)[];
  work: Work;
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
  private readonly waiting = new EngineQueue();
  /** Who has a slot. */
  private readonly occupants: (EngineSample | null)[];
  private readonly prompts: PromptRunner;
  private running: Promise<void> | null = null;
  private failure: Error | null = null;
  /** Slots whose sequences were stopped, until the GPU is told. */
  private readonly leaving = new Set<number>();
  private readonly pace = new Pace();
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
    this.prompts = new PromptRunner(slots);
    this.decoder = new SlotDecoder(model, slots, capacity, options.stepsPerRead ?? MAX_STEPS);
  }

  /** Samples waiting for a slot, and samples in one. */
  get load(): { waiting: number; active: number } {
    return { waiting: this.waiting.size, active: this.occupants.filter((s) => s !== null).length };
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
    const { params, samples = 1, streams, top = 0, score } = request;
    const ids = request.ids.slice(); // its samples share a prefill by identity, and each request has its own
    const { config } = this.model;
    if (ids.length === 0) throw new UserError("the prompt is empty: a model needs at least one token to go on from");
    const foreign = ids.find((id) => id >= config.vocabSize);
    if (foreign !== undefined) {
      throw new UserError(`the prompt holds token ${foreign}, but the vocabulary has ${config.vocabSize} entries`);
    }
    const longest = samples > 0 ? params.maxNewTokens : 0;
    if (ids.length + longest > this.capacity) {
      throw new UserError(
        `the prompt has ${ids.length} tokens; with ${longest} new ones it exceeds the context of ` +
          `${this.capacity}: shorten the prompt or the response`,
      );
    }
    const room = (this.options.maxWaiting ?? Number.POSITIVE_INFINITY) + this.slots - this.load.active;
    if (samples > 0 && !this.waiting.mayAdd(samples, request.owner, room)) {
      throw new EngineBusyError(`${this.waiting.size} samples are waiting already`);
    }
    const sequences = Array.from({ length: samples }, (_, sample) => ({
      prompt: ids,
      options: slotOptions(params, config, streams ? streams[sample] : sample),
      top,
    }));
    const generation = new Generation({ ...request, ids }, () => this.wake());
    const add = (sample: number, sequence: SlotSequence) =>
      this.waiting.add({ generation, sample, sequence, drawn: [], full: false, enqueued: 0, joinedAt: 0 });
    if (score !== undefined) add(SCORES, { prompt: ids, options: slotOptions(SCORING, config, 0), top: score });
    for (const [sample, sequence] of sequences.entries()) add(sample, sequence);
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
        if (this.waiting.size > 0) this.wake();
      });
  }

  private failAll(error: Error): void {
    const all = [...this.waiting.clear(), ...this.occupants.flatMap((s) => s ?? [])];
    for (const { generation } of all) generation.fail(error);
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

  /** A turn starts when it is enqueued and the one before it is done. */
  private clock({ at, work }: Turn): void {
    const now = performance.now();
    this.pace.took(work, now - Math.max(at, this.delivered));
    this.delivered = now;
  }

  /** Enqueues a turn of everything that is known to have work to do; null if nothing has. */
  private enqueue(): Turn | null {
    if (this.failure) return null;
    this.occupants.forEach((sample, slot) => {
      if (sample?.generation.gone(sample.sample)) this.vacate(slot);
    });
    this.admit();
    const { parts, units } = this.prompts.next(this.promptUnits());
    const joined: EngineSample[] = [];
    const scored: Turn["scored"] = [];
    for (const { prompt, from, to, samples, score } of parts) {
      const last = to === prompt.length;
      if (score !== undefined) scored.push({ sample: samples[0].sample, from, last });
      if (!last) continue;
      for (const { slot, sample } of samples) {
        if (sample.sample === SCORES) {
          this.occupants[slot] = null;
          continue;
        }
        joined.push(sample);
        this.leaving.delete(slot);
        sample.enqueued += 1; // the prompt's last row gives a token
      }
    }
    const busy = this.occupants.map((sample) => (sample && sample.enqueued > sample.joinedAt ? sample : null));
    const left = Math.max(0, ...busy.map((s) => (s ? s.sequence.options.maxNewTokens - s.enqueued : 0)));
    const steps = Math.min(left, this.options.stepsPerRead ?? this.pace.steps());
    if (parts.length === 0 && steps === 0) return null;
    for (const sample of busy) if (sample) sample.enqueued += steps;
    const rows = this.rows(busy);
    const result = this.decoder.turn([...this.leaving], parts.map(partOf), steps, rows);
    result.catch(() => {}); // reported where it is awaited
    this.leaving.clear();
    const work = { steps, units };
    return { joined, scored, occupants: busy.slice(0, rows), work, at: performance.now(), result };
  }

  /** Frees a slot whose sample is not wanted there any more. */
  private vacate(slot: number): void {
    this.leaving.add(slot);
    this.occupants[slot] = null;
    this.prompts.drop(slot);
  }

  /** Hands slots to those whose turn it is. */
  private admit(): void {
    const back: EngineSample[] = [];
    for (;;) {
      const full = !this.occupants.includes(null);
      const sample = this.waiting.next((one) => !full || longestRun(this.occupants, one) !== null);
      if (!sample) break;
      this.waiting.take(sample);
      const slot = full ? this.makeRoom(sample, back) : this.prompts.place(sample, this.occupants);
      this.occupants[slot] = sample;
      sample.joinedAt = sample.enqueued = sample.drawn.length;
      if (sample.drawn.length > 0) {
        const prompt = Uint32Array.from([...sample.generation.ids, ...sample.drawn]);
        sample.sequence = { ...sample.sequence, prompt, drawn: sample.drawn.length };
      }
      this.prompts.begin(sample, slot);
      this.leaving.add(slot); // nothing may be written there while it is filled
    }
    for (const sample of back) this.waiting.add(sample);
  }

  /** Takes a slot from a sample that has long to go, for one that has not; it comes back later and goes on from there. */
  private makeRoom(sample: EngineSample, back: EngineSample[]): number {
    const slot = longestRun(this.occupants, sample) as number;
    back.push(this.occupants[slot] as EngineSample);
    this.vacate(slot);
    return slot;
  }

  private promptUnits(): number {
    const { promptTokens, stepsPerRead } = this.options;
    const most = Math.min(PREFILL_TOKENS, this.model.tokensPerPass);
    if (promptTokens !== undefined || stepsPerRead !== undefined) return Math.min(most, promptTokens ?? most);
    return Math.min(most, this.pace.units(this.occupants.some((one) => one && one.enqueued > one.joinedAt)));
  }

  /** Rows of a decode step: the slots up to the last one taken, rounded up so that few kernels are compiled. */
  private rows(busy: readonly (EngineSample | null)[]): number {
    if (this.options.fixedRows) return this.slots;
    const taken = busy.findLastIndex((s) => s !== null) + 1;
    return Math.min(this.slots, 2 ** Math.ceil(Math.log2(taken)));
  }

  private deliver(turn: Turn, result: Steps): void {
    turn.scored.forEach(({ sample, from, last }, i) => {
      const broken = nonFinite(this.model, result.scores[i].logProbs);
      if (broken) sample.generation.fail(broken);
      else sample.generation.score(result.scores[i], from, last);
    });
    turn.joined.forEach((sample, i) => {
      this.give(sample, [result.first[i]]);
    });
    turn.occupants.forEach((sample, row) => {
      if (!sample) return;
      this.give(
        sample,
        result.steps.map((step, i) => ({ step, row, top: () => result.top(i, row) })),
      );
    });
  }

  /** Hands a sample the tokens it got in some steps, and frees its slot when it has ended. */
  private give(sample: EngineSample, tokens: readonly SlotToken[]): void {
    const ids: number[] = [];
    const logProbs: number[] = [];
    const top: TopTokens[] = [];
    const { sequence, generation, drawn } = sample;
    let finish: Piece["finish"] = null;
    for (const { step, row, top: best } of tokens) {
      if (sample.full || drawn.length >= sequence.options.maxNewTokens || finish) break;
      const id = step.tokens[row];
      ids.push(id);
      drawn.push(id);
      logProbs.push(step.rawLogProbs[row]);
      if (sequence.top > 0) top.push(cut(best(), sequence.top));
      if (step.done[row]) finish = sequence.options.endIds.includes(id) ? "stop" : "length";
    }
    if (ids.length === 0) return;
    const broken = nonFinite(this.model, logProbs);
    if (broken) {
      generation.fail(broken);
      return;
    }
    if (finish) {
      const slot = this.occupants.indexOf(sample);
      if (slot >= 0) this.occupants[slot] = null;
      sample.full = true; // turns already enqueued still hold it
    }
    generation.push({ sample: sample.sample, ids, logProbs, top: sequence.top > 0 ? top : null, finish });
  }
}

const cut = ({ ids, logProbs }: TopTokens, n: number): TopTokens => ({
  ids: ids.subarray(0, n),
  logProbs: logProbs.subarray(0, n),
});
