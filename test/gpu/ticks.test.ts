import { afterEach, expect, it, vi } from "vitest";
import { calmly } from "../../src/gpu/ticks.ts";

const before = globalThis.setImmediate;
afterEach(() => {
  globalThis.setImmediate = before;
  vi.restoreAllMocks();
});

it("changes the pace of polling, and setImmediate for nobody else", async () => {
  let milliseconds = 0;
  vi.spyOn(performance, "now").mockImplementation(() => milliseconds);
  let immediates = 0;
  const stub = ((fn: () => void) => {
    immediates += 1;
    return setTimeout(fn, 0);
  }) as unknown as typeof setImmediate;
  globalThis.setImmediate = stub;

  // A call that polls as Dawn does: every tick looks the global up and queues the next one.
  let ticks = 0;
  let strangers = 0;
  await calmly(
    () =>
      new Promise<void>((resolve) => {
        const tick = () => {
          ticks += 1;
          milliseconds += 0.3;
          if (globalThis.setImmediate === stub) strangers += 1;
          if (ticks === 8) resolve();
          else globalThis.setImmediate(tick);
        };
        globalThis.setImmediate(tick);
      }),
  );
  expect(globalThis.setImmediate).toBe(stub);
  expect(strangers).toBe(0); // every tick met the stand-in
  expect(immediates).toBe(4); // at 0, 0.3, 0.6 and 0.9 ms; the later ones came by timer
});

it("restores setImmediate when the call throws", () => {
  const at = globalThis.setImmediate;
  expect(() =>
    calmly(() => {
      throw new Error("no");
    }),
  ).toThrow("no");
  expect(globalThis.setImmediate).toBe(at);
});
