/** Work that is done one after another. */
export class Line {
  private last: Promise<unknown> = Promise.resolve();

  run<R>(work: () => Promise<R>): Promise<R> {
    const done = this.last.then(work);
    this.last = done.catch(() => {}); // whoever asked for the work hears of it
    return done;
  }

  /** Resolves when all work is done that was there. */
  async done(): Promise<void> {
    await this.last;
  }
}
