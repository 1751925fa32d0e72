// In a browser this runs on the origin's private file system, elsewhere on one in memory.
import { afterEach, describe, expect, it, vi } from "vitest";
import { type HubOptions, isUserError, parseRepo, type Repo, resolveModel } from "webrlhf";
import { directoryStore } from "../../src/io/hub-browser.ts";
import { FakeDirectory } from "./fake-directory.ts";

afterEach(() => vi.unstubAllGlobals());

const COMMIT = "c".repeat(40);
const weights = Uint8Array.from({ length: 40 << 20 }, (_, i) => (i * 13 + (i >> 9)) & 255);
const files: Record<string, Uint8Array<ArrayBuffer>> = {
  "config.json": new TextEncoder().encode("{}"),
  "tokenizer.json": new TextEncoder().encode('{"x": 1}'),
  "model.safetensors": weights,
};
const repo = parseRepo("org/tiny") as Repo;
const hex = (bytes: ArrayBuffer) => Array.from(new Uint8Array(bytes), (b) => b.toString(16).padStart(2, "0")).join("");

async function directory(): Promise<FileSystemDirectoryHandle> {
  const storage = (globalThis.navigator as Navigator | undefined)?.storage;
  if (!storage?.getDirectory) return new FakeDirectory() as unknown as FileSystemDirectoryHandle;
  const root = await storage.getDirectory();
  return root.getDirectoryHandle(`test-${Math.random().toString(36).slice(2)}`, { create: true });
}

const navigatorHasLocks = globalThis.navigator?.locks !== undefined;

/** Locks as a browser has them, as far as they are used. */
function fakeLocks(held: Map<string, Promise<unknown>>) {
  return {
    async request(name: string, { signal }: { signal?: AbortSignal }, run: (lock: object) => unknown) {
      const before = held.get(name);
      const stopped = new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
      let done = (): void => {};
      const mine = new Promise<void>((resolve) => {
        done = resolve;
      });
      held.set(name, Promise.all([before, mine]));
      try {
        await Promise.race([before, stopped]);
        await run({ name });
      } finally {
        done();
      }
    },
  };
}

/** A hub that stops a body after so many bytes. */
function hub(stopAfter = Number.POSITIVE_INFINITY) {
  const ranges: (string | null)[] = [];
  const answer = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const { pathname } = new URL(String(input));
    if (pathname.includes("/revision/")) return Response.json({ sha: COMMIT });
    if (pathname.includes("/tree/")) {
      const list = Object.entries(files).map(async ([path, bytes]) => {
        const header = new TextEncoder().encode(`blob ${bytes.length}\0`);
        const oid = hex(await crypto.subtle.digest("SHA-1", await new Blob([header, bytes]).arrayBuffer()));
        if (bytes.length < 1000) return { type: "file", path, size: bytes.length, oid };
        return {
          type: "file",
          path,
          size: bytes.length,
          oid,
          lfs: { oid: hex(await crypto.subtle.digest("SHA-256", bytes)), size: bytes.length },
        };
      });
      return Response.json(await Promise.all(list));
    }
    const bytes = files[pathname.split("/").at(-1) as string];
    const range = new Headers(init?.headers).get("range");
    if (bytes.length > 1000) ranges.push(range);
    const first = Number(/bytes=(\d+)/.exec(range ?? "")?.[1] ?? 0);
    let at = first;
    const body = new ReadableStream({
      pull(controller) {
        if (at >= bytes.length) return controller.close();
        if (at >= first + stopAfter) return controller.error(new TypeError("network error"));
        controller.enqueue(bytes.slice(at, at + (1 << 20)));
        at += 1 << 20;
      },
    });
    return new Response(body, {
      status: range ? 206 : 200,
      ...(range && { headers: { "content-range": `bytes ${first}-${bytes.length - 1}/${bytes.length}` } }),
    });
  };
  return { ranges, fetch: answer as typeof fetch };
}
const options = (store: HubOptions["store"], more: Partial<HubOptions>): HubOptions => ({ store, retryMs: 1, ...more });

