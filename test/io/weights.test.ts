import { describe, expect, it } from "vitest";
import { type Files, isUserError, memoryFiles, type OpenFile, parseSafetensors, writeSafetensors } from "webrlhf";
import { removeStaleWeights, weightFiles } from "../../src/io/model-files.ts";
import { streamSafetensors, type TensorToWrite } from "../../src/io/safetensors-write.ts";
import { INDEX_FILE, openWeights } from "../../src/io/weights.ts";

const values = (n: number, from = 0) => Float32Array.from({ length: n }, (_, i) => from + i / 8);

const tensors = {
  "a.weight": { shape: [4, 3], data: values(12) },
  "b.bias": { shape: [5], data: values(5, 20) },
  "c.weight": { shape: [2, 2, 2], data: values(8, 40) },
};
const toWrite = (dtype: "F32" | "BF16" | "F16" = "F32"): TensorToWrite[] =>
  Object.entries(tensors).map(([name, { shape, data }]) => ({ name, shape, dtype, read: async () => data }));

/** A folder of sharded weights, and what went through its open files. */
async function sharded(limit: number, edit: (index: { weight_map: Record<string, string> }) => void = () => {}) {
  const files = memoryFiles();
  await files.writeFolder("m", weightFiles(toWrite(), limit));
  const content = await files.read(`m/${INDEX_FILE}`);
  if (content) {
    const index = JSON.parse(new TextDecoder().decode(content));
    edit(index);
    await files.writeFile(`m/${INDEX_FILE}`, JSON.stringify(index));
  }
  return files;
}

/** Counts open files, and the bytes that were read. */
function watched(files: Files) {
  const seen = { open: 0, bytes: 0, largest: 0 };
  const open = async (path: string): Promise<OpenFile | null> => {
    const file = await files.open(path);
    if (!file) return null;
    seen.open += 1;
    return {
      size: file.size,
      read: (offset, length) => {
        seen.bytes += length;
        seen.largest = Math.max(seen.largest, length);
        return file.read(offset, length);
      },
      close: async () => {
        seen.open -= 1;
      },
    };
  };
  return { files: { ...files, open }, seen };
}

async function refusal(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => new Error("it was accepted"),
    (e) => e,
  );
  expect(isUserError(error), error.stack).toBe(true);
  return error.message;
}

describe("writing", () => {
  it("streams the bytes that are written at once", async () => {
    const files = memoryFiles();
    await files.writeFile("x", streamSafetensors(toWrite()));
    expect(await files.read("x")).toEqual(writeSafetensors(tensors));
    await files.writeFile("x", streamSafetensors(toWrite("BF16")));
    expect(await files.read("x")).toEqual(writeSafetensors(tensors, undefined, { dtype: "BF16" }));
  });

  it("reads large tensors by rows", async () => {
    const [rows, width] = [5, 1 << 20]; // 4 MiB each
    const data = Float32Array.from({ length: rows * width }, (_, i) => i % 1000);
    const asked: [number, number][] = [];
    const tensor: TensorToWrite = {
      name: "w",
      shape: [rows, width],
      dtype: "BF16",
      read: async () => {
        throw new Error("all of it was read at once");
      },
      readRows: async (first, last) => {
        asked.push([first, last]);
        return data.subarray(first * width, last * width);
      },
    };
    const files = memoryFiles();
    await files.writeFile("x", streamSafetensors([tensor]));
    expect(asked).toEqual([
      [0, 4],
      [4, 5],
    ]);
    const written = writeSafetensors({ w: { shape: [rows, width], data } }, undefined, { dtype: "BF16" });
    expect(Buffer.compare((await files.read("x")) as Uint8Array, written)).toBe(0);
  });

  it("writes one file where everything fits", async () => {
    expect(Object.keys(weightFiles(toWrite(), 100))).toEqual(["model.safetensors"]);
  });

  it("splits over the limit, in order, with an index that says what is where", async () => {
    const files = await sharded(70);
    expect(await files.list("m")).toEqual([
      "model-00001-of-00002.safetensors",
      "model-00002-of-00002.safetensors",
      INDEX_FILE,
    ]);
    const index = JSON.parse(new TextDecoder().decode((await files.read(`m/${INDEX_FILE}`)) as Uint8Array));
    expect(index).toEqual({
      metadata: { total_size: 100 },
      weight_map: {
        "a.weight": "model-00001-of-00002.safetensors",
        "b.bias": "model-00001-of-00002.safetensors",
        "c.weight": "model-00002-of-00002.safetensors",
      },
    });
    const shard = parseSafetensors((await files.read("m/model-00002-of-00002.safetensors")) as Uint8Array, "x");
    expect(shard.metadata).toEqual({ format: "pt" });
    expect(shard.names).toEqual(["c.weight"]);
  });

  it("gives a tensor over the limit a file of its own", async () => {
    expect((await (await sharded(1)).list("m")).length).toBe(4);
  });

  it("removes the shards of an earlier model, and nothing else", async () => {
    const files = await sharded(70);
    await files.writeFiles("m", { "adapter_model.safetensors": "x", "config.json": "{}" });
    const written = weightFiles(toWrite());
    await files.writeFiles("m", written);
    await removeStaleWeights(files, "m", ["config.json"]);
    expect((await files.list("m")).length).toBe(6);
    await removeStaleWeights(files, "m", Object.keys(written));
    expect(await files.list("m")).toEqual(["adapter_model.safetensors", "config.json", "model.safetensors"]);
    const again = weightFiles(toWrite(), 70);
    await files.writeFiles("m", again);
    await removeStaleWeights(files, "m", Object.keys(again));
    expect(await files.read("m/model.safetensors")).toBeNull();
    expect((await openWeights(files, "m")).names.length).toBe(3);
  });

  it("leaves the old files when a tensor cannot be read", async () => {
    const files = memoryFiles();
    await files.writeFiles("m", { "model.safetensors": "old", other: "kept" });
    const bad: TensorToWrite = {
      name: "z",
      shape: [2],
      dtype: "F32",
      read: async () => {
        throw new Error("no more");
      },
    };
    await expect(files.writeFiles("m", weightFiles([...toWrite(), bad]))).rejects.toThrow("no more");
    expect(new TextDecoder().decode((await files.read("m/model.safetensors")) as Uint8Array)).toBe("old");
  });
});

