// Zip files out and in, and those that are made to do harm.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  contentsOf,
  droppedFiles,
  type Files,
  fileListFiles,
  isUserError,
  memoryFiles,
  type UnzipLimits,
  unzipFiles,
  urlFiles,
  zipFiles,
  zipStream,
} from "webrlhf";
import { crc32 } from "../../src/runtime/crc32.ts";

const text = (bytes: Uint8Array | null | undefined) => bytes && new TextDecoder().decode(bytes);
const utf8 = (content: string) => new TextEncoder().encode(content);

/** What one file of a zip file says, true or not. */
interface Claim {
  name: string;
  data?: Uint8Array<ArrayBuffer>;
  /** Of the data as they stand there: 0 is stored, 8 deflated. */
  method?: number;
  size?: number;
  crc?: number;
  mode?: number;
  flags?: number;
  localName?: string;
  /** Where its data are, if not where they were written. */
  offset?: number;
}

/** A zip file as somebody could write it by hand. */
function zipOf(claims: Claim[]): Blob {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  const directory: Uint8Array<ArrayBuffer>[] = [];
  let at = 0;
  const put = (
    to: Uint8Array<ArrayBuffer>[],
    ...fields: (readonly [bytes: number, value: number] | Uint8Array<ArrayBuffer>)[]
  ) => {
    let length = 0;
    for (const field of fields) {
      const bytes =
        field instanceof Uint8Array
          ? field
          : Uint8Array.from({ length: field[0] }, (_, i) => (field[1] / 256 ** i) & 255);
      to.push(bytes);
      length += bytes.length;
    }
    return length;
  };
  for (const {
    name,
    data = new Uint8Array(),
    method = 0,
    size = data.length,
    mode = 0,
    flags = 0x800,
    ...more
  } of claims) {
    const { crc = crc32(data), localName = name } = more;
    const offset = more.offset ?? at;
    const common = [
      [2, flags],
      [2, method],
      [4, 0x00210000],
      [4, crc],
      [4, data.length],
      [4, size],
    ] as const;
    at += put(parts, [4, 0x04034b50], [2, 20], ...common, [2, utf8(localName).length], [2, 0], utf8(localName), data);
    put(
      directory,
      ...([
        [4, 0x02014b50],
        [2, 0x0314],
        [2, 20],
        ...common,
        [2, utf8(name).length],
        [2, 0],
        [2, 0],
        [2, 0],
        [2, 0],
      ] as const),
      ...([[4, mode * 65536], [4, offset], utf8(name)] as const),
    );
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  const end: Uint8Array<ArrayBuffer>[] = [];
  put(end, [4, 0x06054b50], [2, 0], [2, 0], [2, claims.length], [2, claims.length], [4, length], [4, at], [2, 0]);
  return new Blob([...parts, ...directory, ...end]);
}

async function deflated(data: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([data]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function refusal(make: () => Promise<unknown>): Promise<string> {
  const error = await make().then(
    () => null,
    (e) => e,
  );
  expect(error).toSatisfy(isUserError);
  return error.message;
}

async function everything(files: Files, folder = "."): Promise<Record<string, number[]>> {
  const all: Record<string, number[]> = {};
  for (const name of await files.list(folder)) {
    const path = folder === "." ? name : `${folder}/${name}`;
    const content = await files.read(path);
    if (content) all[path] = [...content];
    else Object.assign(all, await everything(files, path));
  }
  return all;
}

describe("zip files", () => {
  it("come back as they were, whatever is in them", async () => {
    const name = fc.constantFrom("a.txt", "model.safetensors", "s/b.json", "s/t/c", "ä/猫", "d e");
    await fc.assert(
      fc.asyncProperty(fc.dictionary(name, fc.uint8Array({ maxLength: 3000 })), async (contents) => {
        const blob = await new Response(zipStream(contents)).blob();
        const files = await unzipFiles(blob);
        expect(await everything(files)).toEqual(
          Object.fromEntries(Object.entries(contents).map(([path, bytes]) => [path, [...bytes]])),
        );
      }),
      { numRuns: 30 },
    );
  });

  it("hold files and whole folders, weights as they are", async () => {
    const files = memoryFiles();
    const weights = new Uint8Array(100_000);
    await files.writeFolder("run/model", { "model.safetensors": weights, "config.json": `{${" ".repeat(5000)}}` });
    await files.writeFile("run/log.jsonl", "1\n");
    await files.writeFile("run/model.partial-7", "half");
    await files.writeFile("other", "2");
    const seen: number[] = [];
    const blob = await zipFiles(files, ["run", "other"], { progress: (done) => seen.push(done) });
    expect(blob.type).toBe("application/zip");
    expect(seen.at(-1)).toBe(weights.length + 5002 + 2 + 1);
    expect(blob.size).toBeGreaterThan(weights.length);
    expect(blob.size).toBeLessThan(weights.length + 1500);
    const again = await unzipFiles(blob);
    expect(Object.keys(await everything(again)).sort()).toEqual([
      "other",
      "run/log.jsonl",
      "run/model/config.json",
      "run/model/model.safetensors",
    ]);
    const opened = await again.open("run/model/model.safetensors");
    expect(opened?.size).toBe(weights.length);
    expect(await opened?.read(99_990, 50)).toEqual(weights.slice(99_990));
    await expect(again.writeFile("x", "1")).rejects.toThrow(/only be read/);
    expect(await again.read("none")).toBeNull();
    expect(await refusal(() => zipFiles(files, ["none"]))).toMatch(/none is missing/);
  });

  it("are made while they are read, and stop when they are told to", async () => {
    let made = 0;
    const endless = async function* () {
      for (;;) {
        made++;
        yield new Uint8Array(1 << 16);
      }
    };
    const stop = new AbortController();
    const reader = zipStream({ "a.bin": endless() }, { signal: stop.signal }).getReader();
    for (let i = 0; i < 10; i++) await reader.read();
    expect(made).toBeLessThan(100);
    stop.abort(new Error("enough"));
    await expect(
      (async () => {
        for (;;) if ((await reader.read()).done) return;
      })(),
    ).rejects.toThrow("enough");
    const fail = (): never => {
      throw new Error("broke off");
    };
    const broken = async function* () {
      yield utf8("x");
      fail();
    };
    await expect(zipStream({ a: broken() }).pipeTo(new WritableStream())).rejects.toThrow("broke off");
    const files = memoryFiles();
    await files.writeFile("a", "1");
    const failing = { ...files, open: async () => ({ size: 1, read: async () => fail(), close: async () => {} }) };
    await expect(zipFiles(failing, ["a"])).rejects.toThrow("broke off");
    expect(await contentsOf(memoryFiles(), [])).toEqual({});
  });
});

describe("a zip file that is made to do harm", () => {
  const one = (claim: Partial<Claim>): Blob => zipOf([{ name: "a", data: utf8("hello"), ...claim }]);
  const cases: [string, () => Blob | Promise<Blob>, RegExp, UnzipLimits?][] = [
    ["leads out", () => one({ name: "../a" }), /leads out of the folder/],
    ["leads out further in", () => one({ name: "b/../../a" }), /leads out of the folder/],
    ["leads out the Windows way", () => one({ name: "b\\..\\..\\a" }), /cannot have/],
    ["is absolute", () => one({ name: "/etc/a" }), /not inside/],
    ["is on a drive", () => one({ name: "C:/a" }), /not inside/],
    ["has an empty part", () => one({ name: "a//b" }), /empty part/],
    ["has a NUL", () => one({ name: "a\0b" }), /cannot have/],
    ["has a link", () => one({ mode: 0o120777 }), /a is a link/],
    ["has a file twice", () => zipOf([{ name: "a" }, { name: "a" }]), /two files a|ambiguous/i],
    ["has a file twice in two spellings", () => zipOf([{ name: "a" }, { name: "./a" }]), /two files a/],
    ["has a file that is a folder", () => zipOf([{ name: "a" }, { name: "a/b" }]), /a is a file and a folder/],
    ["is encrypted", () => one({ flags: 0x801 }), /encrypted/],
    ["is compressed in another way", () => one({ method: 14 }), /unusual way/],
    ["says two sizes", () => one({ size: 6 }), /two sizes/],
    [
      "has too many files",
      () => zipOf([{ name: "a" }, { name: "b" }, { name: "c" }]),
      /more than 2 files/,
      { maxFiles: 2 },
    ],
    ["has too many bytes", () => one({}), /more than 4 bytes/, { maxBytes: 4 }],
    ["declares a bomb", () => one({ method: 8, size: 2 ** 31 }), /would have 2147483648 bytes/],
    [
      "uses bytes twice",
      () =>
        zipOf([
          { name: "a", data: utf8("hello") },
          { name: "b", localName: "a", data: utf8("hello"), offset: 0 },
        ]),
      /overlap/,
    ],
    ["is none", () => new Blob(["no zip file at all, but some text"]), /it is none, or it is cut off/],
    ["is empty", () => new Blob([]), /it is none, or it is cut off/],
    ["has something before it", () => new Blob(["MZ", one({})]), /it is none, or it is cut off/],
    ["has something after it", () => new Blob([one({}), "more"]), /it is none, or it is cut off/],
  ];
  it.each(cases)("%s: refused before anything is read", async (_, make, why, limits) => {
    const blob = await make();
    const message = await refusal(() => unzipFiles(blob, limits));
    expect(message).toMatch(/^cannot unpack the zip file: /);
    expect(message).toMatch(why);
  });

  it("was cut off: refused wherever", async () => {
    const whole = await new Response(zipStream({ a: "hello", "b/c": "world" })).blob();
    for (let size = 0; size < whole.size; size++) {
      expect(await refusal(() => unzipFiles(whole.slice(0, size)))).toMatch(/^cannot unpack the zip file: /);
    }
  });

  it("unpacks to more or less than it says: refused when it is read", async () => {
    const zeros = new Uint8Array(5_000_000);
    const data = await deflated(zeros);
    const claim = { name: "a", method: 8, data, crc: crc32(zeros) };
    for (const size of [10, 4_999_999, 5_000_001]) {
      const files = await unzipFiles(zipOf([{ ...claim, size }]));
      expect(await refusal(() => files.read("a"))).toMatch(/a is (larger|smaller) than it says|damaged/);
    }
    const files = await unzipFiles(zipOf([{ ...claim, size: zeros.length }]));
    expect((await files.read("a"))?.length).toBe(zeros.length);
  });

  it("has other bytes than it says: refused when it is read", async () => {
    const data = await deflated(utf8("hello"));
    for (const claim of [
      { name: "a", data: utf8("hello"), crc: 1 },
      { name: "a", data, method: 8, size: 5, crc: 1 },
      { name: "a", data: data.map((byte) => byte ^ 255), method: 8, size: 5, crc: crc32(utf8("hello")) },
    ]) {
      const files = await unzipFiles(zipOf([claim]));
      expect(await refusal(() => files.read("a"))).toMatch(/a is damaged/);
    }
    const lying = await unzipFiles(
      zipOf([{ name: "a", localName: "b", data, method: 8, size: 5, crc: crc32(utf8("hello")) }]),
    );
    expect(await refusal(() => lying.read("a"))).toMatch(/a is damaged/);
  });

  it("gives no file a wrong content, whichever byte is changed", async () => {
    const contents = { "a.bin": utf8("some stored bytes"), "b.txt": utf8("some other bytes, which are compressed") };
    const whole = new Uint8Array(await new Response(zipStream(contents)).arrayBuffer());
    for (let at = 0; at < whole.length; at++) {
      const changed = whole.slice();
      changed[at] ^= 0x41;
      for (const [name, bytes] of Object.entries(contents)) {
        const read = await unzipFiles(new Blob([changed]))
          .then((files) => files.read(name))
          .catch((error) => {
            expect(error).toSatisfy(isUserError);
            return null;
          });
        if (read) expect(text(read), `byte ${at}`).toBe(text(bytes));
      }
    }
  });
});

describe("picked files", () => {
  const file = (path: string, content: string) =>
    Object.defineProperty(new File([content], path.split("/").at(-1) as string), "webkitRelativePath", {
      value: path.includes("/") ? path : "",
    });

  it("are inside of the folder that was picked", async () => {
    const files = fileListFiles([file("m/config.json", "{}"), file("m/s/a", "1")]);
    expect(await files.list(".")).toEqual(["config.json", "s"]);
    expect(text(await files.read("./config.json"))).toBe("{}");
    expect(text(await files.read("s/a"))).toBe("1");
    expect(await files.read("m/config.json")).toBeNull();
    await expect(files.read("../x")).rejects.toThrow(/leads out/);
    await expect(files.remove("s/a")).rejects.toThrow(/only be read/);
    expect(await fileListFiles([file("a", "1"), file("b", "2")]).list(".")).toEqual(["a", "b"]);
    expect(() => fileListFiles([file("a", "1"), file("a", "2")])).toThrow(/two files a/);
  });

  it("come out of dropped folders, however many a browser gives at a time", async () => {
    const entry = (path: string, content?: string) => {
      const rest = content === undefined ? Array.from({ length: 250 }, (_, i) => entry(`${path}/f${i}`, `${i}`)) : [];
      return {
        fullPath: path,
        isDirectory: content === undefined,
        file: (resolve: (file: File) => void) => resolve(new File([content ?? ""], path)),
        createReader: () => ({ readEntries: (resolve: (some: unknown[]) => void) => resolve(rest.splice(0, 100)) }),
      };
    };
    const items = [{ kind: "file", webkitGetAsEntry: () => entry("/m") }, { kind: "string" }];
    const files = await droppedFiles(items as unknown as DataTransferItem[]);
    expect(await files.list(".")).toHaveLength(250);
    expect(text(await files.read("f249"))).toBe("249");
  });
});

describe("files below an address", () => {
  it("are read in ranges, and none above it", async () => {
    const asked: string[] = [];
    const answer = async (input: string | URL | Request, init?: RequestInit) => {
      asked.push(`${input} ${new Headers(init?.headers).get("range")}`);
      if (String(input).endsWith("/a%20b"))
        return new Response("h", { status: 206, headers: { "content-range": "bytes 0-0/5" } });
      return new Response("<!doctype html>", { headers: { "content-type": "text/html; charset=utf-8" } });
    };
    const files = urlFiles("https://example.org/m/", answer as typeof fetch);
    expect((await files.open("./s/a b"))?.size).toBe(5);
    expect(asked).toEqual(["https://example.org/m/s/a%20b bytes=0-0"]);
    expect(await files.read("none.json")).toBeNull(); // a server of an app, which answers everything with its page
    expect(text(await files.read("x.html"))).toBe("<!doctype html>");
    for (const path of ["../x", "/x", "a/../../x"]) await expect(files.read(path)).rejects.toThrow(/folder/);
    expect(asked).toHaveLength(3);
  });
});
