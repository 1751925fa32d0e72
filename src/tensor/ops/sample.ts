/**
 * Sampling on the GPU for a batch whose rows come and go ("slots"), each with options of its own. All state lives in GPU
 * buffers that the kernels update, so that any number of decode steps run without a readback: the host admits sequences to
 * slots, runs steps, and reads the steps' results when it wants to.
 */
import { kernel } from "../../gpu/kernel.ts";
import { subview } from "../../gpu/pool.ts";
import { copy, run } from "../../gpu/stream.ts";
import { streamId } from "../../runtime/rng.ts";
import {
  SAMPLE_WIDTH,
  SLOT_ADMIT,
  SLOT_BIASES,
  SLOT_CLEAR,
  SLOT_ENDS,
  SLOT_FIELDS,
  SLOT_MARK,
  SLOT_PENALTIES,
  SLOT_SAMPLE,
  SLOT_WORDS,
} from "../../shaders/sample.wgsl.ts";
import { borrow, empty, type Tensor, tensor } from "../core.ts";
import { matrixShape, rowKernel, rowPlan, runRows } from "./rows.ts";
import { type TopTokens, topAt, topTokens } from "./top-tokens.ts";

/** The fourth word of the random counter: keeps sampling apart from other uses of the same seed. */
export const SAMPLE_DOMAIN = streamId("sample");

const WG = 64;
const admitKernel = kernel({
  name: "slot_admit",
  code: SLOT_ADMIT,
  bindings: { list: "read u32", state: "write u32", feed: "write u32" },
  scalars: { n: "u32", slots: "u32" },
});
const clearKernel = kernel({
  name: "slot_clear",
  code: SLOT_CLEAR,
  bindings: { list: "read u32", counts: "write u32" },
  scalars: { n: "u32", vocab: "u32" },
});
const markKernel = kernel({
  name: "slot_mark",
  code: SLOT_MARK,
  bindings: { list: "read u32", counts: "write u32" },
  scalars: { n: "u32", vocab: "u32" },
});
const adjusting = { raw: "read f32", slots: "read u32", state: "read u32", counts: "read u32", out: "write f32" };
const penaltyKernel = kernel({
  name: "slot_penalties",
  code: SLOT_PENALTIES,
  bindings: adjusting,
  scalars: { n: "u32", vocab: "u32" },
});
const biasKernel = kernel({
  name: "slot_biases",
  code: SLOT_BIASES,
  bindings: { entries: "read vec4u", ...adjusting },
  scalars: { n: "u32", vocab: "u32" },
});
const sampleKernels = ([1, 4] as const).map((width) =>
  rowKernel({
    name: "slot_sample",
    code: SLOT_SAMPLE + SAMPLE_WIDTH[width],
    bindings: {
      logits: "read F",
      raw: "read F",
      slots: "read u32",
      state: "write u32",
      feed: "write u32",
      out: "write u32",
      counts: "write u32",
    },
    scalars: { rows: "u32", n: "u32", step: "u32", stride: "u32", slots: "u32" },
  }),
);

/** In the place of a token: the row had ended before this step. */
export const NO_TOKEN = 0xffffffff;
/** The position of a slot that nobody has: outside of every cache. */
const NOWHERE = 0x7fffffff;
/** End tokens a sequence may have. */
export const MAX_ENDS = SLOT_ENDS;

/** How a sequence is sampled and how far it is, as the kernels know it. Nothing is checked here. */
export interface SlotState {
  values: Readonly<Record<keyof typeof SLOT_FIELDS, number>>;
  /** At most MAX_ENDS. */
  endIds: readonly number[];
}

/** A sequence that takes (or, with `state` null, leaves) a slot. */
export interface SlotEntry {
  slot: number;
  state: SlotState | null;
  promptLength: number;
  /** Needed for the repetition penalty only. */
  prompt?: ArrayLike<number>;
  /** Tokens of the response that were drawn before, where a sequence comes back; needed for penalties only. */
  drawn?: ArrayLike<number>;
}

/** In a token's count: the prompt has it. */
const IN_PROMPT = 0x80000000;

/** A slot's state in the layout of the kernels. */
function stateWords(state: SlotState | null): Uint32Array {
  const words = new Uint32Array(SLOT_WORDS);
  const floats = new Float32Array(words.buffer);
  const fields = Object.entries(SLOT_FIELDS) as [keyof typeof SLOT_FIELDS, "u32" | "f32"][];
  fields.forEach(([name, type], i) => {
    const value = state ? state.values[name] : Number(name === "done");
    (type === "f32" ? floats : words)[i] = value;
  });
  words.fill(NO_TOKEN, fields.length);
  words.set(state?.endIds ?? [], fields.length);
  return words;
}

