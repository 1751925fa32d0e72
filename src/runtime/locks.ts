/** Web Locks: what only one page or worker of an origin does at a time. */

/**
 * Takes a lock, waiting for it, until the returned function is called or the page is closed. A browser without locks gives it
 * at once.
 * @param waits false gives null where somebody has it
 * @param signal ends the waiting, with its reason
 */
export function takeLock(name: string, waits: false): Promise<(() => void) | null>;
export function takeLock(name: string, waits: true, signal?: AbortSignal): Promise<() => void>;
export function takeLock(name: string, waits: boolean, signal?: AbortSignal): Promise<(() => void) | null> {
  const locks = globalThis.navigator?.locks;
  if (!locks) return Promise.resolve(() => {});
  return new Promise((resolve, reject) => {
    const options = waits ? { ...(signal && { signal }) } : { ifAvailable: true };
    locks
      .request(name, options, (lock) => {
        if (!lock) return resolve(null);
        return new Promise<void>((release) => resolve(() => release()));
      })
      .catch(reject);
  });
}

/** Runs something while nobody else of this origin runs what is under the same lock. */
export async function locked<T>(name: string, run: () => Promise<T>): Promise<T> {
  const release = await takeLock(name, true);
  try {
    return await run();
  } finally {
    release();
  }
}
