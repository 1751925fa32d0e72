/**
 * How much work one submit takes, so that none runs long enough to trip a watchdog or to make "pause" sluggish: about 100 ms.
 * The rate of a CPU adapter is known well enough. GPUs lie three orders of magnitude apart: theirs is measured on the first submits.
 */
import { caps, device, onClose, onStandIn, startWait } from "./device.ts";

const AIM = 0.1; // seconds
const CPU_BUDGET = 2e9; // operations: 100 ms at 20 GFLOP/s
/** What a GPU gets before it is known: 1 s on the slowest, while a fast one only sees more submits. */
const FIRST = 2e10;
const [LEAST, MOST] = [1e9, 4e12];
const ENOUGH = 8; // times from an idle GPU to an idle GPU
const PATIENCE = 2000; // submits after which it is not looked at any more, however little was in them

/** What is known of a GPU's speed. */
export class Pace {
  /** The best so far, operations a second: waits for JavaScript and compilers make times too long, never too short. */
  private rate = 0;
  private busyTimes = 0;
  private submits = 0;
  /** Submits that are not finished, when the first of them began, and what has been finished since. */
  private open = 0;
  private since = 0;
  private done = 0;

  /** It is worth to tell of another submit. */
  get curious(): boolean {
    return this.busyTimes < ENOUGH && this.submits < PATIENCE;
  }

  /** The operations after which a submit is due. */
  get budget(): number {
    // The first steps compile their kernels, so that they say only how fast the GPU is at least.
    const least = this.busyTimes < 3 ? FIRST : LEAST;
    return Math.min(MOST, Math.max(least, this.rate * AIM));
  }

  /** Tells of a submit and of when it is finished. */
  submitted(operations: number, finished: Promise<unknown>): void {
    if (this.open === 0) {
      this.since = performance.now();
      this.done = 0;
    }
    this.open += 1;
    this.submits += 1;
    finished.then(
      () => this.finished(operations),
      () => {}, // the device is gone
    );
  }

  private finished(operations: number): void {
    this.open -= 1;
    this.done += operations;
    const seconds = (performance.now() - this.since) / 1000;
    if (seconds > 0) this.rate = Math.max(this.rate, this.done / seconds);
    if (this.open === 0 && this.done >= LEAST) this.busyTimes += 1;
  }
}

let pace = new Pace();

/** The operations after which a submit is due on the open device. */
export const budget = (): number => (caps().kind === "cpu" ? CPU_BUDGET : pace.budget);

/** Tells what was just submitted. */
export function submitted(operations: number): void {
  if (caps().kind === "cpu" || onStandIn() || !pace.curious) return;
  pace.submitted(
    operations,
    startWait(() => device().queue.onSubmittedWorkDone()),
  );
}

onClose({
  forget() {
    pace = new Pace();
  },
  setAside() {
    const kept = pace;
    return () => {
      pace = kept;
    };
  },
});