/** Results of one step. */
export interface SlotStep {
  /** Per row; NO_TOKEN where the row had ended before. */
  tokens: Uint32Array;
  logProbs: Float32Array;
  rawLogProbs: Float32Array;
  done: boolean[];
}

/** What a batch needs beyond the plain softmax, over all of its rows; results do not depend on what other rows need. */
export interface SlotNeeds {
  sampled: boolean;
  topK: boolean;
  topP: boolean;
  penalty: boolean;
  /** Single logits to change, u32 [M, 4]: row, token, the bits of what is added, 1 for tokens that wait for `minNew`. */
  biases: Tensor | null;
}

/** The GPU's side of a number of slots. */
export class Slots {
  readonly count: number;
  readonly vocab: number;
  /** Steps between reads, at most. */
  readonly maxSteps: number;
  /** Distance of the three parts of `feed`, which are bound on their own. */
  private readonly stride: number;
  private readonly state: Tensor;
  private readonly feed: Tensor;
  /** Results go to two buffers in turn: one may still be on its way to the host while the other is written. */
  private readonly outs: readonly Tensor[];
  private readonly tops: (Tensor | null)[] = [null, null];
  private side = 0;
  private readonly retired: Tensor[] = [];
  private readonly identity: Tensor;
  private counts: Tensor | null = null;
  private readonly nothing: Tensor;

  constructor(count: number, vocab: number, maxSteps: number) {
    this.count = count;
    this.vocab = vocab;
    this.maxSteps = maxSteps;
    this.stride = Math.ceil(count / 64) * 64;
    const state = new Uint32Array(count * SLOT_WORDS);
    for (let s = 0; s < count; s++) state.set(stateWords(null), s * SLOT_WORDS);
    this.state = tensor(state);
    this.feed = tensor(new Uint32Array(3 * this.stride));
    this.outs = [0, 1].map(() => empty([maxSteps * count * 4], "u32", "sampled steps"));
    this.identity = tensor(Uint32Array.from({ length: count }, (_, i) => i));
    this.nothing = tensor(new Uint32Array(SLOT_WORDS));
  }

  /** What the first `rows` slots feed into a decode step: tokens, positions, cached lengths, slot numbers; u32 [rows]. */
  inputs(rows: number): { next: Tensor; positions: Tensor; lengths: Tensor; slots: Tensor } {
    const [next, positions, lengths] = [0, 1, 2].map((part) =>
      borrow(subview(this.feed.view, part * this.stride * 4, this.stride * 4), [rows], "u32", "slot inputs"),
    );
    return { next, positions, lengths, slots: borrow(this.identity.view, [rows], "u32", "slot numbers") };
  }

  /**
   * Begins a turn: later steps write where the turn before the last one wrote, which must have been read by then. Makes
   * room for the penalties' counts and for `top` most probable tokens per step. Call outside of any scope.
   */
  begin(penalty: boolean, top: number): void {
    this.side = 1 - this.side;
    if (penalty && !this.counts) this.counts = empty([this.count, this.vocab], "u32", "token counts of the penalties");
    const { tops, side } = this;
    const old = tops[side];
    if (top === 0 || (old && old.size >= this.topSize(top))) return;
    if (old) this.retired.push(old); // may still be read
    tops[side] = empty([this.topSize(top)], "u32", "top tokens");
  }

  private topSize(top: number): number {
    return this.maxSteps * this.count * top * 2;
  }

  /** Sequences take and leave slots, after all that was enqueued before; call within a scope, as `sample`. */
  admit(entries: readonly SlotEntry[]): void {
    if (entries.length === 0) return;
    const width = SLOT_WORDS + 3;
    const list = new Uint32Array(entries.length * width);
    entries.forEach(({ slot, state, promptLength }, i) => {
      list.set(stateWords(state), i * width);
      // The first sampling step moves the row on to its first token.
      // A slot that nobody has must not write into the cache, which may be filled for somebody: it stands outside.
      const position = state ? Math.max(0, promptLength - 1) : NOWHERE;
      list.set([slot, position, 0], i * width + SLOT_WORDS);
    });
    const n = entries.length;
    run(admitKernel, { WG }, [tensor(list).view, this.state.view, this.feed.view], [n, this.stride], Math.ceil(n / WG));
    this.countPrompts(entries.filter(({ state }) => state && state.values.penalised !== 0));
  }

