import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { f16Trouble } from "../../src/gpu/f16-trial.ts";
import { f16Wanted } from "../../src/gpu/f16-wanted.ts";

let cache: string;
const before = { ...process.env };
beforeEach(async () => {
  cache = await fs.mkdtemp(path.join(os.tmpdir(), "f16-trial-"));
  process.env.XDG_CACHE_HOME = cache;
});
afterEach(async () => {
  for (const name of ["XDG_CACHE_HOME", "WEBRLHF_F16"]) {
    if (before[name] === undefined) delete process.env[name];
    else process.env[name] = before[name];
  }
  await fs.rm(cache, { recursive: true });
});

const nvidia = (driver = "NVIDIA: 580.82.07", vendor = "nvidia") =>
  ({
    info: { vendor, architecture: "hopper", device: `${vendor}-h200`, description: driver },
    features: new Set(["shader-f16"]),
  }) as unknown as GPUAdapter;

const flags = ["enable-dawn-features=allow_unsafe_apis"];
const aborts = { child: "process.abort()" };

describe("trying half precision", () => {
  it("finds it working in the child's own kernel", async ({ skip }) => {
    if (!(await openDevice()).f16) return skip("the adapter has no f16");
    expect(await f16Trouble(nvidia(), flags)).toBeNull();
  });

  it("survives a driver that aborts, and remembers it for this driver only", async () => {
    const verdict = "a kernel ended its process (SIGABRT)";
    expect(await f16Trouble(nvidia(), flags, aborts)).toBe(verdict);
    expect(await f16Trouble(nvidia(), flags, { child: "" })).toBe(verdict); // the next process would not try again
    expect(await f16Trouble(nvidia("NVIDIA: 590.1"), flags, { child: "" })).toBeNull();
    expect(await f16Trouble(nvidia("NVIDIA: 590.1"), flags, aborts)).toBeNull();
  });

  it("tells wrong values from a trial that could not be made, which it makes again", async () => {
    expect(await f16Trouble(nvidia(), flags, { child: "process.exit(43)" })).toMatch("could not be tried");
    expect(await f16Trouble(nvidia(), flags, { child: "process.exit(44)" })).toBe("a kernel computed wrong values");
  });

  it("tries nothing elsewhere", async () => {
    expect(await f16Trouble(nvidia("Metal driver", "apple"), flags, aborts)).toBeNull();
    const software = { ...nvidia(), info: { ...nvidia().info, description: "llvmpipe" } } as GPUAdapter;
    expect(await f16Trouble(software, flags, aborts)).toBeNull();
    const without = { ...nvidia(), features: new Set() } as unknown as GPUAdapter;
    expect(await f16Trouble(without, flags, aborts)).toBeNull();
  });
});

it("takes the variable before the option", () => {
  expect([f16Wanted(), f16Wanted(false)]).toEqual([true, false]);
  process.env.WEBRLHF_F16 = "off";
  expect([f16Wanted(), f16Wanted(true)]).toEqual([false, false]);
  process.env.WEBRLHF_F16 = "on";
  expect([f16Wanted(), f16Wanted(false)]).toEqual(["trusted", false]);
  process.env.WEBRLHF_F16 = "no";
  expect(() => f16Wanted()).toThrow('WEBRLHF_F16 is "no": it must be on or off');
});
