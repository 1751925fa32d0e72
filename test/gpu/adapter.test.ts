import { describe, expect, it } from "vitest";
import { requestAdapter } from "../../src/gpu/adapter.ts";
import { driverOf, matrixSize, nameOf, saturatingWorkgroups } from "../../src/gpu/found-adapter.ts";

describe("requestAdapter", () => {
  it("finds an adapter and says in one line which", async () => {
    const { adapter, note } = await requestAdapter();
    expect(adapter.limits.maxComputeInvocationsPerWorkgroup).toBeGreaterThanOrEqual(256);
    expect(note).toMatch(/\S/);
    expect(note).not.toContain("\n");
  });
});

describe("an adapter's name", () => {
  const h200 = "NVIDIA: 580.82.07";
  const mesa = "llvmpipe: Mesa 25.0.7 (LLVM 15.0.6) 0.0.1";
  const apple = "Metal driver on macOS Version 15.5";
  // vendor, architecture, device, description -> name, driver; as the implementations fill them.
  it.each([
    ["Dawn on Vulkan", ["nvidia", "hopper", "nvidia-h200", h200], "nvidia-h200", h200],
    ["Dawn on Metal", ["apple", "metal-3", "apple-m2-pro", apple], "apple-m2-pro", apple],
    ["a page in Chrome", ["intel", "gen-12lp", "", ""], "intel gen-12lp", undefined],
    [
      "Chrome for developers",
      ["nvidia", "ada", "0x2684", "NVIDIA GeForce RTX 4090"],
      "NVIDIA GeForce RTX 4090",
      undefined,
    ],
    ["a page in Firefox", ["", "", "", "Apple M1"], "Apple M1", undefined],
    ["Deno", ["4318", "", "9860", "NVIDIA GeForce RTX 4090"], "NVIDIA GeForce RTX 4090", undefined],
    ["lavapipe in Dawn", ["mesa", "software", "llvmpipe-llvm-15-0-6-256-bits-", mesa], mesa, undefined],
    ["lavapipe in Deno", ["65541", "", "0", "llvmpipe (LLVM 15.0.6)"], "llvmpipe (LLVM 15.0.6)", undefined],
    ["SwiftShader in Chrome", ["google", "swiftshader", "", ""], "SwiftShader", undefined],
    ["nothing", ["", "", "", ""], "unnamed adapter", undefined],
  ])("is the GPU's and not the driver's (%s)", (_, [vendor, architecture, device, description], name, driver) => {
    const adapter = { info: { vendor, architecture, device, description } } as GPUAdapter;
    expect(nameOf(adapter)).toBe(name);
    expect(driverOf(adapter)).toBe(driver);
  });
});

describe("saturatingWorkgroups", () => {
  it("is known of small GPUs, and of no kind that may be large", () => {
    const of = (vendor: string, architecture: string) => saturatingWorkgroups({ vendor, architecture });
    expect(of("qualcomm", "adreno-7xx")).toBeLessThan(of("intel", "gen-12lp") as number);
    expect(of("intel", "xe-lpg")).toBeLessThan(of("apple", "metal-3") as number);
    for (const [vendor, architecture] of [
      ["intel", "gen-12hp"],
      ["intel", "xe-hpg"],
      ["nvidia", "ampere"],
      ["amd", "rdna-3"],
      ["", ""],
    ]) {
      expect(of(vendor, architecture), vendor).toBeUndefined();
    }
  });
});

describe("matrixSize", () => {
  it("is the largest in f16 with sums in f32", () => {
    const config = (componentType: string, resultComponentType: string, size: number) => {
      return { componentType, resultComponentType, M: size, N: size, K: size };
    };
    const of = (...subgroupMatrixConfigs: object[]) =>
      matrixSize({ subgroupMatrixConfigs } as unknown as GPUAdapterInfo);
    expect(of(config("f16", "f32", 8), config("f16", "f32", 16), config("u8", "u32", 32))).toEqual({
      m: 16,
      n: 16,
      k: 16,
    });
    expect(of(config("f16", "f16", 16), config("f16", "f32", 8))).toEqual({ m: 8, n: 8, k: 8 });
    expect(of(config("f16", "f16", 16))).toBeUndefined();
    expect(matrixSize({} as GPUAdapterInfo)).toBeUndefined();
  });
});
