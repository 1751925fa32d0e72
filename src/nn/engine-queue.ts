/** Who waits for a slot, and whose turn it is. */
import type { EngineSample } from "./generation.ts";

/**
 * Equal shares of work among those who wait. Each has the time up to which it was served, in tokens of its own; what one is
 * given moves its time on by that, and everybody's by the part that an equal share of it is. Who is behind comes next.
 */
class Shares<K> {
  private readonly times = new Map<K, number>();
  private now = 0;

  /** Somebody begins to wait, as if served until now like all others. */
  add(key: K): void {
    if (!this.times.has(key)) this.times.set(key, this.now);
  }

  time(key: K): number {
    return this.times.get(key) ?? this.now;
  }

  serve(key: K, tokens: number): void {
    this.times.set(key, this.time(key) + tokens);
    this.now += tokens / this.times.size;
  }

  /** Forgets those who do not wait any more. */
  keep(waits: (key: K) => boolean): void {
    for (const key of this.times.keys()) if (!waits(key)) this.times.delete(key);
  }

  clear(): void {
    this.times.clear();
  }
}

/**
 * Samples that wait for a slot. The next one is of the client, and then of its request, that was given the fewest tokens:
 * whoever asks for much waits, and nobody else does.
 */
export class EngineQueue {
  /** By the request they belong to, in the order of arrival. */
  private readonly entries = new Map<object, EngineSample[]>();
  private readonly owners = new Shares<object>();
  private readonly clients = new Shares<string>();
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
    return samples + this.count <= room || samples + (own?.length ?? 0) <= room / (others + 1);
  }

  add(sample: EngineSample): void {
    const { owner, client } = sample.generation;
    const samples = this.entries.get(owner) ?? [];
    this.entries.set(owner, samples);
    this.owners.add(owner);
    this.clients.add(client);
    samples.push(sample);
    this.count += 1;
  }

  /**
   * The sample whose turn it is, or null. Drops those that nobody wants any more.
   * @param may who is asked for at all; default: everybody
   */
  next(may: (sample: EngineSample) => boolean = () => true): EngineSample | null {
    this.sweep();
    let best: EngineSample | null = null;
    let least = [0, 0];
    for (const [owner, [sample]] of this.entries) {
      if (!may(sample)) continue;
      const times = [this.clients.time(sample.generation.client), this.owners.time(owner)];
      if (best && (times[0] > least[0] || (times[0] === least[0] && times[1] >= least[1]))) continue;
      best = sample;
      least = times;
    }
    return best;
  }

  /** Takes the sample that `next` gave. */
  take(sample: EngineSample): void {
    const { owner, client } = sample.generation;
    const samples = this.entries.get(owner);
    if (samples?.[0] !== sample) throw new Error("not the next sample");
    const { prompt, options } = sample.sequence;
    const tokens = prompt.length + options.maxNewTokens - sample.drawn.length;
    this.owners.serve(owner, tokens);
    this.clients.serve(client, tokens);
    samples.shift();
    this.count -= 1;
    this.tidy();
  }

  /** Empties the queue. */
  clear(): EngineSample[] {
    const all = [...this.entries.values()].flat();
    this.entries.clear();
    this.owners.clear();
    this.clients.clear();
    this.count = 0;
    return all;
  }

  private sweep(): void {
    let swept = false;
    for (const [owner, samples] of this.entries) {
      if (!samples.some(isGone)) continue;
      const kept = samples.filter((sample) => !isGone(sample));
      this.count -= samples.length - kept.length;
      this.entries.set(owner, kept);
      swept = true;
    }
    if (swept) this.tidy();
  }

  /** Forgets who does not wait any more. */
  private tidy(): void {
    const clients = new Set<string>();
    for (const [owner, [sample]] of this.entries) {
      if (sample) clients.add(sample.generation.client);
      else this.entries.delete(owner);
    }
    this.owners.keep((owner) => this.entries.has(owner));
    this.clients.keep((client) => clients.has(client));
  }
}

const isGone = ({ generation, sample }: EngineSample): boolean => generation.gone(sample);
