// Every kind of files keeps the promises of one interface. In a browser its own storage stands in for the fake one.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { directoryFiles, diskFiles, type Files, isUserError, memoryFiles, opfsFiles, overlayFiles } from "webrlhf";
import { filesIn } from "../../src/runtime/directory-files.ts";
import { newWriter } from "../../src/runtime/writers.ts";
import { FakeDirectory, fakeDirectory, type Storage } from "../io/fake-directory.ts";

const hasNode = globalThis.process?.versions?.node !== undefined && typeof window === "undefined";
const hasOpfs = globalThis.navigator?.storage?.getDirectory !== undefined;
const text = (bytes: Uint8Array | null | undefined) => bytes && new TextDecoder().decode(bytes);
const anyName = () => `t-${Math.random().toString(36).slice(2)}`;

/** Files on disk, under a folder of their own. */
async function onDisk(): Promise<Files> {
  const { mkdtemp } = await import("node:fs/promises");
  const { tmpdir } = await import("node:os");
  const { join } = await import("node:path");
  const folder = await mkdtemp(join(tmpdir(), "webrlhf-files-"));
  const at = (path: string) => join(folder, path);
  const disk = await diskFiles();
  return {
    read: (path) => disk.read(at(path)),
    open: (path) => disk.open(at(path)),
    writeFile: (path, content) => disk.writeFile(at(path), content),
    writeFiles: (path, files) => disk.writeFiles(at(path), files),
    writeFolder: (path, files) => disk.writeFolder(at(path), files),
    append: (path, added) => disk.append(at(path), added),
    list: (path) => disk.list(at(path)),
    remove: (path) => disk.remove(at(path)),
  };
}

const kinds: Record<string, () => Promise<Files>> = {
  memory: async () => memoryFiles(),
  "overlay of nothing": async () => overlayFiles(memoryFiles()),
  "a picked folder": async () => directoryFiles(fakeDirectory()),
  "a folder in a worker": async () => directoryFiles(fakeDirectory({ writes: "both" })),
  "a folder without streams": async () => directoryFiles(fakeDirectory({ writes: "sync" })),
  "a folder without renames": async () => directoryFiles(fakeDirectory({ moves: false })),
  "a folder without either": async () => directoryFiles(fakeDirectory({ moves: false, writes: "sync" })),
  "an overlay on a folder": async () => overlayFiles(memoryFiles(), directoryFiles(fakeDirectory())),
  ...(hasNode && { "a disk": onDisk }),
  ...(hasOpfs && { "the private file system": () => opfsFiles(anyName()) }),
};

/** All files below a folder, by path. */
async function tree(files: Files, folder: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of await files.list(folder)) {
    const path = `${folder}/${name}`;
    const content = await files.read(path).catch(() => null);
    if (content) found[path] = text(content) as string;
    else Object.assign(found, await tree(files, path));
  }
  return found;
}

