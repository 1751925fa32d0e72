/**
 * Timing that can be trusted on a shared machine: every contender is checked against a reference before it is timed,
 * warmed up, and then all contenders of a case take turns within one run, so that a slow minute hits them alike.
 */

/** One contender in a case. */
export interface Arm {
  readonly name: string;
  /** Does the work `times` times, waits until it is done, and returns the seconds it took. */
  time(times: number): Promise<number>;
  /** What the work computes, for the check. */
  result(): Promise<ArrayLike<number>>;
  dispose?(): void;
}

export interface Case {
  readonly name: string;
  readonly unit: string;
  /** How many units one repetition is worth: operations for GFLOP/s, bytes for GB/s, tokens for tok/s, 1 for ms. */
  readonly work: number;
  /** Largest error that is accepted. */
  readonly tolerance: number;
  /** The error of a result; by default the largest difference from the first arm's, relative to its largest value. */
  error?(result: ArrayLike<number>): number;
  arms(): Promise<Arm[]>;
}

export interface ArmResult {
  readonly arm: string;
  /** Median and best over the samples, in the case's unit. */
  readonly median: number;
  readonly best: number;
  readonly samples: number;
  /** Repetitions per sample. */
  readonly times: number;
  readonly error: number;
  /** Why there are no figures. */
  readonly failed?: string;
}

export interface CaseResult {
  readonly name: string;
  readonly unit: string;
  readonly arms: readonly ArmResult[];
}

export interface Effort {
  /** Samples per contender. */
  readonly samples: number;
  /** Seconds a sample should take. */
  readonly seconds: number;
}

export const usual: Effort = { samples: 7, seconds: 0.25 };
export const quick: Effort = { samples: 3, seconds: 0.05 };

/** Checks, warms up and times all contenders of a case in turns. */
export async function measure(test: Case, effort: Effort): Promise<CaseResult> {
  const arms = await test.arms();
  const results = new Map<Arm, { times: number; seconds: number[]; error: number; failed?: string }>();
  let first: ArrayLike<number> | null = null;
  for (const arm of arms) {
    const state = { times: 1, seconds: [] as number[], error: 0, failed: undefined as string | undefined };
    results.set(arm, state);
    try {
      const result = await arm.result();
      first ??= result;
      state.error = test.error ? test.error(result) : difference(result, first);
      // Written so that NaN fails too.
      if (!(state.error <= test.tolerance)) throw new Error(`wrong result: error ${state.error.toExponential(1)}`);
      await arm.time(1);
      state.times = Math.max(1, Math.min(1000, Math.round(effort.seconds / (await arm.time(1)))));
      await arm.time(state.times);
    } catch (error) {
      state.failed = (error as Error).message.split("\n")[0];
    }
  }
  for (let sample = 0; sample < effort.samples; sample++) {
    for (const [arm, state] of results) {
      if (state.failed === undefined) state.seconds.push((await arm.time(state.times)) / state.times);
    }
  }
  for (const arm of arms) arm.dispose?.();
  return {
    name: test.name,
    unit: test.unit,
    arms: [...results].map(([arm, { times, seconds, error, failed }]) => ({
      arm: arm.name,
      median: failed === undefined ? inUnit(test, median(seconds)) : Number.NaN,
      best: failed === undefined ? inUnit(test, Math.min(...seconds)) : Number.NaN,
      samples: seconds.length,
      times,
      error,
      ...(failed === undefined ? {} : { failed }),
    })),
  };
}

/** "ms" is time itself; every other unit is work per second, in thousands of millions for GFLOP/s and GB/s. */
function inUnit({ unit, work }: Case, seconds: number): number {
  if (unit === "ms") return seconds * 1e3;
  return work / seconds / (unit.startsWith("G") ? 1e9 : 1);
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Largest difference relative to the largest expected magnitude. NaN anywhere gives NaN. */
export function difference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  let scale = 1e-30;
  for (let i = 0; i < expected.length; i++) {
    const d = Math.abs(actual[i] - expected[i]);
    if (!(d <= worst)) worst = d;
    if (Math.abs(expected[i]) > scale) scale = Math.abs(expected[i]);
  }
  return worst / scale;
}

/** An arm whose work is enqueued by `enqueue` and waited for once per sample. */
export function gpuArm(
  name: string,
  parts: { enqueue(): void; wait(): Promise<unknown>; result(): Promise<ArrayLike<number>>; dispose?(): void },
): Arm {
  return {
    name,
    result: parts.result,
    dispose: parts.dispose,
    async time(times) {
      const start = performance.now();
      for (let i = 0; i < times; i++) parts.enqueue();
      await parts.wait();
      return (performance.now() - start) / 1e3;
    },
  };
}

/** One case as lines of text: each contender's figure and its ratio to the first. */
export function describe(result: CaseResult): string[] {
  const [reference] = result.arms;
  return result.arms.map((arm, i) => {
    const head = `${(i === 0 ? result.name : "").padEnd(38)} ${arm.arm.padEnd(14)}`;
    if (arm.failed !== undefined) return `${head} ${"-".padStart(10)} ${result.unit}  ${arm.failed}`;
    const better = result.unit === "ms" ? arm.median / reference.median : reference.median / arm.median;
    const ratio = i === 0 || !Number.isFinite(better) ? "" : `  ${reference.arm} is ${better.toFixed(2)}x as fast`;
    return `${head} ${arm.median.toFixed(arm.median < 10 ? 3 : 1).padStart(10)} ${result.unit}${ratio}`;
  });
}
