/** Who has the GPU: a program, or a query. First come, first served. */
export class Turns {
  private last: Promise<void> = Promise.resolve();
  private waiting = 0;

  /** Waits for its turn. Whoever called gives the turn back by calling what comes. */
  async take(): Promise<() => void> {
    const before = this.last;
    let done = () => {};
    this.last = new Promise<void>((resolve) => {
      done = resolve;
    });
    this.waiting += 1;
    await before;
    this.waiting -= 1;
    return done;
  }

  /** Whether somebody waits. */
  get wanted(): boolean {
    return this.waiting > 0;
  }

  /** Does work when it is its turn. */
  async during<R>(work: () => Promise<R>): Promise<R> {
    const done = await this.take();
    try {
      return await work();
    } finally {
      done();
    }
  }
}

/** A program's turn, which it lends between its events. */
export class Turn {
  private done: (() => void) | null = null;
  private readonly turns: Turns;

  constructor(turns: Turns) {
    this.turns = turns;
  }

  async take(): Promise<void> {
    this.done ??= await this.turns.take();
  }

  leave(): void {
    this.done?.();
    this.done = null;
  }

  /** Lets those who wait have it first. */
  async rest(): Promise<void> {
    if (!this.done || !this.turns.wanted) return;
    this.leave();
    await this.take();
  }
}
