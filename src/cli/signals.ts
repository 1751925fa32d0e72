/** What Ctrl-C, `kill` and a terminal that goes away do: the first asks for a clean end, the second gets a rough one. */
import { setMaxListeners } from "node:events";
import { constants } from "node:os";
import type { Terminal } from "./terminal.ts";
import type { Context } from "./verb.ts";

const CHECKPOINT_NOTE = "\nstopping after a checkpoint; Ctrl-C again stops at once";

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
type Signal = (typeof signals)[number];

const codeOf = (signal: Signal): number => 128 + constants.signals[signal];

let received: Signal | null = null;
const listening: [Signal, () => void][] = [];

/** Leaves the process's signals alone again, when the work is over. */
export function stopListening(): void {
  for (const [signal, listener] of listening.splice(0)) process.off(signal, listener);
}

/** The exit code of a program that a signal has stopped, as shells have it. */
export const stoppedCode = (): number => codeOf(received ?? "SIGINT");

/** Whether the terminal has gone away, so that nobody reads what is said. */
export const hungUp = (): boolean => received === "SIGHUP";

/**
 * A context whose signal fires at the first of the process's signals.
 * @param note what is said then; null says nothing
 * @param atOnce the work cannot be stopped in the middle: it ends at the first signal
 */
export function interruptible(
  terminal: Terminal,
  label: string,
  note: string | null = CHECKPOINT_NOTE,
  atOnce = false,
): Context {
  const controller = new AbortController();
  setMaxListeners(0, controller.signal); // every job that is under way listens
  received = null;
  for (const signal of signals) {
    const listener = () => {
      if (atOnce || controller.signal.aborted) process.exit(codeOf(signal));
      received = signal;
      if (note !== null) terminal.line(note);
      controller.abort();
    };
    process.on(signal, listener);
    listening.push([signal, listener]);
  }
  return { terminal, signal: controller.signal, label, resume: false };
}
