/** How fast something goes, within a given time. */
import { finish } from "../gpu/stream.ts";
import { scope } from "../tensor/core.ts";

/** Seconds per repetition. */
export interface Pace {
  readonly median: number;
  readonly best: number;
  readonly samples: number;
}

const MOST_SAMPLES = 15;
/** A sample shorter than this would time the wait rather than the work. */
const SAMPLE_SECONDS = 0.03;

const now = (): number => performance.now() / 1000;

/**
 * Repeats what `work` enqueues, first once to compile, and waits for the GPU after each sample. At least one sample is taken,
 * however long it takes; others only while there is time.
 */
export const pace = (work: () => void, seconds: number): Promise<Pace> =>
  paceOf(async (times) => {
    for (let i = 0; i < times; i++) scope(work);
    await finish();
  }, seconds);

/** The same for work that waits by itself. */
export const paceOfCalls = (work: () => Promise<unknown>, seconds: number): Promise<Pace> =>
  paceOf(async (times) => {
    for (let i = 0; i < times; i++) await work();
  }, seconds);

async function paceOf(repeat: (times: number) => Promise<void>, seconds: number): Promise<Pace> {
  const end = now() + seconds;
  const timed = async (times: number): Promise<number> => {
    const start = now();
    await repeat(times);
    return (now() - start) / times;
  };
  await timed(1);
  const once = await timed(1);
  const wanted = Math.max(SAMPLE_SECONDS, Math.min(0.25, seconds / 10));
  const times = Math.max(1, Math.min(1000, Math.round(wanted / once)));
  const samples = times === 1 ? [once] : [await timed(times)];
  while (samples.length < MOST_SAMPLES && now() + samples[0] * times < end) samples.push(await timed(times));
  samples.sort((a, b) => a - b);
  return { median: samples[samples.length >> 1], best: samples[0], samples: samples.length };
}

/** How much of an amount of work goes through in a second, in thousands of millions of units. */
export const rate = (
  work: number,
  { median, best, samples }: Pace,
): { value: number; best: number; samples: number } => ({
  value: work / median / 1e9,
  best: work / best / 1e9,
  samples,
});

/** A clock that says when an item's time is over. */
export class Budget {
  private readonly end: number;

  constructor(seconds: number) {
    this.end = now() + seconds;
  }

  get left(): number {
    return Math.max(0, this.end - now());
  }

  /** What each of so many further parts may take; 0 when the time is over. */
  shareOf(parts: number): number {
    return this.left / Math.max(1, parts);
  }
}
