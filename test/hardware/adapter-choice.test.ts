/** One adapter of several, by its number. */
import { execFile } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { adapterWanted, choiceFlags } from "../../src/gpu/adapter-choice.ts";
import { embeddedVulkan } from "../../src/runtime/embedded.ts";

const a100 = { backend: "vulkan", name: "NVIDIA A100" };
const a10 = { backend: "vulkan", name: "NVIDIA A10" };
const software = { backend: "vulkan", name: "llvmpipe (LLVM 15.0.6, 256 bits)" };

describe("an adapter's number", () => {
  it("becomes what Dawn is told", () => {
    expect(choiceFlags([a100, software], 1)).toEqual(["backend=vulkan", "adapter=llvmpipe (LLVM 15.0.6, 256 bits)"]);
    // The same card by another interface is another adapter.
    expect(choiceFlags([{ ...a100, backend: "d3d12" }, a100], 1)).toEqual(["backend=vulkan", "adapter=NVIDIA A100"]);
  });

  it("is refused, with the list, where there is none, or where its name means another one", () => {
    expect(() => choiceFlags([a100, software], 2)).toThrow(
      /adapter 2 is asked for, and there are 0: vulkan: NVIDIA A100; 1: vulkan: llvmpipe/,
    );
    expect(() => choiceFlags([], 0)).toThrow(/and there is none/);
    expect(() => choiceFlags([a100, a100], 1)).toThrow(/adapter 1 cannot be told from adapter 0 .*docker run --gpus/);
    expect(() => choiceFlags([a100, a10], 1)).toThrow(/cannot be told from adapter 0/);
    expect(choiceFlags([a10, a100], 1)).toContain("adapter=NVIDIA A100");
  });

  it("comes from the option, or from the variable", () => {
    const before = process.env.WEBRLHF_ADAPTER;
    try {
      process.env.WEBRLHF_ADAPTER = "3";
      expect(adapterWanted()).toBe(3);
      expect(adapterWanted(null)).toBe(3);
      expect(adapterWanted(0)).toBe(0);
      process.env.WEBRLHF_ADAPTER = "the second";
      expect(() => adapterWanted()).toThrow(/WEBRLHF_ADAPTER is "the second": it must be an adapter's number/);
    } finally {
      if (before === undefined) delete process.env.WEBRLHF_ADAPTER;
      else process.env.WEBRLHF_ADAPTER = before;
    }
    expect(adapterWanted()).toBe(before ? Number(before) : null);
  });
});

const manifests = "/usr/share/vulkan/icd.d";
const lavapipe = existsSync(manifests) ? readdirSync(manifests).find((name) => /^lvp_icd/.test(name)) : undefined;
const swiftShader = lavapipe ? (await embeddedVulkan())?.icd : undefined;

// Both software drivers at once are two adapters.
describe.skipIf(!swiftShader)("of two drivers", () => {
  const drivers = `${join(manifests, lavapipe ?? "")}:${swiftShader}`;
  const root = resolve(import.meta.dirname, "../..");
  const opened = async (number: string): Promise<string> => {
    const program = `
      import { fromSource } from ${JSON.stringify(join(root, "scripts/source.mjs"))};
      await fromSource(async (load) => {
        const { requestAdapter } = await load("/src/gpu/adapter.ts");
        const { nameOf } = await load("/src/gpu/found-adapter.ts");
        const { listDawnAdapters } = await load("/src/gpu/adapter-node.ts");
        const names = (await listDawnAdapters()).map(({ name }) => name);
        const found = await requestAdapter({ adapter: ${number} }).then(({ adapter }) => nameOf(adapter), (e) => e.message);
        console.log(JSON.stringify({ names, found }));
      });
      process.exit(0);
    `;
    const env = { ...process.env, VK_DRIVER_FILES: drivers, VK_ICD_FILENAMES: drivers };
    const args = ["--input-type=module", "-e", program];
    return (await promisify(execFile)(process.execPath, args, { cwd: root, env })).stdout;
  };

  it("each can be had, and a third one is refused", async () => {
    const [first, second, third] = (await Promise.all(["0", "1", "2"].map(opened))).map((text) => JSON.parse(text));
    expect(first.names).toHaveLength(2);
    expect(second.names).toEqual(first.names);
    const kinds = (names: string[]) => names.map((name) => /swiftshader/i.test(name));
    expect(kinds([first.found, second.found])).toEqual(kinds(first.names));
    expect(new Set(kinds(first.names)).size).toBe(2);
    expect(third.found).toMatch(/adapter 2 is asked for, and there are 0: vulkan: .*; 1: vulkan: /);
  }, 120_000);
});
