/** Where the wall time of a step goes, and how much of the GPU's memory it has. The GPU works beside the host: a part's time ends when what it computes has been read. */

import { memoryUse } from "../tensor/memory.ts";

/** Measures the parts of one step. What is measured within a part is none of that part's own. */
export class Clock {
  readonly #spent = new Map<string, number>();
  readonly #open: { readonly part: string }[] = [];
  #since = 0;

  /** Does a part's work. Of parts that overlap, time counts for the one that began last. */
  async during<R>(part: string, work: () => Promise<R>): Promise<R> {
    const own = { part };
    this.#count();
    this.#open.push(own);
    try {
      return await work();
    } finally {
      this.#count();
      this.#open.splice(this.#open.indexOf(own), 1);
    }
  }

  /** Seconds of each part so far. */
  get parts(): Record<string, number> {
    return Object.fromEntries(this.#spent);
  }

  #count(): void {
    const now = performance.now();
    const part = this.#open.at(-1)?.part;
    if (part !== undefined) this.#spent.set(part, (this.#spent.get(part) ?? 0) + (now - this.#since) / 1000);
    this.#since = now;
  }
}

/** Work that may be measured. */
export const clocked = <R>(clock: Clock | undefined, part: string, work: () => Promise<R>): Promise<R> =>
  clock ? clock.during(part, work) : work();

/** The part of a clock that is none of a step's: for so long somebody held it who watches. */
export const HELD = "held";

/**
 * A step's parts by the names of its log: what the clock says, and `time/learn`, which is the rest of the step.
 * @param seconds the step's own
 */
export function timesOf(
  { [HELD]: _, ...parts }: Readonly<Record<string, number>>,
  seconds: number,
): Record<string, number> {
  const rest = seconds - Object.values(parts).reduce((a, b) => a + b, 0);
  const all = Object.entries({ ...parts, learn: Math.max(0, rest) });
  return Object.fromEntries(all.map(([part, own]) => [`time/${part}`, own]));
}

/** The GPU's memory by the names of a step's log, in bytes; `memory/peak` is the most since the step before. */
export const memoryNumbers = (): Record<string, number> =>
  Object.fromEntries(Object.entries(memoryUse()).map(([name, bytes]) => [`memory/${name}`, bytes]));
