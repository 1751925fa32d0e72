/** Who writes to a page's files: this page or worker, another one, or one that is gone. */

import { takeLock } from "./locks.ts";

/** One page or worker among those that may write to the same files. */
export interface Writer {
  /** Its name: letters and digits. */
  readonly id: string;
  /** The names under which it writes now. */
  readonly writing: Set<string>;
  /** A new name to write under that begins so and ends in this writer's, which the others know by then. */
  begin(prefix: string): Promise<string>;
  /** Whether another one still runs. */
  isAlive(id: string): Promise<boolean>;
}

/**
 * This page or worker. It holds a Web Lock of its name, which goes with it. In an old browser without locks nobody knows of
 * the others, and they count as running.
 */
export function thisWriter(): Writer {
  own ??= newWriter();
  return own;
}
let own: Writer | undefined;

/** A writer that others know. */
export function newWriter(): Writer {
  const id = Math.random().toString(36).slice(2, 12).padEnd(10, "0");
  const lockOf = (name: string) => `webrlhf writer ${name}`;
  const writing = new Set<string>();
  let count = 0;
  let known: Promise<unknown> | undefined;
  return {
    id,
    writing,
    async begin(prefix) {
      known ??= takeLock(lockOf(id), true); // given back when the page or worker ends
      await known;
      const name = `${prefix}${id}-${++count}`;
      writing.add(name);
      return name;
    },
    async isAlive(other) {
      const held = (await globalThis.navigator?.locks?.query())?.held;
      return held === undefined || held.some(({ name }) => name === lockOf(other));
    },
  };
}
