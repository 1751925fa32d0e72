/** Prompts on their way into slots: run in stretches, so that nobody waits for a long one, and once for all who share one. */
import { type EngineSample, SCORES } from "./generation.ts";
import type { PromptPart } from "./slot-decoder.ts";

interface Place {
  slot: number;
  sample: EngineSample;
}

/** A prompt that is being run. */
interface Running {
  prompt: Uint32Array;
  /** Tokens that have run. */
  at: number;
  /** A slot that holds them, where that is another one. */
  source: number | undefined;
  /** Who goes on from it, and the slot among theirs that is filled. */
  samples: Place[];
  slot: number;
  score: number | undefined;
}

/** A stretch of a prompt, and whose it is. */
export interface SharedPart extends Omit<PromptPart, "joining"> {
  samples: readonly Place[];
}

/** Scores run every row through the model's head, and look for the most probable tokens in each. */
const weight = ({ score }: Running): number => (score === undefined ? 1 : 2 + score / 4);

function restart(one: Running, slot: number): void {
  one.slot = slot;
  one.at = 0;
  one.source = undefined;
}

const left = ({ prompt, at }: Running): number => prompt.length - at;

/** The prompts of an engine's sequences. */
export class PromptRunner {
  private running: Running[] = [];
  /** The prompt whose keys and values a slot holds, whoever uses it now. */
  private readonly held: (Uint32Array | null)[];

  constructor(slots: number) {
    this.held = new Array(slots).fill(null);
  }

  /** The free slot that suits a sample best: the one that holds its prompt. */
  place({ sequence }: EngineSample, occupants: readonly (EngineSample | null)[]): number {
    const own = this.held.findIndex((prompt, slot) => prompt === sequence.prompt && !occupants[slot]);
    return own >= 0 ? own : occupants.indexOf(null);
  }

  /** A sample has a slot: its prompt is to run. */
  begin(sample: EngineSample, slot: number): void {
    const { prompt, top } = sample.sequence;
    const score = sample.sample === SCORES ? top : undefined;
    const shared = this.running.find((one) => one.prompt === prompt && one.score === undefined);
    if (shared && score === undefined) {
      shared.samples.push({ slot, sample });
      this.held[slot] = null;
      return;
    }
    // What another sample's slot holds of the same prompt need not run again, its last token apart.
    const source = score === undefined ? this.held.indexOf(prompt) : -1;
    const at = source < 0 ? 0 : prompt.length - 1;
    const known = at > 0 && source !== slot;
    this.running.push({ prompt, at, source: known ? source : undefined, samples: [{ slot, sample }], slot, score });
    this.held[slot] = null;
  }

  /** Whoever had a slot left it. */
  drop(slot: number): void {
    for (const one of this.running) {
      one.samples = one.samples.filter((place) => place.slot !== slot);
      if (one.slot === slot && one.samples.length > 0) restart(one, one.samples[0].slot);
    }
    this.running = this.running.filter(({ samples }) => samples.length > 0);
  }

  /**
   * The stretches that run next. Half of the units go to the prompt that came first, and what is left to the shortest ones.
   * @param units tokens, where those that are scored count for more
   */
  next(units: number): { parts: SharedPart[]; units: number } {
    for (const one of this.running) {
      // Somebody may have taken that slot since.
      if (one.source !== undefined && this.held[one.source] !== one.prompt) restart(one, one.slot);
    }
    const [oldest, ...others] = this.running;
    if (!oldest) return { parts: [], units: 0 };
    const shortest = others.sort((a, b) => left(a) - left(b));
    const taken = new Map<Running, number>();
    let rest = units;
    const take = (one: Running, most: number) => {
      const before = taken.get(one) ?? 0;
      const count = Math.min(left(one) - before, Math.floor(most / weight(one)));
      if (count <= 0) return;
      taken.set(one, before + count);
      rest -= count * weight(one);
    };
    take(oldest, units / 2);
    for (const one of shortest) take(one, rest);
    take(oldest, rest);
    if (taken.size === 0) taken.set(oldest, 1);
    const parts = [...taken].map(([one, count]) => this.advance(one, count));
    this.running = this.running.filter((one) => left(one) > 0);
    return { parts, units: units - rest };
  }

  private advance(one: Running, count: number): SharedPart {
    const { prompt, at: from, slot, source, samples, score } = one;
    one.at += count;
    one.source = undefined;
    if (left(one) === 0) for (const place of samples) this.held[place.slot] = prompt;
    return { prompt, from, to: one.at, slot, source, samples, score };
  }
}

/** What the decoder is told of a stretch. */
export const partOf = ({ samples, ...part }: SharedPart): PromptPart => ({
  ...part,
  joining:
    part.to < part.prompt.length
      ? []
      : samples.flatMap(({ slot, sample }) => (sample.sample === SCORES ? [] : [{ slot, sequence: sample.sequence }])),
});
