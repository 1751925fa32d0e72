import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type HubOptions, isUserError, parseRepo, type Repo, resolveDataset, resolveModel } from "webrlhf";
import { locateModel } from "webrlhf/open";
import { isSafeName } from "../../src/io/hub-client.ts";
import { diskStore, hubEnvironment } from "../../src/runtime/hub-disk.ts";
import { type FakeHub, fakeHub, gitSha1, sha256 } from "./fake-hub.ts";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const noise = (n: number, seed: number) =>
  Uint8Array.from({ length: n }, (_, i) => (i * 31 + seed * 17 + (i >> 7)) & 255);
const big = noise(300_000, 1);
const index = JSON.stringify({
  weight_map: { a: "model-00001-of-00002.safetensors", b: "model-00002-of-00002.safetensors" },
});

let hub: FakeHub;
let cache: string;
const options = (more: Partial<HubOptions> = {}): HubOptions => ({
  store: diskStore(cache),
  endpoint: hub.endpoint,
  retryMs: 1,
  ...more,
});
const repo = (text: string, kind: Repo["kind"] = "models") => parseRepo(text, kind) as Repo;
const blobs = () => readdir(join(cache, "models--org--tiny", "blobs"));
const failure = async (work: Promise<unknown>): Promise<Error> => {
  const error = await work.then(
    () => null,
    (e: Error) => e,
  );
  expect(error).toSatisfy(isUserError);
  return error as Error;
};

beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), "webrlhf-hub-"));
  hub = await fakeHub({
    "org/tiny": {
      commit: COMMIT,
      files: {
        "README.md": "# Tiny",
        "config.json": "{}",
        "generation_config.json": "{ }",
        "tokenizer.json": '{"t": 1}',
        "tokenizer_config.json": "{  }",
        "chat_template.jinja": "{{ messages }}",
        "model.safetensors": big,
        "pytorch_model.bin": noise(1000, 2),
        "onnx/model.onnx": noise(1000, 3),
      },
    },
    "org/shards": {
      commit: COMMIT,
      files: {
        "config.json": "{}",
        "tokenizer.json": "{}",
        "model.safetensors.index.json": index,
        "model-00001-of-00002.safetensors": noise(5000, 4),
        "model-00002-of-00002.safetensors": noise(5000, 5),
      },
    },
    "org/closed": {
      commit: COMMIT,
      private: true,
      files: { "config.json": "{}", "tokenizer.json": "{}", "model.safetensors": big },
    },
    "org/gguf": { commit: COMMIT, files: { "a.gguf": noise(500, 6), "README.md": "x" } },
    "org/torch": {
      commit: COMMIT,
      files: {
        "config.json": "{}",
        "tokenizer.json": "{}",
        "pytorch_model.bin": noise(50, 8),
        "flax_model.msgpack": "x",
      },
    },
    "org/other": {
      commit: COMMIT,
      files: { "config.json": "{}", "a.bin": noise(500, 7), "a.gguf": noise(5, 1), "b.gguf": noise(5, 2) },
    },
    "datasets/org/data": {
      commit: COMMIT,
      files: {
        "README.md":
          "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n  - split: test\n    path: data/test-*\n---\n",
        "data/train-00000-of-00002.jsonl": '{"text":"a"}\n',
        "data/train-00001-of-00002.jsonl": '{"text":"b"}\n',
        "data/test-00000-of-00001.jsonl": '{"text":"c"}\n',
      },
    },
  });
});
afterEach(async () => {
  await hub.close();
  await rm(cache, { recursive: true });
});