describe.each(Object.entries(kinds))("files in %s", (_, make) => {
  it("reads what was written, and null where nothing is", async () => {
    const files = await make();
    expect(await files.read("a/b")).toBeNull();
    expect(await files.open("a/b")).toBeNull();
    expect(await files.list("a")).toEqual([]);
    await files.writeFile("a/b", "one");
    await files.writeFile("a/c", new Uint8Array([116, 119, 111]));
    await files.writeFile(
      "a/d/e",
      (async function* () {
        for (const piece of ["th", "r", "ee"]) yield new TextEncoder().encode(piece);
      })(),
    );
    expect(await tree(files, "a")).toEqual({ "a/b": "one", "a/c": "two", "a/d/e": "three" });
    expect(await files.list("a")).toEqual(["b", "c", "d"]);
    await files.writeFile("a/b", "");
    expect((await files.read("a/b"))?.length).toBe(0);
    await files.writeFile("a/b", "again");
    expect(text(await files.read("a/b"))).toBe("again");
    const file = await files.open("a/d/e");
    expect(file?.size).toBe(5);
    expect(text(await file?.read(1, 3))).toBe("hre");
    expect(text(await file?.read(3, 9))).toBe("ee");
    await file?.close();
  });

  it("replaces a folder by exactly its files, and some files of a folder", async () => {
    const files = await make();
    await files.writeFolder("run/model", { "a.json": "1", "sub/b": "2" });
    await files.writeFiles("run/model", { "a.json": "3", "sub/c": "4" });
    expect(await tree(files, "run")).toEqual({
      "run/model/a.json": "3",
      "run/model/sub/b": "2",
      "run/model/sub/c": "4",
    });
    await files.writeFolder("run/model", { x: "5" });
    expect(await tree(files, "run")).toEqual({ "run/model/x": "5" });
    await files.writeFolder("run/model", {});
    expect(await tree(files, "run")).toEqual({});
  });

  it("adds to the end of files, also many at once", async () => {
    const files = await make();
    await files.append("log/a", "1");
    await Promise.all(["2", "3", "4"].map((line) => files.append("log/a", line)));
    expect([...(text(await files.read("log/a")) as string)].sort().join("")).toBe("1234");
    await files.writeFile("log/a", "new");
    await files.append("log/a", "er");
    expect(text(await files.read("log/a"))).toBe("newer");
  });

  it("deletes files and folders, which may be missing", async () => {
    const files = await make();
    await files.writeFolder("d", { a: "1", "s/b": "2" });
    await files.writeFile("e", "3");
    for (const path of ["e", "none", "d/s", "d/none/x"]) await files.remove(path);
    expect(await tree(files, "d")).toEqual({ "d/a": "1" });
    await files.remove("d");
    expect(await files.list("d")).toEqual([]);
    expect(await files.read("e")).toBeNull();
  });

  it("changes nothing where content breaks off", async () => {
    const files = await make();
    await files.writeFolder("d", { a: "1", b: "2" });
    const broken = async function* () {
      yield new Uint8Array(3);
      throw new Error("broke off");
    };
    await expect(files.writeFile("d/a", broken())).rejects.toThrow("broke off");
    await expect(files.writeFile("d/new", broken())).rejects.toThrow("broke off");
    await expect(files.writeFiles("d", { a: "9", b: broken() })).rejects.toThrow("broke off");
    await expect(files.writeFolder("d", { a: "9", z: broken() })).rejects.toThrow("broke off");
    expect(await tree(files, "d")).toEqual({ "d/a": "1", "d/b": "2" });
  });

  it("takes no name that leaves its folder", async () => {
    const files = await make();
    await files.writeFile("d/a", "1");
    for (const name of ["../b", "/b", "", "a/b/c", ".hidden", "a\\b"]) {
      await expect(files.writeFiles("d", { [name]: "2" })).rejects.toThrow(/cannot be called/);
      await expect(files.writeFolder("d", { [name]: "2" })).rejects.toThrow(/cannot be called/);
    }
    expect(await tree(files, "d")).toEqual({ "d/a": "1" });
  });
});

