import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeFolder } from "../../src/runtime/folders.ts";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-folders-"));
});
afterAll(() => rm(dir, { recursive: true }));

describe("makeFolder", () => {
  it("makes one and the same folder for many at once", async () => {
    for (let round = 0; round < 200; round++) {
      const folder = join(dir, `${round}/a/b/c`);
      await Promise.all([folder, folder, `${folder}/d`, join(dir, `${round}/a/b`), folder].map(makeFolder));
      expect((await stat(`${folder}/d`)).isDirectory()).toBe(true);
    }
  });

  it("says where a file is in the way", async () => {
    await writeFile(join(dir, "file"), "");
    await expect(makeFolder(join(dir, "file"))).rejects.toThrow(/EEXIST/);
    await expect(makeFolder(join(dir, "file/below"))).rejects.toThrow(/ENOTDIR/);
  });
});
