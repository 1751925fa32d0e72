/** What a simulation of a cluster stands on: events in time, and links that their users share. */

/** Smallest first. */
export class Heap<T> {
  private readonly keys: number[] = [];
  private readonly values: T[] = [];

  get size(): number {
    return this.keys.length;
  }

  get first(): number {
    return this.keys[0] ?? Number.POSITIVE_INFINITY;
  }

  push(key: number, value: T): void {
    const { keys, values } = this;
    let at = keys.length;
    keys.push(key);
    values.push(value);
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (keys[above] <= key) break;
      keys[at] = keys[above];
      values[at] = values[above];
      at = above;
    }
    keys[at] = key;
    values[at] = value;
  }

  pop(): T {
    const { keys, values } = this;
    const found = values[0];
    const key = keys.pop() as number;
    const value = values.pop() as T;
    const { length } = keys;
    if (length === 0) return found;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= length) break;
      if (below + 1 < length && keys[below + 1] < keys[below]) below++;
      if (keys[below] >= key) break;
      keys[at] = keys[below];
      values[at] = values[below];
      at = below;
    }
    keys[at] = key;
    values[at] = value;
    return found;
  }
}

/** Time, and what happens in it. */
export class Clock {
  now = 0;
  private readonly events = new Heap<() => void>();

  at(time: number, event: () => void): void {
    this.events.push(Math.max(time, this.now), event);
  }

  after(seconds: number, event: () => void): void {
    this.at(this.now + seconds, event);
  }

  /** Runs until somebody says that it is enough, nothing is left, or the time is over. */
  run(enough: () => boolean, until: number): void {
    while (!enough() && this.events.size > 0 && this.events.first <= until) {
      this.now = this.events.first;
      this.events.pop()();
    }
  }
}

/**
 * A link that all transfers under way share equally. What a receiver's own link cannot take is not given to the others, so that many slow
 * receivers look a little slower together than they would be.
 */
export class SharedLink {
  /** Bytes that went over it. */
  sent = 0;
  private readonly clock: Clock;
  private readonly perSecond: number;
  /** Bytes that each transfer has had since the beginning of time. */
  private share = 0;
  private seen = 0;
  private round = 0;
  private readonly under = new Heap<{ began: number; slowest: number; done: () => void }>();

  /** @param perSecond bytes; Infinity for one that is never full */
  constructor(clock: Clock, perSecond: number) {
    this.clock = clock;
    this.perSecond = perSecond;
  }

  /** Sends bytes to a receiver that takes `own` bytes a second. */
  send(bytes: number, own: number, done: () => void): void {
    this.sent += bytes;
    const slowest = bytes / own;
    if (this.perSecond === Number.POSITIVE_INFINITY) {
      this.clock.after(slowest, done);
      return;
    }
    this.catchUp();
    this.under.push(this.share + bytes, { began: this.clock.now, slowest, done });
    this.next();
  }

  private catchUp(): void {
    if (this.under.size > 0) this.share += ((this.clock.now - this.seen) * this.perSecond) / this.under.size;
    this.seen = this.clock.now;
  }

  private next(): void {
    const round = ++this.round;
    if (this.under.size === 0) return;
    const seconds = ((this.under.first - this.share) * this.under.size) / this.perSecond;
    this.clock.after(Math.max(0, seconds), () => {
      if (round !== this.round) return;
      this.catchUp();
      while (this.under.size > 0 && this.under.first <= this.share * (1 + 1e-12) + 1e-6) {
        const { began, slowest, done } = this.under.pop();
        this.clock.at(began + slowest, done);
      }
      this.next();
    });
  }
}

/** Somebody who does one thing after the other, such as a server's core. */
export class Server {
  /** Seconds of work done or waiting. */
  worked = 0;
  private free = 0;
  private readonly clock: Clock;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  do(seconds: number, done: () => void): void {
    this.worked += seconds;
    this.free = Math.max(this.free, this.clock.now) + seconds;
    this.clock.at(this.free, done);
  }
}
