/** How a run walks over its prompts, and how far. */
import { permutation } from "../runtime/rng.ts";

/** Walks over prompts for ever: a fresh permutation every epoch, a pure function of the seed and the position. */
export class PromptOrder {
  private readonly count: number;
  private readonly seed: number;
  private readonly orders = new Map<number, Uint32Array>();

  constructor(count: number, seed: number) {
    this.count = count;
    this.seed = seed;
  }

  /** The indices at positions first, first + 1, ... of the walk. */
  take(first: number, n: number): number[] {
    return Array.from({ length: n }, (_, i) => {
      const position = first + i;
      const epoch = Math.floor(position / this.count);
      let order = this.orders.get(epoch);
      if (!order) {
        this.orders.clear();
        order = permutation(this.count, this.seed, epoch);
        this.orders.set(epoch, order);
      }
      return order[position % this.count];
    });
  }
}

/** Steps of a run over so many prompts: as many as are asked for, else what its passes over them take, else 50. */
export const stepsOf = (
  { maxSteps, numTrainEpochs }: { maxSteps: number | null; numTrainEpochs: number | null },
  prompts: number,
  perStep: number,
): number => maxSteps ?? (Math.ceil(((numTrainEpochs ?? 0) * prompts) / perStep) || 50);
