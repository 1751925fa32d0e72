/** Where a run waits when it is paused. It passes the gate before it begins, and after every event. */
import type { Granularity } from "./contract.ts";

const ORDER: readonly Granularity[] = ["token", "phase", "rollout", "step"];

/** Whether what has ended is at least as much as was asked for: a step's end is a rollout's end, too. */
export const reaches = (ended: Granularity | undefined, asked: Granularity): boolean =>
  ended !== undefined && ORDER.indexOf(ended) >= ORDER.indexOf(asked);

/** Open, shut, or open until something ends. */
export class Gate {
  private mode: "open" | "shut" | Granularity;
  private wake: (() => void) | null = null;

  constructor(mode: "open" | "shut" | Granularity = "open") {
    this.mode = mode;
  }

  shut(): void {
    this.mode = "shut";
  }

  /** Lets the run go on: without end, or to the end of one more token, phase, rollout or step. */
  open(until: "open" | Granularity = "open"): void {
    this.mode = until;
    this.wake?.();
    this.wake = null;
  }

  /**
   * Resolves when the run may go on.
   * @param ended what the event before ended
   * @param held works while the run waits; called only if it has to
   */
  async pass(ended: Granularity | undefined, held: (opened: Promise<void>) => Promise<void>): Promise<void> {
    if (this.mode !== "open" && this.mode !== "shut" && reaches(ended, this.mode)) this.mode = "shut";
    while (this.mode === "shut") {
      const opened = new Promise<void>((resolve) => {
        this.wake = resolve;
      });
      await held(opened);
    }
  }
}
