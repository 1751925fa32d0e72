import { afterEach } from "vitest";

/** Hands a model, a store or the like back and destroys it when the test is over; call it once per file. */
export function keeper(): <T extends { destroy(): void }>(thing: T) => T {
  const opened: { destroy(): void }[] = [];
  afterEach(() => {
    for (const thing of opened.splice(0)) thing.destroy();
  });
  return (thing) => {
    opened.push(thing);
    return thing;
  };
}
