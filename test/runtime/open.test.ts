import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isUserError, writeSafetensors } from "webrlhf";
import { openSafetensors } from "../../src/io/safetensors.ts";
import { openFile, openStream } from "../../src/runtime/open.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "webrlhf-open-"));
});
afterAll(() => rm(folder, { recursive: true }));

describe("openFile", () => {
  it("reads at any offset, less at the end", async () => {
    const path = join(folder, "bytes");
    await writeFile(
      path,
      Uint8Array.from({ length: 100 }, (_, i) => i),
    );
    const file = await openFile(path);
    expect(file.size).toBe(100);
    expect([...(await file.read(10, 3))]).toEqual([10, 11, 12]);
    expect([...(await file.read(98, 10))]).toEqual([98, 99]);
    expect((await file.read(100, 10)).length).toBe(0);
    await file.close();
  });

  it("serves safetensors tensor by tensor", async () => {
    const path = join(folder, "m.safetensors");
    const data = Float32Array.from({ length: 1000 }, (_, i) => i / 7);
    await writeFile(
      path,
      writeSafetensors({ a: { shape: [1000], data }, b: { shape: [2], data: new Float32Array([1, 2]) } }),
    );
    const file = await openFile(path);
    const tensors = await openSafetensors(file, path);
    expect((await tensors.get("a")).data).toEqual(data);
    expect((await tensors.get("b")).data).toEqual(new Float32Array([1, 2]));
    await file.close();
  });

  it("says what it cannot read", async () => {
    for (const [path, message] of [
      [join(folder, "none"), /none: no such file/],
      [folder, /it is a folder/],
      [join(folder, "bytes", "x"), /no such file/],
    ] as const) {
      const error = await openFile(path).catch((e) => e);
      expect(isUserError(error)).toBe(true);
      expect(error.message).toMatch(message);
    }
  });
});

describe("openStream", () => {
  it("gives all bytes in order", async () => {
    const path = join(folder, "long");
    const bytes = Uint8Array.from({ length: 700_001 }, (_, i) => i % 251);
    await writeFile(path, bytes);
    const read = new Uint8Array(
      await new Response((await openStream(path)) as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer(),
    );
    expect(read.length).toBe(bytes.length);
    expect(read.every((byte, i) => byte === bytes[i])).toBe(true);
  });
});