describe("a folder of a page", () => {
  it("does not let a path out", async () => {
    const root = new FakeDirectory();
    const inner = await root.getDirectoryHandle("inner", { create: true });
    const files = directoryFiles(inner as unknown as FileSystemDirectoryHandle);
    for (const path of ["../x", "a/../../x", "/x", "C:\\x", "a//x", "a\\x", "..", "a/..", "\0"]) {
      for (const attempt of [
        () => files.read(path),
        () => files.open(path),
        () => files.list(path),
        () => files.writeFile(path, "1"),
        () => files.writeFiles(path, { a: "1" }),
        () => files.writeFolder(path, { a: "1" }),
        () => files.append(path, "1"),
        () => files.remove(path),
        () => files.claim?.(path),
      ]) {
        expect(await Promise.resolve(attempt()).catch((e) => e)).toSatisfy(isUserError, path);
      }
    }
    expect([...root.children.keys()]).toEqual(["inner"]);
    expect(inner.children.size).toBe(0);
    await files.writeFile("./a/./b", "1");
    expect(text(await files.read("a/b"))).toBe("1");
    expect(await files.list(".")).toEqual(["a"]);
    await expect(files.remove(".")).rejects.toThrow(/whole folder/);
  });

  it("is read without the permission to write", async () => {
    const storage: Storage = {};
    const root = fakeDirectory(storage);
    await directoryFiles(root).writeFile("a", "1");
    storage.lives = 0;
    expect(text(await directoryFiles(root).read("a"))).toBe("1");
  });

  it.each([
    ["NotAllowedError", /choose the folder again/],
    ["SecurityError", /private window/],
    ["NoModificationAllowedError", /another tab/],
  ])("says what %s means", async (fails, message) => {
    const storage: Storage = {};
    const files = directoryFiles(fakeDirectory(storage));
    await files.writeFile("a", "1");
    storage.fails = fails;
    const error = await files.writeFile("b", "1").catch((e) => e);
    expect(error).toSatisfy(isUserError);
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/^cannot write b: /);
  });

  it("says how much room is missing, and keeps what was there", async () => {
    const storage: Storage = {};
    const files = directoryFiles(fakeDirectory(storage));
    await files.writeFile("a", "1");
    storage.room = 10;
    const error = await files.writeFile("a", new Uint8Array(2_500_000)).catch((e) => e);
    expect(error).toSatisfy(isUserError);
    expect(error.message).toMatch(/cannot write a: the browser gives this page no more room.*2\.5 MB are needed/);
    expect(await tree(files, ".")).toEqual({ "./a": "1" });
  });

  it("never shows a part of a write, whenever the page is closed", async () => {
    const old = { "m/a": "1", "m/b": "2", "m/s/c": "3" };
    const changes: Record<string, [(files: Files) => Promise<void>, Record<string, string>]> = {
      writeFolder: [(files) => files.writeFolder("m", { a: "4", "t/d": "5" }), { "m/a": "4", "m/t/d": "5" }],
      remove: [(files) => files.remove("m"), {}],
      writeFile: [(files) => files.writeFile("m/a", "6"), { ...old, "m/a": "6" }],
      "writeFile anew": [(files) => files.writeFile("m/n", "6"), { ...old, "m/n": "6" }],
    };
    for (const [name, [act, after]] of Object.entries(changes)) {
      const seen = new Set<string>();
      for (let lives = 0; ; lives++) {
        const storage: Storage = {};
        const root = fakeDirectory(storage);
        const writer = { ...newWriter(), isAlive: async () => false };
        const next = () => filesIn(root, "", { ...newWriter(), isAlive: async () => false });
        await next().writeFolder("m", { a: "1", b: "2", "s/c": "3" });
        const files = filesIn(root, "", writer);
        storage.lives = lives;
        const died = await act(files).then(
          () => false,
          () => true,
        );
        storage.lives = undefined;
        const found = await tree(next(), ".").then((all) =>
          Object.fromEntries(Object.entries(all).map(([path, content]) => [path.slice(2), content])),
        );
        expect([old, after], `${name} after ${lives} changes`).toContainEqual(found);
        seen.add(JSON.stringify(found));
        if (!died) break;
      }
      expect(seen.size, name).toBe(2);
    }
  });

  it("leaves alone what another page is writing", async () => {
    const root = fakeDirectory();
    const alive = new Set<string>();
    const page = () => {
      const writer = newWriter();
      alive.add(writer.id);
      return filesIn(root, "", { ...writer, isAlive: async (id) => alive.has(id) });
    };
    let go = () => {};
    const waiting = new Promise<void>((resolve) => {
      go = resolve;
    });
    const slow = async function* () {
      yield new TextEncoder().encode("a");
      await waiting;
      yield new TextEncoder().encode("b");
    };
    const first = page().writeFolder("m", { x: slow() });
    await new Promise((resolve) => setTimeout(resolve, 5));
    const second = page();
    await second.writeFile("other", "1");
    await second.claim?.("n").then((release) => release());
    expect(await second.list("m")).toEqual([]);
    go();
    await first;
    expect(text(await second.read("m/x"))).toBe("ab");
  });
});