describe("names", () => {
  it("are org/name, with a revision or without", () => {
    expect(parseRepo("org/name")).toEqual({ kind: "models", id: "org/name", revision: "main" });
    expect(parseRepo("org/name@v1.0")?.revision).toBe("v1.0");
    expect(parseRepo("org/name@refs/pr/1", "datasets")).toEqual({
      kind: "datasets",
      id: "org/name",
      revision: "refs/pr/1",
    });
    expect(parseRepo("gpt2", "models", "abc")).toEqual({ kind: "models", id: "gpt2", revision: "abc" });
    for (const bad of [
      "a/b/c",
      "../x",
      "/abs/path",
      "./x",
      "org/..",
      "org/a--b",
      "org/x@../../y",
      "org/x@a//b",
      "a b",
      "org/",
      "C:\\x",
      "org/x@/etc",
    ])
      expect(parseRepo(bad), bad).toBeNull();
  });

  it("say which of many GGUF files is meant", () => {
    const models = { kind: "models", id: "org/name", revision: "main" };
    expect(parseRepo("org/name:Q4_K_M")).toEqual({ ...models, file: "Q4_K_M" });
    expect(parseRepo("org/name@v1:Q8_0")).toEqual({ ...models, revision: "v1", file: "Q8_0" });
    expect(parseRepo("org/name/a.Q4_0.gguf")).toEqual({ ...models, file: "a.Q4_0.gguf" });
    expect(parseRepo("hf://org/name/sub/a.gguf@v1")).toEqual({ ...models, revision: "v1", file: "sub/a.gguf" });
    for (const bad of ["org/name:", "org/name:a/b", "org/name/a.gguf:Q4_0", "org/name/../a.gguf", "org/name//a.gguf"]) {
      expect(parseRepo(bad), bad).toBeNull();
    }
    expect(parseRepo("org/name:Q4_0", "datasets")).toBeNull();
  });

  it("of files stay below their folder", () => {
    for (const good of ["a", "a/b.c", "data/train-00000-of-00001.parquet", "ü/ö"])
      expect(isSafeName(good), good).toBe(true);
    for (const bad of ["", "/a", "../a", "a/../b", "a//b", "a\\b", "C:a", "a/", ".", "a\0b", "a ", "x/.", "a:b"])
      expect(isSafeName(bad), bad).toBe(false);
  });
});

