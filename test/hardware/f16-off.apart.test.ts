/** How a failed trial of half precision arrives at the device. */
import { expect, it, vi } from "vitest";
import { adapterNote, closeDevice, openDevice } from "webrlhf";

const trouble = vi.hoisted(() => ({ now: null as string | null, asked: 0 }));
vi.mock("../../src/gpu/f16-trial.ts", () => ({
  f16Trouble: async () => {
    trouble.asked += 1;
    return trouble.now;
  },
}));

it("turns half precision off where its trial failed, and says so in the one line about the adapter", async ({
  skip,
}) => {
  if (!(await openDevice()).f16) return skip("the adapter has no f16");
  expect(adapterNote()).not.toContain("f16");
  closeDevice();

  trouble.now = "a kernel ended its process (SIGABRT)";
  expect((await openDevice()).f16).toBe(false);
  expect(adapterNote()).toContain("f16 is off: a kernel ended its process (SIGABRT)");
  expect(adapterNote()).not.toContain("\n");
  closeDevice();

  const { asked } = trouble;
  expect((await openDevice({ f16: false })).f16).toBe(false);
  expect(adapterNote()).not.toContain("f16");
  closeDevice();
  vi.stubEnv("WEBRLHF_F16", "on");
  expect((await openDevice()).f16).toBe(true);
  vi.unstubAllEnvs();
  closeDevice();
  expect(trouble.asked).toBe(asked); // nothing to try where it is not wanted, or trusted
});