describe("reading", () => {
  it.each([1000, 70, 1])("gives every tensor back, with files of at most %i bytes", async (limit) => {
    const { files, seen } = watched(await sharded(limit));
    const source = await openWeights(files, "m");
    expect([...source.names].sort()).toEqual(Object.keys(tensors));
    for (const [name, { shape, data }] of Object.entries(tensors)) {
      expect(source.info(name)).toEqual({ dtype: "F32", shape, bytes: data.byteLength });
      expect(await source.read(name)).toEqual(data);
    }
    expect(await source.readRows("a.weight", 1, 3)).toEqual(tensors["a.weight"].data.slice(3, 9));
    expect(await source.readRows("b.bias", 2, 5)).toEqual(tensors["b.bias"].data.slice(2));
    expect(await source.readRows("c.weight", 1, 2)).toEqual(tensors["c.weight"].data.slice(4));
    await expect(source.readRows("a.weight", 3, 5)).rejects.toThrow(/has no rows 3 to 5/);
    await expect(source.read("d")).rejects.toThrow(/there is no tensor d/);
    await source.close();
    expect(seen.open).toBe(0);
  });

  it("reads only what is asked for", async () => {
    const { files, seen } = watched(await sharded(1000));
    const source = await openWeights(files, "m");
    seen.bytes = 0;
    await source.readRows("a.weight", 1, 2);
    expect(seen.bytes).toBe(12);
  });

  it.each([
    ["../other/model-00001-of-00002.safetensors"],
    ["/etc/model.safetensors"],
    ["sub/model.safetensors"],
    ["a\\b.safetensors"],
    ["..safetensors"],
    ["C:model.safetensors"],
    ["model.bin"],
    ["%2e%2e%2fmodel.safetensors"],
  ])("refuses a shard called %s", async (name) => {
    const { files, seen } = watched(
      await sharded(70, (index) => Object.assign(index.weight_map, { "c.weight": name })),
    );
    expect(await refusal(openWeights(files, "m"))).toMatch(/index\.json: tensor c\.weight is said to be in/);
    expect(seen.open).toBe(0);
  });

  it.each<[string, (map: Record<string, string>) => void, RegExp]>([
    [
      "a shard that is not there",
      (map) => Object.assign(map, { "c.weight": "gone.safetensors" }),
      /m\/gone\.safetensors is missing: .* it holds c\.weight/,
    ],
    [
      "a tensor that its shard lacks",
      (map) => Object.assign(map, { d: "model-00002-of-00002.safetensors" }),
      /00002-of-00002\.safetensors has no tensor d, but .*index\.json says that it has/,
    ],
    [
      "a tensor that the index lacks",
      (map) => delete map["a.weight"],
      /00001-of-00002\.safetensors holds tensor a\.weight, which .* does not place there/,
    ],
  ])("refuses %s", async (_, edit, message) => {
    const { files, seen } = watched(await sharded(70, (index) => void edit(index.weight_map)));
    expect(await refusal(openWeights(files, "m"))).toMatch(message);
    expect(seen.open).toBe(0);
  });

  it.each([
    ["no map", "{}", /weight_map.* is missing/],
    ["an empty map", '{"weight_map":{}}', /names no tensor/],
    ["a list", '{"weight_map":[]}', /weight_map.* is missing/],
    ["null", "null", /weight_map.* is missing/],
    ["a number for a file", '{"weight_map":{"a":3}}', /tensor a is said to be in 3/],
    ["a tensor twice", '{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}', /"a" occurs twice/],
    ["no JSON", "[", /not valid JSON/],
  ])("refuses an index with %s", async (_, text, message) => {
    const files = memoryFiles();
    await files.writeFile(`m/${INDEX_FILE}`, text);
    expect(await refusal(openWeights(files, "m"))).toMatch(message);
  });

  it.each([
    ["pytorch_model.bin", /m\/pytorch_model\.bin: no archive as torch\.save writes it/],
    ["model.Q4_0.gguf", /but there is model\.Q4_0\.gguf: name that file as the model/],
    ["config.json", /m\/model\.safetensors is missing: the weights of the model/],
  ])("says what to do about a folder with %s only", async (name, message) => {
    const files = memoryFiles();
    await files.writeFile(`m/${name}`, "x");
    expect(await refusal(openWeights(files, "m"))).toMatch(message);
  });

  it("closes a file that is damaged", async () => {
    const inner = memoryFiles();
    await inner.writeFile("m/model.safetensors", "nonsense");
    const { files, seen } = watched(inner);
    expect(await refusal(openWeights(files, "m"))).toMatch(/m\/model\.safetensors: not a safetensors file/);
    expect(seen.open).toBe(0);
  });
});
