import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isUserError, UserError } from "webrlhf";
import { fillOnce } from "../../src/runtime/cache.ts";
import { embeddedVulkan } from "../../src/runtime/embedded.ts";
import { untar } from "../../src/runtime/tar.ts";

let folder: string;
beforeAll(async () => {
  folder = await fs.mkdtemp(path.join(os.tmpdir(), "webrlhf-cache-test-"));
});
afterAll(() => fs.rm(folder, { recursive: true, force: true }));

describe("fillOnce", () => {
  it("shows nothing or everything, and the first of several fillers wins", async () => {
    const target = path.join(folder, "race");
    let started = 0;
    const fill = async (temporary: string) => {
      const mine = String(++started);
      await fs.writeFile(path.join(temporary, "a"), mine);
      await new Promise((resolve) => setTimeout(resolve, 5));
      await fs.writeFile(path.join(temporary, "b"), mine);
    };
    await Promise.all([fillOnce(target, fill), fillOnce(target, fill), fillOnce(target, fill)]);
    expect(started).toBe(3);
    const [a, b] = await Promise.all(["a", "b"].map((name) => fs.readFile(path.join(target, name), "utf8")));
    expect(a).toBe(b);
    await fillOnce(target, () => Promise.reject(new Error("is not asked again")));
    expect(await fs.readdir(folder)).toEqual(["race"]);
  });

  it("leaves nothing behind when filling fails", async () => {
    const target = path.join(folder, "broken");
    await expect(fillOnce(target, () => Promise.reject(new Error("disk full")))).rejects.toThrow("disk full");
    expect((await fs.readdir(folder)).filter((name) => name.startsWith("broken"))).toEqual([]);
  });
});

/** A ustar entry, written by the format's description: name, mode, size and type at fixed places, data in blocks. */
function entry(name: string, text: string, type = "0", prefix = ""): Uint8Array {
  const bytes = new TextEncoder();
  const out = new Uint8Array(512 + Math.ceil(text.length / 512) * 512);
  const put = (at: number, value: string) => out.set(bytes.encode(value), at);
  put(0, name);
  put(100, "0000755\0");
  put(124, `${text.length.toString(8).padStart(11, "0")}\0`);
  put(156, type);
  put(257, "ustar\0");
  put(345, prefix);
  put(512, text);
  return out;
}

const join = (...parts: Uint8Array[]) => Uint8Array.from(parts.flatMap((part) => [...part]));

describe("untar", () => {
  it("reads files with their modes, skips folders and ends at the empty blocks", () => {
    const long = "x".repeat(513);
    const archive = join(
      entry("lib/", "", "5"),
      entry("a.so", long),
      entry("b", "hi", "0", "deep/er"),
      new Uint8Array(1024),
    );
    const files = [...untar(archive)].map(({ name, mode, data }) => [name, mode, new TextDecoder().decode(data)]);
    expect(files).toEqual([
      ["a.so", 0o755, long],
      ["deep/er/b", 0o755, "hi"],
    ]);
  });

  it("refuses an archive that ends inside a file", () => {
    expect(() => [...untar(entry("a", "x".repeat(600)).subarray(0, 1024))]).toThrow("bad entry at byte 0");
  });
});

describe("the embedded software Vulkan", () => {
  it.runIf(process.platform === "linux" && process.arch === "x64")(
    "is unpacked with loader, driver and libraries",
    async () => {
      const vulkan = await embeddedVulkan();
      expect(vulkan).not.toBeNull();
      const manifest = JSON.parse(await fs.readFile(vulkan!.icd, "utf8"));
      await fs.access(path.resolve(path.dirname(vulkan!.icd), manifest.ICD.library_path));
      await fs.access(vulkan!.loader);
      for (const folder of vulkan!.libraryPath.split(":")) await fs.access(folder);
    },
  );
});

describe("UserError", () => {
  it("is told from a defect, also through another copy of the class", () => {
    expect(isUserError(new UserError("fix it"))).toBe(true);
    expect(isUserError(Object.assign(new Error("x"), { name: "UserError" }))).toBe(true);
    expect(isUserError(new TypeError("x"))).toBe(false);
  });
});
