/** Learners that train the same parameters apart, and what they tell each other between rounds. */

/** The outcome of a round of learners. */
export type RoundResult =
  /** The parts that count, its own among them where it came in time: the same ones in the same order for every learner. */
  | { parts: readonly Uint8Array[] }
  /** The others are further: the state that they stand at, and the number of rounds that led there. */
  | { rounds: number; state: Uint8Array };

/** A connection to the other learners of a run, however they are reached. */
export interface LearnerExchange {
  /** Which learner this one is, from 1: it sees the data in an order of its own. */
  readonly number: number;
  /** The state that the others stand at, and the number of rounds that led there; null where nobody has ended a round. */
  enter(): Promise<{ rounds: number; state: Uint8Array } | null>;
  /**
   * Hands in this learner's part of a round, counted from 0, and waits for those of the others. Parts that come after the round was
   * closed do not count.
   */
  round(round: number, part: Uint8Array, signal?: AbortSignal): Promise<RoundResult>;
  /** Is told how to get the state after each round, which every learner has alike, for those who come later; until the next round. */
  offer(rounds: number, state: () => Uint8Array): Promise<void>;
}

/** Learners of one process: each round waits for all that have entered and not left. */
export class LearnerGroup {
  readonly #present = new Set<number>();
  readonly #rounds = new Map<
    number,
    { parts: Map<number, Uint8Array>; closed: (result: RoundResult) => void; result: Promise<RoundResult> }
  >();
  #offered: { rounds: number; state: Uint8Array } | null = null;

  /** A learner that takes part from now on. */
  learner(number: number): LearnerExchange & { leave(): void } {
    this.#present.add(number);
    return {
      number,
      enter: async () => this.#offered,
      round: async (round, part) => {
        if (this.#offered && round < this.#offered.rounds) return this.#offered;
        const own = this.#round(round);
        own.parts.set(number, part);
        this.#close();
        return own.result;
      },
      offer: async (rounds, state) => {
        if (rounds > (this.#offered?.rounds ?? 0)) this.#offered = { rounds, state: state() };
      },
      leave: () => {
        this.#present.delete(number);
        this.#close();
      },
    };
  }

  #round(round: number) {
    let own = this.#rounds.get(round);
    if (!own) {
      let closed: (result: RoundResult) => void = () => {};
      const result = new Promise<RoundResult>((resolve) => {
        closed = resolve;
      });
      own = { parts: new Map(), closed, result };
      this.#rounds.set(round, own);
    }
    return own;
  }

  #close(): void {
    for (const [round, { parts, closed }] of this.#rounds) {
      if (parts.size === 0 || [...this.#present].some((number) => !parts.has(number))) continue;
      const inOrder = [...parts].sort(([a], [b]) => a - b).map(([, part]) => part);
      closed({ parts: inOrder });
      this.#rounds.delete(round);
    }
  }
}
