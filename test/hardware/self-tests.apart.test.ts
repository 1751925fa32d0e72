/** Kernels made wrong on purpose: a GPU that computes them so goes on with others, and computes right values. */
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, expect, it, vi } from "vitest";
import { adapterNote, closeDevice, openDevice, rmsNorm, scope, tensor } from "webrlhf";
import { attentionVariant } from "../../src/gpu/variants.ts";
import { rowPlan } from "../../src/tensor/ops/rows.ts";
import { expectClose } from "../helpers.ts";
import { values } from "../tensor/check.ts";

const wrong = vi.hoisted(() => ({ now: true }));
vi.mock("../../src/shaders/rows.wgsl.ts", async (original) => {
  const real = await original<typeof import("../../src/shaders/rows.wgsl.ts")>();
  const rowPrelude: typeof real.rowPrelude = (variant, width) => {
    const text = real.rowPrelude(variant, width);
    return wrong.now && variant === "subgroup"
      ? text.replace("return subgroupAdd(v)", "return 1.01 * subgroupAdd(v)")
      : text;
  };
  return { ...real, rowPrelude };
});
vi.mock("../../src/shaders/attention-tiled.wgsl.ts", async (original) => ({
  ...(await original<typeof import("../../src/shaders/attention-tiled.wgsl.ts")>()),
  tiledForward: () => "@compute @workgroup_size(64) fn main() {}",
}));
vi.mock("../../src/shaders/attention-matrix.wgsl.ts", async (original) => {
  const real = await original<typeof import("../../src/shaders/attention-matrix.wgsl.ts")>();
  // Its gradient alone is wrong, of queries.
  const matrixBackwardQuery: typeof real.matrixBackwardQuery = (shape) =>
    real.matrixBackwardQuery(shape).replaceAll("* u.scale", "* 1.1 * u.scale");
  return { ...real, matrixBackwardQuery };
});

let cache: string;
beforeAll(async () => {
  cache = await fs.mkdtemp(path.join(os.tmpdir(), "self-tests-"));
  vi.stubEnv("XDG_CACHE_HOME", cache);
  vi.stubEnv("WEBRLHF_ADAPTER_KIND", "hardware");
});
afterEach(closeDevice);
afterAll(async () => {
  vi.unstubAllEnvs();
  await fs.rm(cache, { recursive: true });
});

it("turns off what computes wrong values, says so, and remembers it", async ({ skip }) => {
  const caps = await openDevice();
  if (!caps.subgroups) return skip("the adapter has no subgroups");
  expect([...(caps.unsound ?? [])].sort()).toEqual([
    ...(caps.matrices ? ["matrix attention"] : []),
    "subgroup rows",
    "tiled attention",
  ]);
  expect(adapterNote()).toMatch(/; wrong values from its [^\n]*subgroup rows[^\n]*: slower kernels run instead$/);
  expect(rowPlan(576).variant).toBe("workgroup");
  for (const T of ["f32", "f16"]) expect(attentionVariant(caps, { T, d4: 16 })).toBe("direct");

  const x = values(2 * 576, 1);
  const y = scope(() => rmsNorm(tensor(x, [2, 576]), tensor(new Float32Array(576).fill(1)), 0));
  const root = (row: Float32Array) => Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / 576);
  const roots = [0, 1].map((r) => root(x.subarray(576 * r, 576 * (r + 1))));
  expectClose(
    await y.read(),
    x.map((v, i) => v / roots[Math.floor(i / 576)]),
    1e-5,
  );
  y.free("test");

  wrong.now = false;
  closeDevice();
  expect((await openDevice()).unsound).toContain("subgroup rows"); // not tried again
  const kept = await fs.readdir(path.join(cache, "webrlhf", "adapters"));
  expect(kept.filter((name) => name.startsWith("subgroup-rows_"))).toHaveLength(1);
});

it("tries nothing on an adapter of the CPU", async () => {
  vi.stubEnv("WEBRLHF_ADAPTER_KIND", "cpu");
  expect((await openDevice()).unsound).toBeUndefined();
  vi.stubEnv("WEBRLHF_ADAPTER_KIND", "hardware");
});
