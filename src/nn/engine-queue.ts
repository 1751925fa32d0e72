/** Who waits for a slot, and whose turn it is. */
import type { EngineSample } from "./generation.ts";

/** A request's samples that wait. */
interface Entry {
  samples: EngineSample[];
  /** When one of them was taken last, or the first one came. */
  taken: number;
}

/**
 * Samples that wait for a slot. The next one is of the client, and then of the request, that has the fewest in slots; among
 * equals, of the one that was served longest ago: whoever asks for much waits, and nobody else does.
 */
export class EngineQueue {
  /** By the request they belong to, in the order of arrival. */
  private readonly entries = new Map<object, Entry>();
  private turn = 0;
  private count = 0;

  /** Samples of requests that have not ended. */
  get size(): number {
    return this.count;
  }

  add(sample: EngineSample): void {
    const { owner } = sample.generation;
    const entry = this.entries.get(owner) ?? { samples: [], taken: this.turn };
    this.entries.set(owner, entry);
    entry.samples.push(sample);
    this.count += 1;
  }

  /** The sample whose turn it is, or null. Drops those that nobody wants any more. */
  next(busy: readonly EngineSample[]): EngineSample | null {
    this.sweep();
    const owners = countBy(busy, ({ generation }) => generation.owner);
    const clients = countBy(busy, ({ generation }) => generation.client);
    let best: Entry | null = null;
    let least = [0, 0, 0];
    for (const entry of this.entries.values()) {
      const { owner, client } = entry.samples[0].generation;
      const rank = [clients.get(client) ?? 0, owners.get(owner) ?? 0, entry.taken];
      if (best && !isLess(rank, least)) continue;
      best = entry;
      least = rank;
    }
    return best?.samples[0] ?? null;
  }

  /** Takes the sample that `next` gave. */
  take(sample: EngineSample): void {
    const { owner } = sample.generation;
    const entry = this.entries.get(owner);
    if (entry?.samples[0] !== sample) throw new Error("not the next sample");
    entry.samples.shift();
    entry.taken = ++this.turn;
    this.count -= 1;
    if (entry.samples.length === 0) this.entries.delete(owner);
  }

  /** Empties the queue. */
  clear(): EngineSample[] {
    const all = [...this.entries.values()].flatMap(({ samples }) => samples);
    this.entries.clear();
    this.count = 0;
    return all;
  }

  private sweep(): void {
    for (const [owner, entry] of this.entries) {
      if (!entry.samples.some(isGone)) continue;
      this.count -= entry.samples.length;
      entry.samples = entry.samples.filter((sample) => !isGone(sample));
      this.count += entry.samples.length;
      if (entry.samples.length === 0) this.entries.delete(owner);
    }
  }
}

const isGone = ({ generation, sample }: EngineSample): boolean => generation.gone(sample);

function countBy<K>(samples: readonly EngineSample[], key: (sample: EngineSample) => K): Map<K, number> {
  const counts = new Map<K, number>();
  for (const sample of samples) counts.set(key(sample), (counts.get(key(sample)) ?? 0) + 1);
  return counts;
}

const isLess = (a: readonly number[], b: readonly number[]): boolean => {
  const i = a.findIndex((x, k) => x !== b[k]);
  return i >= 0 && a[i] < b[i];
};
