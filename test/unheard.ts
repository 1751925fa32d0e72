/** Promises that were rejected without anybody who hears of it: in Node, each of them ends the process. */
import { expect } from "vitest";

/** Runs work and fails where it left such a promise. Needs Node. */
export async function expectAllHeard(work: () => Promise<void>): Promise<void> {
  const unheard: unknown[] = [];
  const others = process.listeners("unhandledRejection");
  process.removeAllListeners("unhandledRejection");
  process.on("unhandledRejection", (reason) => unheard.push(reason));
  try {
    await work();
    await new Promise((resolve) => setTimeout(resolve, 20)); // they are told after the promises have settled
  } finally {
    process.removeAllListeners("unhandledRejection");
    for (const listener of others) process.on("unhandledRejection", listener);
  }
  expect(unheard).toEqual([]);
}
