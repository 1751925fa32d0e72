/** Work on the GPU piece by piece, without waiting for each piece's numbers before the next one is enqueued. */

/**
 * Pieces of work that each enqueue something and read what comes of it. They begin in their order, each while the one before it is
 * read, so that the GPU does not wait for the host; never more than two are under way, so that memory holds what two of them gave.
 */
export class InTurn<R> {
  readonly #found: Promise<R>[] = [];
  #begun: Promise<void> = Promise.resolve();

  /** @param work enqueues before it waits for anything */
  add(work: () => Promise<R>): void {
    this.#begun = this.#begun.then(async () => {
      await this.#found.at(-2);
      const found = work();
      found.catch(() => {}); // `end` throws it
      this.#found.push(found);
    });
    this.#begun.catch(() => {}); // one of what was found failed, too
  }

  /** What was found, in the order of the pieces; none comes any more. Throws what the first one that failed threw; those after it may not have begun. */
  async end(): Promise<R[]> {
    await this.#begun.catch(() => {});
    await Promise.allSettled(this.#found); // nobody who reads is left behind
    return Promise.all(this.#found);
  }
}

/** The same for every item of a list. */
export function inTurn<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const all = new InTurn<R>();
  for (const item of items) all.add(() => work(item));
  return all.end();
}
