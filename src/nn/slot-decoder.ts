/** A model that decodes a fixed number of sequences at once; a sequence that has ended makes room for the next one. */
import { flush } from "../gpu/stream.ts";
import { noGrad, scope, tensor } from "../tensor/core.ts";
import { gatherRows } from "../tensor/ops/embedding.ts";
import { kvCacheFork } from "../tensor/ops/kvcache.ts";
import { type SlotEntry, type SlotNeeds, type SlotStep, Slots } from "../tensor/ops/sample.ts";
import type { TopTokens } from "../tensor/ops/top-tokens.ts";
import { packing } from "../tensor/packing.ts";
import { KvCache } from "./cache.ts";
import type { CausalLM } from "./models.ts";
import { type SlotOptions, slotNeeds, slotState } from "./sampling.ts";

/** A sequence to decode. */
export interface SlotSequence {
  readonly prompt: Uint32Array;
  readonly options: SlotOptions;
  /** How many of the most probable tokens to report at each step. */
  readonly top: number;
}

/** What a number of enqueued steps gave. */
export interface Steps {
  /** The first tokens of the sequences that were admitted, in their order. */
  first: SlotStep;
  /** One entry per decode step, its rows being slots. */
  steps: SlotStep[];
  /** The most probable tokens; step -1 is `first`. */
  top(step: number, row: number): TopTokens;
}

export class SlotDecoder {
  readonly count: number;
  /** Tokens a sequence may have, prompt and response together. */
  readonly capacity: number;
  readonly maxSteps: number;
  private readonly model: CausalLM;
  private readonly cache: KvCache;
  private readonly slots: Slots;
  /** Who is in each slot, and how many tokens of it were enqueued. */
  private readonly occupants: ({ options: SlotOptions; top: number; drawn: number } | null)[];

  /**
   * @param count sequences decoded at once
   * @param capacity tokens per sequence; the cache takes count x capacity x the model's key and value width
   * @param maxSteps decode steps between reads, at most
   */
  constructor(model: CausalLM, count: number, capacity: number, maxSteps: number) {
    this.model = model;
    this.count = count;
    this.capacity = capacity;
    this.maxSteps = maxSteps;
    this.cache = new KvCache(model.config, count, capacity);
    this.slots = new Slots(count, model.config.vocabSize, maxSteps + 1);
    this.occupants = new Array(count).fill(null);
  }

  /**
   * Enqueues one turn: sequences leave, others take their places (equal prompts that follow each other are run once), and
   * all go `steps` tokens on. The next turn may be enqueued before this one's result is there, the one after it may not.
   * @param rows decode only slots 0 .. rows - 1
   */
  turn(
    leaving: readonly number[],
    joining: readonly { slot: number; sequence: SlotSequence }[],
    steps: number,
    rows: number,
  ): Promise<Steps> {
    for (const slot of leaving) this.occupants[slot] = null;
    // The prefill gives the first token.
    for (const { slot, sequence } of joining) this.occupants[slot] = { ...sequence, drawn: 1 };
    const active = this.occupants.slice(0, rows);
    const top = Math.max(0, ...active.map((s) => s?.top ?? 0));
    const needs = [true, false].map((early) =>
      scope(() =>
        slotNeeds(
          active.map((s) => s?.options ?? null),
          early,
        ),
      ),
    );
    this.slots.begin(needs[0].penalty, top);
    scope(() =>
      noGrad(() => {
        const entries: SlotEntry[] = leaving.map((slot) => ({ slot, state: null, promptLength: 0 }));
        for (const { slot, sequence } of joining) {
          const { prompt, options } = sequence;
          entries.push({ slot, state: slotState(options), prompt, promptLength: prompt.length });
        }
        this.slots.admit(entries);
        if (joining.length > 0) this.prefill(joining, top);
      }),
    );
    if (steps > 0) {
      // As long as a row must not end yet, single logits are changed in every step.
      const waiting = Math.max(0, ...active.map((s) => (s ? s.options.minNewTokens - s.drawn : 0)));
      for (let step = 1; step <= steps; step++) {
        scope(() => noGrad(() => this.decode(step, rows, needs[step <= waiting ? 0 : 1], top)));
      }
      for (const occupant of active) if (occupant) occupant.drawn += steps;
    }
    for (const { biases } of needs) biases?.free("the end of the turn");
    flush();
    return this.read(joining.length, steps, rows, top);
  }

  private async read(joined: number, steps: number, rows: number, top: number): Promise<Steps> {
    const reads = [this.slots.read(steps + 1, Math.max(rows, joined)), this.slots.readTop(top)] as const;
    const [all, topOf] = await Promise.all(reads);
    return { first: all[0], steps: all.slice(1), top: (step, row) => topOf(step + 1, row) };
  }

  private prefill(joining: readonly { slot: number; sequence: SlotSequence }[], top: number): void {
    const runs: { prompt: Uint32Array; slots: number[] }[] = [];
    for (const { slot, sequence } of joining) {
      const last = runs.at(-1);
      if (last?.prompt === sequence.prompt) last.slots.push(slot);
      else runs.push({ prompt: sequence.prompt, slots: [slot] });
    }
    const lengths = runs.map(({ prompt }) => prompt.length);
    const total = lengths.reduce((a, b) => a + b, 0);
    const ids = new Uint32Array(total);
    const slotOfRow = new Uint32Array(total);
    const lastRows: number[] = [];
    let at = 0;
    for (const { prompt, slots } of runs) {
      ids.set(prompt, at);
      slotOfRow.fill(slots[0], at, at + prompt.length);
      at += prompt.length;
      for (const _ of slots) lastRows.push(at - 1);
    }
    const { model, cache } = this;
    const hidden = model.decoder.forward(
      { gpu: tensor(ids) },
      { packing: packing(lengths), cache, slots: tensor(slotOfRow) },
    );
    const copies = runs.flatMap(({ prompt, slots }) => slots.slice(1).map((to) => [slots[0], to, prompt.length]));
    if (copies.length > 0) {
      const [from, to, sizes] = [0, 1, 2].map((k) => tensor(Uint32Array.from(copies, (c) => c[k])));
      for (const { keys, values } of cache.all) kvCacheFork(keys, values, from, to, sizes);
    }
    const logits = model.logits(gatherRows(hidden, tensor(Uint32Array.from(lastRows))));
    const slots = tensor(Uint32Array.from(joining, (j) => j.slot));
    this.slots.sample(
      logits,
      slots,
      0,
      slotNeeds(
        joining.map((j) => j.sequence.options),
        true,
      ),
      top,
    );
  }

  private decode(step: number, rows: number, needs: SlotNeeds, top: number): void {
    const { next, positions, lengths, slots } = this.slots.inputs(rows);
    const hidden = this.model.decoder.forward({ gpu: next }, { cache: this.cache, slots, positions, lengths });
    this.slots.sample(this.model.logits(hidden), slots, step, needs, top);
  }

  free(): void {
    this.cache.free();
    this.slots.free();
    flush();
  }
}
