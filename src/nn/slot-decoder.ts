/** A model that decodes a fixed number of sequences at once; a sequence that has ended makes room for the next one. */
import { flush } from "../gpu/stream.ts";
import { noGrad, scope, tensor } from "../tensor/core.ts";
import { gatherRows } from "../tensor/ops/embedding.ts";
import { kvCacheFork } from "../tensor/ops/kvcache.ts";
import { type SlotEntry, type SlotNeeds, type SlotStep, Slots } from "../tensor/ops/sample.ts";
import type { TopTokens } from "../tensor/ops/top-tokens.ts";
import { packing } from "../tensor/packing.ts";
import { KvCache } from "./cache.ts";
import type { Sequences } from "./decoder.ts";
import type { CausalLM } from "./models.ts";
import { type PendingScores, type PromptLogProbs, readScores, scoreRows } from "./prompt-logprobs.ts";
import { type SlotOptions, slotNeeds, slotState } from "./sampling.ts";

/** A sequence to decode. */
export interface SlotSequence {
  readonly prompt: Uint32Array;
  readonly options: SlotOptions;
  /** How many of the most probable tokens to report at each step. */
  readonly top: number;
  /** Tokens of the response that were drawn before; `prompt` ends with them. Default 0. */
  readonly drawn?: number;
}

/** A stretch of a prompt to run: its keys and values go to a slot of the cache, which holds those of the tokens before it. */
export interface PromptPart {
  readonly prompt: Uint32Array;
  readonly from: number;
  readonly to: number;
  readonly slot: number;
  /** A slot that holds the tokens before `from`, where they are not in `slot` yet. */
  readonly source?: number;
  /** Sequences that begin here, when the prompt has run to its end; they share it. */
  readonly joining: readonly { slot: number; sequence: SlotSequence }[];
  /** How probable the stretch's tokens are is asked for, with so many of the most probable ones. */
  readonly score?: number;
}

/** What a number of enqueued steps gave. */
export interface Steps {
  /** The first tokens of the sequences that joined, in the order of the parts. */
  first: SlotToken[];
  /** One entry per decode step, its rows being slots. */
  steps: SlotStep[];
  /** The most probable tokens of a decode step. */
  top(step: number, row: number): TopTokens;
  /** Of the parts that asked for it, in their order: how probable the tokens from + 1 .. to are. */
  scores: PromptLogProbs[];
}

/** One token of one sequence. */
export interface SlotToken {
  step: SlotStep;
  row: number;
  top(): TopTokens;
}