  private countPrompts(entries: readonly SlotEntry[]): void {
    if (entries.length === 0) return;
    if (!this.counts) throw new Error("penalties were not announced to begin()");
    const view = this.counts.view;
    const cleared = entries.length * this.vocab;
    const slots = tensor(Uint32Array.from(entries, ({ slot }) => slot));
    run(clearKernel, { WG }, [slots.view, view], [cleared, this.vocab], Math.ceil(cleared / WG));
    const marks = entries.flatMap(({ slot, prompt = [], drawn = [], state }) => {
      const counts = new Map<number, number>();
      if (state?.values.repetition !== 1) for (const id of Array.from(prompt)) counts.set(id, IN_PROMPT);
      for (const id of Array.from(drawn)) counts.set(id, (counts.get(id) ?? 0) + 1);
      return [...counts].flatMap(([id, count]) => [slot, id, count]);
    });
    const n = marks.length / 3;
    const list = Uint32Array.from(marks);
    if (n > 0) run(markKernel, { WG }, [tensor(list).view, view], [n, this.vocab], Math.ceil(n / WG));
  }

  /**
   * Samples one token for each row of logits and moves its slot on; call within a scope.
   * @param logits f32 [B, vocab], V below 2^24
   * @param slots u32 [B], which slot each row belongs to
   * @param step where the results go: 0 .. maxSteps - 1, read by `read`
   * @param top how many of the most probable tokens to keep too, read by `readTop`
   */
  sample(logits: Tensor, slots: Tensor, step: number, needs: SlotNeeds, top = 0): void {
    const [rows, vocab] = matrixShape(logits.shape);
    if (vocab !== this.vocab || rows !== slots.size || rows > this.count || step >= this.maxSteps) {
      throw new Error(`sampling [${logits.shape}] at step ${step} in ${this.count} slots of vocabulary ${this.vocab}`);
    }
    if (top > 0) {
      const out = this.tops[this.side];
      if (!out || out.size < this.topSize(top)) throw new Error(`${top} top tokens were not announced to begin()`);
      topTokens(logits, slots, this.state, out, top, step, this.count);
    }
    const adjusted = this.adjust(logits, slots, needs);
    const plan = rowPlan(vocab);
    const consts = {
      SAMPLED: needs.sampled,
      TOP_K: needs.sampled && needs.topK,
      TOP_P: needs.sampled && needs.topP,
      PENALTY: needs.penalty,
      ADJUSTED: adjusted !== logits,
      DOMAIN: SAMPLE_DOMAIN,
    };
    const counts = this.counts ?? this.nothing;
    const buffers = [adjusted, logits, slots, this.state, this.feed, this.outs[this.side], counts].map((t) => t.view);
    const scalars = [rows, vocab / plan.width, step, this.count, this.stride];
    runRows(sampleKernels[plan.width === 4 ? 1 : 0], plan, consts, buffers, scalars, rows);
  }

  private adjust(logits: Tensor, slots: Tensor, { penalty, biases }: SlotNeeds): Tensor {
    if (!penalty && !biases) return logits;
    const out = empty(logits.shape, "f32", "adjusted logits");
    const consts = { PENALTY: penalty, WG };
    const buffers = [logits, slots, this.state, this.counts ?? this.nothing, out].map((t) => t.view);
    if (penalty) run(penaltyKernel, consts, buffers, [logits.size, this.vocab], Math.ceil(logits.size / WG));
    else copy(logits.view, out.view, logits.size * 4);
    if (biases) {
      const n = biases.size / 4;
      run(biasKernel, consts, [biases.view, ...buffers], [n, this.vocab], Math.ceil(n / WG));
    }
    return out;
  }

  /** Results of this turn's steps 0 .. steps - 1 for rows 0 .. rows - 1. The next turn may begin before they are here. */
  async read(steps: number, rows: number): Promise<SlotStep[]> {
    const words = await this.outs[this.side].readIds();
    const floats = new Float32Array(words.buffer);
    return Array.from({ length: steps }, (_, s) => {
      const at = (r: number) => (s * this.count + r) * 4;
      const all = Array.from({ length: rows }, (_, r) => at(r));
      return {
        tokens: Uint32Array.from(all, (i) => words[i]),
        logProbs: Float32Array.from(all, (i) => floats[i + 1]),
        rawLogProbs: Float32Array.from(all, (i) => floats[i + 2]),
        done: all.map((i) => words[i + 3] === 1),
      };
    });
  }

  /** The most probable tokens of the same steps; a function of step and row. */
  async readTop(top: number): Promise<(step: number, row: number) => TopTokens> {
    const tops = this.tops[this.side];
    const words = top > 0 && tops ? await tops.readIds() : new Uint32Array();
    return (step, row) => topAt(words, (step * this.count + row) * top, top, this.vocab);
  }

  free(): void {
    const { state, feed, outs, identity, nothing, counts, tops, retired } = this;
    for (const t of [state, feed, ...outs, identity, nothing, counts, ...tops, ...retired]) {
      t?.free("the end of generation");
    }
  }
}
