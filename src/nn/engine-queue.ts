/** Who waits for a slot, and whose turn it is. */
import type { EngineSample } from "./generation.ts";

/** A request's samples that wait. */
interface Entry {
  samples: EngineSample[];
  /** When one of them was taken last, or the first one came. */
  taken: number;
}

/**
 * Samples that wait for a slot. The next one is of the client, and then of its request, that has the fewest in slots; among
 * equals, of the one that was served longest ago: whoever asks for much waits, and nobody else does.
 */
export class EngineQueue {
  /** By the request they belong to, in the order of arrival. */
  private readonly entries = new Map<object, Entry>();
  /** The same of clients that wait: when they were served last, or came. */
  private readonly clients = new Map<string, number>();
  private turn = 0;
  private count = 0;

  /** Samples that wait, of requests that have not ended. */
  get size(): number {
    return this.count;
  }

  /** Whether there is room for more of an owner's samples: of all there is, or of its equal share of it. */
  mayAdd(samples: number, owner: object | undefined, room: number): boolean {
    this.sweep();
    const own = owner && this.entries.get(owner);
    const others = this.entries.size - (own ? 1 : 0);
    return samples + this.count <= room || samples + (own?.samples.length ?? 0) <= room / (others + 1);
  }

  add(sample: EngineSample): void {
    const { owner, client } = sample.generation;
    const entry = this.entries.get(owner) ?? { samples: [], taken: this.turn };
    this.entries.set(owner, entry);
    if (!this.clients.has(client)) this.clients.set(client, this.turn);
    entry.samples.push(sample);
    this.count += 1;
  }

  /**
   * The sample whose turn it is, or null. Drops those that nobody wants any more.
   * @param may who is asked for at all; default: everybody
   */
  next(busy: readonly EngineSample[], may: (sample: EngineSample) => boolean = () => true): EngineSample | null {
    this.sweep();
    const ofOwner = countBy(busy, ({ generation }) => generation.owner);
    const ofClient = countBy(busy, ({ generation }) => generation.client);
    let best: Entry | null = null;
    let least: number[] = [];
    for (const entry of this.entries.values()) {
      if (!may(entry.samples[0])) continue;
      const { owner, client } = entry.samples[0].generation;
      const rank = [ofClient.get(client) ?? 0, this.clients.get(client) ?? 0, ofOwner.get(owner) ?? 0, entry.taken];
      if (best && !isLess(rank, least)) continue;
      best = entry;
      least = rank;
    }
    return best?.samples[0] ?? null;
  }

  /** Takes the sample that `next` gave. */
  take(sample: EngineSample): void {
    const { owner, client } = sample.generation;
    const entry = this.entries.get(owner);
    if (entry?.samples[0] !== sample) throw new Error("not the next sample");
    entry.samples.shift();
    this.count -= 1;
    entry.taken = ++this.turn;
    this.clients.set(client, this.turn);
    this.tidy();
  }

  /** Empties the queue. */
  clear(): EngineSample[] {
    const all = [...this.entries.values()].flatMap(({ samples }) => samples);
    this.entries.clear();
    this.clients.clear();
    this.count = 0;
    return all;
  }

  private sweep(): void {
    let swept = false;
    for (const entry of this.entries.values()) {
      if (!entry.samples.some(isGone)) continue;
      this.count -= entry.samples.length;
      entry.samples = entry.samples.filter((sample) => !isGone(sample));
      this.count += entry.samples.length;
      swept = true;
    }
    if (swept) this.tidy();
  }

  /** Forgets who does not wait any more. */
  private tidy(): void {
    const waiting = new Set<string>();
    for (const [owner, { samples }] of this.entries) {
      if (samples.length === 0) this.entries.delete(owner);
      else waiting.add(samples[0].generation.client);
    }
    for (const client of this.clients.keys()) if (!waiting.has(client)) this.clients.delete(client);
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
