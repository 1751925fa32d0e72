/**
 * Waiting for Dawn in Node without taking a core from the kernels. While a call is pending, Dawn polls: it hands itself
 * to the global `setImmediate` again and again. That keeps one thread busy, which on a CPU adapter is a thread less for
 * the work that is waited for (on 2 cores of lavapipe a training step took 13 to 25 % longer and 1.5 times the CPU time).
 */

const EAGER = 1; // milliseconds of polling at full speed, so that short waits stay short; afterwards once a millisecond

let since = 0;

/** Starts an asynchronous call of Dawn's and makes it poll sparingly until nothing is pending. */
export function calmly<R>(call: () => R): R {
  since = performance.now();
  return withCalmTicks(call);
}

/** Dawn looks `setImmediate` up inside `call` and inside each tick, so only Dawn meets the stand-in. */
function withCalmTicks<R>(call: () => R): R {
  const original = globalThis.setImmediate;
  const standIn = (tick: () => void): unknown => {
    const next = () => withCalmTicks(tick);
    return performance.now() - since < EAGER ? original(next) : setTimeout(next, 1);
  };
  globalThis.setImmediate = standIn as typeof setImmediate;
  try {
    return call();
  } finally {
    globalThis.setImmediate = original;
  }
}
