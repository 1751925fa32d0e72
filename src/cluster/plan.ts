/**
 * How many workers a trainer needs. Each that draws for a version of the policy fetches that version's weights over the server's one
 * link, so that more of them draw sooner and fetch longer.
 */

/** What is known of a run's workers and of its steps. */
export interface Needs {
  /** Tokens per second of the workers, of which there is one at least, the fastest first. */
  speeds: readonly number[];
  /** Seconds until so many workers have a version's weights. */
  fetching: (workers: number) => number;
  /** Tokens that are drawn for a step, and of one job. */
  tokens: number;
  jobTokens: number;
  /** Seconds that the trainer learns for a step while workers draw for the next; null where nobody draws meanwhile. */
  learns: number | null;
}

/** How many workers are served, and how long a step's drawing should take them, in seconds. */
export interface Plan {
  served: number;
  seconds: number;
}

/** Fewer workers may take so much longer than the best number of them: each that is spared saves its weights. */
export const SPARING = 1.05;

/**
 * The smallest number of the fastest workers that has a step's responses in the time in which the trainer learns; where none has, or
 * where the trainer waits for them anyhow, the smallest one that is about as quick as any.
 */
export function planOf({ speeds, fetching, tokens, jobTokens, learns }: Needs): Plan {
  const plans: Plan[] = [];
  let together = 0;
  for (const [i, speed] of speeds.entries()) {
    together += speed;
    const seconds = fetching(i + 1) + tokens / together + jobTokens / speed;
    if (learns !== null && seconds <= learns) return { served: i + 1, seconds };
    plans.push({ served: i + 1, seconds });
  }
  const best = plans.reduce((least, { seconds }) => Math.min(least, seconds), Number.POSITIVE_INFINITY);
  return plans.find(({ seconds }) => seconds <= best * SPARING) as Plan; // the best one, if none before
}

/**
 * What fetching takes by the number of workers, out of what it took: a line through it, by least squares, that neither begins below 0
 * nor falls. What was seen of one number alone is the link's, which they share.
 */
export function fetchingOf(seen: ReadonlyMap<number, number>): (workers: number) => number {
  const points = [...seen];
  const mean = (of: (point: [number, number]) => number) => points.reduce((sum, p) => sum + of(p), 0) / points.length;
  const [n, s] = [mean(([workers]) => workers), mean(([, seconds]) => seconds)];
  const spread = mean(([workers]) => (workers - n) ** 2);
  let slope = spread > 0 ? mean(([workers, seconds]) => (workers - n) * (seconds - s)) / spread : s / n;
  if (slope < 0) slope = 0;
  else if (s < slope * n) slope = mean(([workers, seconds]) => workers * seconds) / mean(([workers]) => workers ** 2);
  const start = Math.max(0, s - slope * n);
  return (workers) => start + slope * workers;
}