describe("resolveModel", () => {
  it("loads what is needed into the standard cache, once", async () => {
    const progress: string[] = [];
    const onProgress = (file: string, received: number, total: number) => {
      if (received === total) progress.push(file);
    };
    const folder = await resolveModel(repo("org/tiny"), "model", options({ onProgress }));
    expect(folder).toBe(join(cache, "models--org--tiny", "snapshots", COMMIT));
    expect((await readdir(folder)).sort()).toEqual([
      "chat_template.jinja",
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    expect(progress).toContain("model.safetensors");
    expect((await readFile(join(folder, "model.safetensors"))).equals(big)).toBe(true);
    expect(await readFile(join(cache, "models--org--tiny", "refs", "main"), "utf8")).toBe(COMMIT);
    expect((await lstat(join(folder, "config.json"))).isSymbolicLink()).toBe(true);
    expect(await readlink(join(folder, "model.safetensors"))).toBe(join("..", "..", "blobs", sha256(big)));
    expect(await readlink(join(folder, "config.json"))).toBe(
      join("..", "..", "blobs", gitSha1(new TextEncoder().encode("{}"))),
    );
    const before = hub.requests.length;
    expect(await resolveModel(repo("org/tiny"), "model", options())).toBe(folder);
    expect(await resolveModel(repo(`org/tiny@${COMMIT}`), "model", options({ offline: true }))).toBe(folder);
    expect(hub.requests.length).toBe(before);
  });

  it("loads the tokenizer alone where that is all, and the rest when it is needed", async () => {
    const folder = await resolveModel(repo("org/tiny"), "tokenizer", options());
    expect((await readdir(folder)).sort()).toEqual(["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]);
    await failure(resolveModel(repo("org/tiny"), "model", options({ offline: true })));
    await resolveModel(repo("org/tiny"), "model", options());
    expect(await readdir(folder)).toContain("model.safetensors");
    expect(hub.requests.filter(({ path }) => path.endsWith("/tokenizer.json"))).toHaveLength(1);
  });

  it("takes all shards of an index, or the one GGUF file", async () => {
    const folder = await resolveModel(repo("org/shards"), "model", options());
    expect(await readdir(folder)).toHaveLength(5);
    const torch = await resolveModel(repo("org/torch"), "model", options());
    expect(await readdir(torch)).toEqual(["config.json", "pytorch_model.bin", "tokenizer.json"]);
    const file = await resolveModel(repo("org/gguf"), "model", options());
    expect(file.endsWith(`${COMMIT}/a.gguf`)).toBe(true);
    expect((await failure(resolveModel(repo("org/other"), "model", options()))).message).toMatch(
      /org\/other has 2 GGUF files: say which one, as org\/other\/a.gguf; there are a.gguf, b.gguf/,
    );
    // A cache with one shard missing is not complete.
    await rm(join(folder, "model-00002-of-00002.safetensors"));
    await failure(resolveModel(repo("org/shards"), "model", options({ offline: true })));
    await resolveModel(repo("org/shards"), "model", options());
    expect(await readdir(folder)).toHaveLength(5);
  });

  it("takes the GGUF file that is meant of many, and says which there are", async () => {
    const gguf = (seed: number) => noise(500, seed);
    const names = [
      "tiny-Q4_K_M.gguf",
      "tiny.q8_0.gguf",
      "mmproj-tiny-f16.gguf",
      "a/tiny-IQ2_XS.gguf",
      "b/tiny-IQ2_XS.gguf",
    ];
    hub.repos["org/many"] = {
      commit: COMMIT,
      files: {
        "config.json": "{}",
        "tokenizer.json": "{}",
        ...Object.fromEntries(names.map((name, i) => [name, gguf(i)])),
      },
    };
    const one = async (text: string, file?: string) => {
      const path = await resolveModel(repo(text), "model", { ...options(), ...(file && { file }) });
      return path.slice(path.indexOf(COMMIT) + COMMIT.length + 1);
    };
    expect(await one("org/many:q4_k_m")).toBe("tiny-Q4_K_M.gguf");
    expect(await one("org/many:Q8_0")).toBe("tiny.q8_0.gguf");
    expect(await one("org/many", "Q8_0")).toBe("tiny.q8_0.gguf");
    expect(await one("org/many/a/tiny-IQ2_XS.gguf")).toBe("a/tiny-IQ2_XS.gguf");
    expect(hub.requests.filter(({ path, host }) => host === "store" && path.includes("resolve"))).toHaveLength(3);
    const message = async (text: string) => (await failure(resolveModel(repo(text), "model", options()))).message;
    expect(await message("org/many")).toMatch(
      /5 GGUF files: say which one, as org\/many:Q4_K_M or org\/many\/tiny-Q4_K_M.gguf; there are .*q8_0/,
    );
    expect(await message("org/many:Q5_0")).toMatch(/has no quantization Q5_0.*tiny-Q4_K_M.gguf, tiny.q8_0.gguf/);
    expect(await message("org/many:F16")).toMatch(/has no quantization F16/); // the one of images is no model
    expect(await message("org/many:IQ2_XS")).toMatch(/2 files are IQ2_XS: name one, as org\/many\/a\/tiny-IQ2_XS.gguf/);
    expect(await message("org/many/none.gguf")).toMatch(/has no none.gguf; /);
    expect(await message("org/tiny:Q4_0")).toMatch(/has no .gguf file/);
    expect(await resolveModel(repo("org/many:Q8_0"), "model", options({ offline: true }))).toMatch(/tiny.q8_0.gguf$/);
  });

  it("has one name for a file among many wherever models are named", async () => {
    hub.repos["org/many"] = { commit: COMMIT, files: { "a-Q4_0.gguf": noise(500, 1), "a-Q8_0.gguf": noise(500, 2) } };
    const around = { hub: { endpoint: hub.endpoint, store: diskStore(cache) } };
    const at = await locateModel("org/many:Q8_0", "model", around);
    expect(at).toMatchObject({ name: "org/many:Q8_0", main: true });
    expect(new Uint8Array((await at.files.read(at.path)) as Uint8Array)).toEqual(noise(500, 2));
    expect((await locateModel("org/many/a-Q8_0.gguf", "model", around)).path).toBe(at.path);
    expect((await locateModel("hf://org/many/a-Q8_0.gguf", "model", around)).path).toBe(at.path);
  });

  it("refuses shards outside the folder", async () => {
    hub.repos["org/shards"].files["model.safetensors.index.json"] = JSON.stringify({
      weight_map: { a: "../../../evil" },
    });
    expect((await failure(resolveModel(repo("org/shards"), "model", options()))).message).toMatch(
      /names a shard "..\/..\/..\/evil"/,
    );
  });

  it("skips files whose names lead elsewhere", async () => {
    hub.repos["org/tiny"].files["../../escape"] = "x";
    await resolveModel(repo("org/tiny"), "model", options());
    expect(await readdir(cache)).toEqual(["models--org--tiny"]);
  });

  it("goes on with a body that breaks off", async () => {
    let sent = 0;
    hub.trouble = (path, request, response, bytes) => {
      if (path !== "model.safetensors" || sent++ > 2) return false;
      const first = Number(/bytes=(\d+)-/.exec(request.headers.range ?? "bytes=0-")?.[1]);
      response.writeHead(first > 0 ? 206 : 200, {
        "content-length": bytes.length - first,
        ...(first > 0 && { "content-range": `bytes ${first}-${bytes.length - 1}/${bytes.length}` }),
      });
      response.write(bytes.subarray(first, first + 70_000), () => response.destroy());
      return true;
    };
    const folder = await resolveModel(repo("org/tiny"), "model", options());
    expect((await readFile(join(folder, "model.safetensors"))).equals(big)).toBe(true);
    const ranges = hub.requests.filter(({ path, host }) => host === "store" && path.endsWith("model.safetensors"));
    expect(ranges.length).toBe(4);
    expect(ranges.slice(1).every(({ range }) => range !== undefined)).toBe(true);
  });

  it("goes on where an earlier program stopped, Python's too, and where a killed one left its part", async () => {
    const folder = join(cache, "models--org--tiny", "blobs");
    for (const name of [`${sha256(big)}.incomplete`, `${sha256(big)}.999999999-abcdef.incomplete`]) {
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, name), big.subarray(0, 123_456));
      hub.requests.length = 0;
      await resolveModel(repo("org/tiny"), "model", options());
      const asked = hub.requests.filter(({ path, host }) => host === "store" && path.endsWith("model.safetensors"));
      expect(asked.map(({ range }) => range)).toEqual(["bytes=123456-"]);
      await rm(cache, { recursive: true });
    }
    await mkdir(cache, { recursive: true });
  });

  it("starts again with a server that knows no ranges", async () => {
    const folder = join(cache, "models--org--tiny", "blobs");
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, `${sha256(big)}.incomplete`), big.subarray(0, 1000));
    hub.trouble = (path, _, response, bytes) => {
      if (path !== "model.safetensors") return false;
      response.writeHead(200, { "content-length": bytes.length });
      response.end(bytes);
      return true;
    };
    await resolveModel(repo("org/tiny"), "model", options());
    expect((await blobs()).filter((name) => name.includes("incomplete"))).toEqual([]);
  });

  it("keeps nothing with a wrong hash, whether it was sent or lay there", async () => {
    hub.trouble = (path, _, response) => path === "config.json" && Boolean(response.end("[]"));
    expect((await failure(resolveModel(repo("org/tiny"), "model", options()))).message).toMatch(
      /config.json .* git sha1/,
    );
    hub.trouble = (path, _, response, bytes) => {
      if (path !== "model.safetensors") return false;
      const wrong = bytes.slice();
      wrong[1000] ^= 1;
      response.end(wrong);
      return true;
    };
    expect((await failure(resolveModel(repo("org/tiny"), "model", options()))).message).toMatch(
      /org\/tiny: model.safetensors is not what the hub lists: its sha256 is [0-9a-f]{64}, not/,
    );
    expect((await blobs()).some((name) => name.startsWith(sha256(big)))).toBe(false);
    hub.trouble = null;
    await writeFile(join(cache, "models--org--tiny", "blobs", `${sha256(big)}.incomplete`), noise(big.length, 9));
    expect((await failure(resolveModel(repo("org/tiny"), "model", options()))).message).toMatch(
      /not what the hub lists/,
    );
    await resolveModel(repo("org/tiny"), "model", options());
  });

  it("refuses a body that does not end", async () => {
    hub.trouble = (path, _, response, bytes) => {
      if (path !== "model.safetensors") return false;
      response.write(bytes);
      const more = setInterval(() => response.write(bytes), 1);
      response.on("close", () => clearInterval(more));
      return true;
    };
    expect((await failure(resolveModel(repo("org/tiny"), "model", options()))).message).toMatch(
      /longer than the 300000 bytes/,
    );
  });

  it("keeps what it has when it is stopped", async () => {
    const stop = new AbortController();
    hub.trouble = (path, _, response, bytes) => {
      if (path !== "model.safetensors") return false;
      response.writeHead(200, { "content-length": bytes.length });
      response.write(bytes.subarray(0, 100_000));
      return true;
    };
    const onProgress = (file: string) => {
      if (file === "model.safetensors") stop.abort();
    };
    await expect(
      resolveModel(repo("org/tiny"), "model", options({ signal: stop.signal, onProgress })),
    ).rejects.toThrow();
    expect(await blobs()).toContain(`${sha256(big)}.incomplete`);
    hub.trouble = null;
    hub.requests.length = 0;
    await resolveModel(repo("org/tiny"), "model", options());
    expect(
      hub.requests.find(({ path, host }) => host === "store" && path.endsWith("model.safetensors"))?.range,
    ).toMatch(/bytes=\d\d+-/);
  });

  it("tries again after errors of the server, not for ever", async () => {
    let errors = 2;
    hub.trouble = (path, _, response) => {
      if (path !== "config.json" || errors-- <= 0) return false;
      response.writeHead(503).end();
      return true;
    };
    await resolveModel(repo("org/tiny"), "model", options());
    const refuse = (async () => {
      throw new TypeError("fetch failed", { cause: new Error("getaddrinfo ENOTFOUND hub") });
    }) as typeof fetch;
    const { message } = await failure(resolveModel(repo("org/none"), "model", options({ fetch: refuse })));
    expect(message).toMatch(
      /org\/none: there is no such model here, and .* cannot be reached: fetch failed, getaddrinfo ENOTFOUND hub/,
    );
  }, 20_000);

  it("names all ways to supply a model that is missing", async () => {
    const unknown = (await failure(resolveModel(repo("org/none@v2"), "model", options()))).message;
    const offline = (await failure(resolveModel(repo("org/none"), "model", options({ offline: true })))).message;
    expect(unknown).toMatch(/^org\/none@v2: there is no such model here, and .*has no such repository/);
    for (const message of [unknown, offline]) {
      expect(message).toMatch(/path of a folder with config.json and weights, or a .gguf file/);
      expect(message).toContain(`the cache in ${cache}, which "hf download org/none" fills`);
      expect(message).toMatch(/org\/name with the network allowed, with HF_TOKEN set .* HF_ENDPOINT/);
    }
    expect(offline).toMatch(/--offline or HF_HUB_OFFLINE/);
    expect(hub.requests.every(({ path }) => !path.includes("org/none/resolve"))).toBe(true);
  });

  it("shows the token to the hub only", async () => {
    expect((await failure(resolveModel(repo("org/closed"), "model", options()))).message).toMatch(
      /HF_TOKEN is not set/,
    );
    expect((await failure(resolveModel(repo("org/closed"), "model", options({ token: "wrong" })))).message).toMatch(
      /HF_TOKEN is not accepted/,
    );
    await resolveModel(repo("org/closed"), "model", options({ token: "secret" }));
    const store = hub.requests.filter(({ host }) => host === "store");
    expect(store.length).toBeGreaterThan(0);
    expect(store.every(({ token }) => token === undefined)).toBe(true);
  });

  it("says so when the endpoint is no hub", async () => {
    const page = (async () => new Response("<html>Hello</html>")) as typeof fetch;
    expect((await failure(resolveModel(repo("org/tiny"), "model", options({ fetch: page })))).message).toMatch(
      /does not answer in JSON/,
    );
    const empty = (async () => new Response("{}")) as typeof fetch;
    expect((await failure(resolveModel(repo("org/tiny"), "model", options({ fetch: empty })))).message).toMatch(
      /names no commit/,
    );
  });

  it("lets two at once share one cache", async () => {
    const both = await Promise.all([0, 1].map(() => resolveModel(repo("org/tiny"), "model", options())));
    expect(both[0]).toBe(both[1]);
    expect((await readFile(join(both[0], "model.safetensors"))).equals(big)).toBe(true);
    expect((await blobs()).filter((name) => name.includes("incomplete"))).toEqual([]);
  });
});

