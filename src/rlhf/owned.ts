/** What a run makes for itself, and gives back however it ends. */
import type { TrainEvent } from "./events.ts";

/** A list of what is to be given back. */
export class Owned {
  private readonly all: { destroy(): void }[] = [];

  /** Remembers something that was just made, and returns it. */
  keep<D extends { destroy(): void }>(one: D): D {
    this.all.push(one);
    return one;
  }

  /** Gives everything back, once. */
  destroy(): void {
    for (const one of this.all.splice(0).reverse()) one.destroy();
  }
}

/** A run that gives back what it made: also where it fails before its first step, and where its consumer leaves. */
export async function* owning(train: (owned: Owned) => AsyncGenerator<TrainEvent>): AsyncGenerator<TrainEvent> {
  const owned = new Owned();
  try {
    yield* train(owned);
  } finally {
    owned.destroy();
  }
}