/** Places of results: sequences whose prompts run from their first token on, or from a later one; decode steps. */
const [WHOLE, PARTS, DECODE] = [0, 1, 2];

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
   * @param capacity tokens per sequence; the cache takes count x capacity x the model's key and value width, as the model
   * says how it is kept now
   * @param maxSteps decode steps between reads, at most
   */
  constructor(model: CausalLM, count: number, capacity: number, maxSteps: number) {
    this.model = model;
    this.count = count;
    this.capacity = capacity;
    this.maxSteps = maxSteps;
    this.cache = new KvCache(model, count, capacity);
    this.slots = new Slots(count, model.config.vocabSize, maxSteps + DECODE);
    this.occupants = new Array(count).fill(null);
  }

  /**
   * Enqueues one turn: sequences leave, prompts run, those whose prompts have run join, and all go `steps` tokens on. The
   * next turn may be enqueued before this one's result is there, the one after it may not.
   * @param leaving slots that become free, or begin to be filled
   * @param rows decode only slots 0 .. rows - 1
   */
  turn(leaving: readonly number[], parts: readonly PromptPart[], steps: number, rows: number): Promise<Steps> {
    for (const slot of leaving) this.occupants[slot] = null;
    const kinds = [parts.filter(({ from }) => from === 0), parts.filter(({ from }) => from > 0)];
    const joining = parts.flatMap((part) => part.joining);
    // The prompt's last row gives the first token.
    for (const { slot, sequence } of joining) {
      this.occupants[slot] = { ...sequence, drawn: (sequence.drawn ?? 0) + 1 };
    }
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
    const scores = scope(() =>
      noGrad(() => {
        this.slots.admit(entriesOf(leaving, joining));
        this.fork(parts);
        return [WHOLE, PARTS].map((kind) => this.prefill(kinds[kind], kind, top));
      }),
    );
    if (steps > 0) {
      // As long as a row must not end yet, single logits are changed in every step.
      const waiting = Math.max(0, ...active.map((s) => (s ? s.options.minNewTokens - s.drawn : 0)));
      for (let step = 1; step <= steps; step++) {
        const place = DECODE + step - 1;
        scope(() => noGrad(() => this.decode(place, rows, needs[step <= waiting ? 0 : 1], top)));
      }
      for (const occupant of active) if (occupant) occupant.drawn += steps;
    }
    for (const { biases } of needs) biases?.free("the end of the turn");
    flush();
    const rowsRead = Math.max(rows, ...kinds.map((kind) => kind.flatMap((part) => part.joining).length));
    return this.read(parts, steps, rowsRead, top, scores);
  }

  private async read(
    parts: readonly PromptPart[],
    steps: number,
    rows: number,
    top: number,
    pending: readonly (readonly PendingScores[])[],
  ): Promise<Steps> {
    const { vocabSize } = this.model.config;
    const [all, topOf, ...scores] = await Promise.all([
      this.slots.read(DECODE + steps, rows),
      this.slots.readTop(top),
      ...pending.map((some) => readScores(some, vocabSize)),
    ]);
    const rowOf = [0, 0]; // each kind has rows of its own
    const first = parts.flatMap(({ from, joining }) =>
      joining.map((): SlotToken => {
        const place = from === 0 ? WHOLE : PARTS;
        const row = rowOf[place]++;
        return { step: all[place], row, top: () => topOf(place, row) };
      }),
    );
    const scored = parts.filter(({ score }) => score !== undefined);
    return {
      first,
      steps: all.slice(DECODE),
      top: (step, row) => topOf(DECODE + step, row),
      scores: scored.map(({ from }) => scores[from === 0 ? WHOLE : PARTS].shift() as PromptLogProbs),
    };
  }

  /** Copies what is there of prompts to the slots that they go on in. */
  private fork(parts: readonly PromptPart[]): void {
    const copies = parts.flatMap(({ source, slot, from }) =>
      source === undefined || source === slot ? [] : [[source, slot, from]],
    );
    this.copy(copies);
  }

  private copy(copies: readonly number[][]): void {
    if (copies.length === 0) return;
    const [from, to, sizes] = [0, 1, 2].map((k) => tensor(Uint32Array.from(copies, (c) => c[k])));
    for (const { keys, values } of this.cache.all) kvCacheFork(keys, values, from, to, sizes);
  }

  /** Runs stretches of prompts: all from their first token on, or all from a later one. */
  private prefill(parts: readonly PromptPart[], place: number, top: number): PendingScores[] {
    if (parts.length === 0) return [];
    const lengths = parts.map(({ from, to }) => to - from);
    const total = lengths.reduce((a, b) => a + b, 0);
    const ids = new Uint32Array(total);
    const slotOfRow = new Uint32Array(total);
    const positions = new Uint32Array(total);
    const lastRows: number[] = [];
    const firstRows: number[] = [];
    let at = 0;
    for (const { prompt, from, to, slot, joining } of parts) {
      ids.set(prompt.subarray(from, to), at);
      slotOfRow.fill(slot, at, at + to - from);
      for (let p = from; p < to; p++) positions[at + p - from] = p;
      firstRows.push(at);
      at += to - from;
      for (const _ of joining) lastRows.push(at - 1);
    }
    const { model, cache } = this;
    const slots = tensor(slotOfRow);
    const sequences: Sequences =
      place === WHOLE
        ? { packing: packing(lengths), cache, slots }
        : {
            cache,
            slots,
            positions: tensor(positions),
            lengths: tensor(positions.map((p) => p + 1)),
            shared: true,
          };
    const hidden = model.decoder.forward({ gpu: tensor(ids) }, sequences);
    this.copy(
      parts.flatMap(({ joining, slot: from, prompt }) =>
        joining.flatMap(({ slot }) => (slot === from ? [] : [[from, slot, prompt.length]])),
      ),
    );
    const joining = parts.flatMap((part) => part.joining);
    if (joining.length > 0) {
      const needs = slotNeeds(
        joining.map((j) => j.sequence.options),
        true,
      );
      const logits = model.logits(gatherRows(hidden, tensor(Uint32Array.from(lastRows))));
      this.slots.sample(logits, tensor(Uint32Array.from(joining, (j) => j.slot)), place, needs, top);
    }
    return parts.flatMap(({ score, prompt, from, to }, i) =>
      score === undefined ? [] : [scoreRows(model, hidden, firstRows[i], prompt.subarray(from + 1, to + 1), score)],
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

/** Who leaves a slot and who takes one. */
function entriesOf(leaving: readonly number[], joining: PromptPart["joining"]): SlotEntry[] {
  const entries: SlotEntry[] = leaving.map((slot) => ({ slot, state: null, promptLength: 0 }));
  for (const { slot, sequence } of joining) {
    const { prompt, options, top, drawn = 0 } = sequence;
    const asked = prompt.length - drawn;
    entries.push({
      slot,
      state: slotState(options, drawn, top),
      prompt: prompt.subarray(0, asked),
      drawn: prompt.subarray(asked),
      promptLength: prompt.length,
    });
  }
  return entries;
}
