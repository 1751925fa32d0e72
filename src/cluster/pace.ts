/** How long results take, and which jobs take far longer. */
import { median } from "../runtime/median.ts";

const REMEMBERED = 31;
/** Seconds that a job is thought to take before one is known. */
const UNKNOWN = 2;

/** The pace of whoever does a run's jobs. */
export class Pace {
  private readonly took: number[] = [];

  /** A result has taken so many seconds. */
  add(seconds: number): void {
    this.took.push(seconds);
    if (this.took.length > REMEMBERED) this.took.shift();
  }

  /** Whether a job that was asked for at some time, in milliseconds, should have been done long ago. */
  isLate(askedAt: number): boolean {
    return Date.now() - askedAt > Math.max(2000, 2500 * median(this.took, UNKNOWN));
  }
}