describe("an overlay", () => {
  it("reads through, and leaves its base as it was", async () => {
    const base = memoryFiles();
    await base.writeFolder("m", { a: "1", b: "2", "s/c": "3" });
    const before = await tree(base, "m");
    const files = overlayFiles(base);
    expect(await tree(files, "m")).toEqual(before);
    await Promise.all([files.append("m/a", "+"), files.append("m/a", "+")]);
    await files.writeFile("m/n", "4");
    await files.remove("m/b");
    await files.remove("./m/s/c");
    expect(await tree(files, "m")).toEqual({ "m/a": "1++", "m/n": "4" });
    expect(await files.list("m")).toEqual(["a", "n"]);
    await files.writeFile("m/b", "5");
    expect(text(await files.read("m/b"))).toBe("5");
    await files.writeFolder("m", { z: "6" });
    expect(await tree(files, "m")).toEqual({ "m/z": "6" });
    await files.remove("m");
    expect(await tree(files, "m")).toEqual({});
    expect(await files.open("m/a")).toBeNull();
    expect(await tree(base, "m")).toEqual(before);
  });

  it("is, for any writes, what a copy of the base would be", async () => {
    const path = fc.constantFrom("m/a", "m/b", "m/s/c", "n/d");
    const folder = fc.constantFrom("m", "m/s", "n");
    const write = fc.oneof(
      fc.tuple(fc.constant("writeFile" as const), path),
      fc.tuple(fc.constant("append" as const), path),
      fc.tuple(fc.constant("remove" as const), fc.oneof(path, folder)),
      fc.tuple(fc.constant("writeFolder" as const), fc.constant("m")),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(write, { maxLength: 12 }), async (writes) => {
        const start = { a: "1", b: "2", "s/c": "3" };
        const [base, copy] = [memoryFiles(), memoryFiles()];
        await base.writeFolder("m", start);
        await copy.writeFolder("m", start);
        const over = overlayFiles(base);
        for (const [i, [verb, at]] of writes.entries()) {
          for (const files of [over, copy]) {
            if (verb === "remove") await files.remove(at);
            else if (verb === "writeFolder") await files.writeFolder(at, { [`f${i}`]: "x" });
            else await files[verb](at, `${i}`);
          }
        }
        for (const at of ["m", "n", "m/s"]) expect(await over.list(at)).toEqual(await copy.list(at));
        expect(await tree(over, "m")).toEqual(await tree(copy, "m"));
      }),
      { numRuns: 60 },
    );
  });
});

describe.runIf(hasOpfs)("the private file system", () => {
  it("keeps files for the next visit and other workers", async () => {
    const name = anyName();
    await (await opfsFiles(name)).writeFolder("run/model", { a: "1" });
    expect(await tree(await opfsFiles(name), ".")).toEqual({ "./run/model/a": "1" });
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle(name);
    expect(text(await directoryFiles(root).read("run/model/a"))).toBe("1");
  });

  it("gives a run's folder to one at a time", async () => {
    const name = anyName();
    const [one, other] = [await opfsFiles(name), await opfsFiles(`${name}/./`)];
    const release = await one.claim?.("run");
    await expect(other.claim?.("run")).rejects.toThrow(/another run.*another tab/);
    await (await other.claim?.("run2"))?.();
    await release?.();
    await (await other.claim?.("run"))?.();
  });
});

describe.runIf(hasOpfs)("the private file system between a page and a worker", () => {
  const told = (worker: Worker, verb: string, root: string) =>
    new Promise<unknown>((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = reject;
      worker.postMessage({ verb, root });
    });
  const worker = () => new Worker(new URL("./opfs-worker.ts", import.meta.url), { type: "module" });

  it("is the same, where the worker writes in place", async () => {
    const root = anyName();
    const other = worker();
    expect(await told(other, "write", root)).toEqual(["a", "s"]);
    other.terminate();
    const files = await opfsFiles(root);
    expect(await tree(files, ".")).toEqual({ "./run/a": "from a worker", "./run/s/b": "2", "./log": "12" });
  });

  it("shows nothing of what a worker was writing when it was ended, and gives its run to the next", async () => {
    const root = anyName();
    const files = await opfsFiles(root);
    await files.writeFolder("run", { a: "old" });
    const other = worker();
    expect(await told(other, "hang", root)).toBe("writing");
    await expect(files.claim?.("run")).rejects.toThrow(/another run/);
    expect(await tree(await opfsFiles(root), "run")).toEqual({ "run/a": "old" });
    expect((await files.list(".")).some((name) => name.includes(".partial-"))).toBe(true);
    other.terminate();
    let release: (() => Promise<void>) | undefined;
    for (let i = 0; i < 50 && !release; i++) {
      await new Promise((resolve) => setTimeout(resolve, 20)); // its locks go with it, a moment later
      release = await files.claim?.("run").catch(() => undefined);
    }
    expect(release).toBeDefined();
    expect(await files.list(".")).toEqual(["run"]);
    expect(await tree(files, "run")).toEqual({ "run/a": "old" });
    await release?.();
  });
});

it.runIf(!hasOpfs)("says that there is no private file system", async () => {
  const error = await opfsFiles().catch((e) => e);
  expect(error).toSatisfy(isUserError);
  expect(error.message).toMatch(/no private file system.*memoryFiles/);
});