describe("the hub in a browser", () => {
  it("stores files in parts, checks them, and reads them at any place", async () => {
    const store = directoryStore(await directory());
    const { fetch } = hub();
    const folder = await resolveModel(repo, "model", options(store, { fetch }));
    expect(await store.files.list(folder)).toEqual(["config.json", "model.safetensors", "tokenizer.json"]);
    expect(new TextDecoder().decode((await store.files.read(`${folder}/tokenizer.json`)) as Uint8Array)).toBe(
      '{"x": 1}',
    );
    const opened = await store.files.open(`${folder}/model.safetensors`);
    expect(opened?.size).toBe(weights.length);
    const [at, length] = [(16 << 20) - 5, 10]; // across two parts
    expect(await opened?.read(at, length)).toEqual(weights.slice(at, at + length));
    expect(await store.files.read(`${folder}/none`)).toBeNull();
    expect(await store.files.read("../config.json")).toBeNull();
    expect(await resolveModel(repo, "model", options(store, { offline: true }))).toBe(folder);
    await expect(store.files.remove(folder)).rejects.toThrow(/not written to/);
  });

  it("goes on from the last part after the page was closed", async () => {
    const place = await directory();
    const first = hub(20 << 20);
    const stop = new AbortController();
    const onProgress = (_: string, received: number) => {
      if (received >= 20 << 20) stop.abort();
    };
    await expect(
      resolveModel(
        repo,
        "model",
        options(directoryStore(place), { fetch: first.fetch, signal: stop.signal, onProgress }),
      ),
    ).rejects.toThrow();
    const again = hub();
    const store = directoryStore(place);
    const folder = await resolveModel(repo, "model", options(store, { fetch: again.fetch }));
    expect(again.ranges).toEqual([expect.stringMatching(/^bytes=(167|2)\d+-$/)]);
    expect((await store.files.open(`${folder}/model.safetensors`))?.size).toBe(weights.length);
  });

  it("lets one page at a time load a file, and both have all of it", async () => {
    const place = await directory();
    const held = new Map<string, Promise<unknown>>();
    if (!navigatorHasLocks) vi.stubGlobal("navigator", { locks: fakeLocks(held) });
    const { fetch, ranges } = hub();
    const load = () => resolveModel(repo, "model", options(directoryStore(place), { fetch }));
    const [one, other] = await Promise.all([load(), load()]);
    expect(one).toBe(other);
    expect(ranges).toEqual([null]); // large files were asked for once
    const store = directoryStore(place);
    expect((await store.files.list(one)).length).toBe(3);
    expect((await store.files.open(`${one}/model.safetensors`))?.size).toBe(weights.length);
    const stop = new AbortController();
    const first = await store.download(repo, "x");
    const second = store.download(repo, "x", stop.signal);
    stop.abort(new Error("enough"));
    await expect(second).rejects.toThrow("enough");
    await first.leave();
    await (await store.download(repo, "x")).leave();
  });

  it("asks for room before a large download, and says what the browser answers", async () => {
    const persist = vi.fn(async () => false);
    const storage = { estimate: async () => ({ quota: 50e6, usage: 1e6 }), persisted: async () => false, persist };
    vi.stubGlobal("navigator", { storage });
    vi.resetModules();
    const { makeRoom } = await import("../../src/runtime/storage-room.ts");
    const told: string[] = [];
    const load = async (quota: number) => {
      storage.estimate = async () => ({ quota, usage: 1e6 });
      const store = {
        ...directoryStore(new FakeDirectory() as unknown as FileSystemDirectoryHandle),
        reserve: makeRoom,
      };
      return resolveModel(repo, "model", options(store, { fetch: hub().fetch, say: (line) => told.push(line) }));
    };
    await load(50e6);
    await load(50e6);
    expect(persist).toHaveBeenCalledTimes(1);
    expect(told).toEqual([expect.stringMatching(/may delete the download/)]);
    const error = await load(40e6).catch((e) => e);
    expect(error).toSatisfy(isUserError);
    expect(error.message).toMatch(/cannot keep the download: .*39.0 MB are left, and 41.9 MB are needed/);
  });

  it("keeps nothing with a wrong hash", async () => {
    const store = directoryStore(await directory());
    const { fetch } = hub();
    const wrong: typeof fetch = async (input, init) =>
      String(input).endsWith("model.safetensors") ? new Response(new Uint8Array(weights.length)) : fetch(input, init);
    const error = await resolveModel(repo, "model", options(store, { fetch: wrong })).catch((e: Error) => e);
    expect(error).toSatisfy(isUserError);
    expect((error as Error).message).toMatch(/model.safetensors is not what the hub lists/);
    await resolveModel(repo, "model", options(store, { fetch }));
  });
});