describe("resolveDataset", () => {
  it("loads the files of the splits", async () => {
    const folder = await resolveDataset(repo("org/data", "datasets"), { splits: ["train"] }, options());
    expect(folder).toBe(join(cache, "datasets--org--data", "snapshots", COMMIT));
    expect((await readdir(join(folder, "data"))).sort()).toEqual([
      "train-00000-of-00002.jsonl",
      "train-00001-of-00002.jsonl",
    ]);
    const both = { splits: ["train", "test"] };
    await failure(resolveDataset(repo("org/data", "datasets"), both, options({ offline: true })));
    await resolveDataset(repo("org/data", "datasets"), both, options());
    expect(await readdir(join(folder, "data"))).toHaveLength(3);
    await resolveDataset(repo("org/data", "datasets"), both, options({ offline: true }));
    expect(
      (await failure(resolveDataset(repo("org/data", "datasets"), { splits: ["dev"] }, options()))).message,
    ).toMatch(/org\/data: there is no split "dev"; it has train, test/);
  });
});

describe("hubEnvironment", () => {
  it("reads what Python reads", async () => {
    const { cache: where, ...rest } = await hubEnvironment({ HF_HOME: join(cache, "home") });
    expect([where, rest]).toEqual([join(cache, "home", "hub"), { offline: false, endpoint: undefined, token: null }]);
    await mkdir(join(cache, "home"));
    await writeFile(join(cache, "home", "token"), " hf_abc\n");
    const env = { HF_HOME: join(cache, "home"), HF_HUB_CACHE: "/c", HF_HUB_OFFLINE: "1", HF_ENDPOINT: "http://m" };
    expect(await hubEnvironment(env)).toEqual({ cache: "/c", offline: true, endpoint: "http://m", token: "hf_abc" });
    expect((await hubEnvironment({ XDG_CACHE_HOME: "/x", HF_TOKEN: "t" })).cache).toBe("/x/huggingface/hub");
    expect((await hubEnvironment({ HUGGINGFACE_HUB_CACHE: "/h", HF_HUB_OFFLINE: "0" })).cache).toBe("/h");
  });
});
