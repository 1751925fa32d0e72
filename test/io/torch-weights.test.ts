/** Files of torch.save, written by PyTorch itself (test/fixtures/generators/published.py), and wrong ones. */
import { describe, expect, it } from "vitest";
import { isUserError, memoryFiles } from "webrlhf";
import { openTorchFile } from "../../src/io/torch-weights.ts";
import { openWeights } from "../../src/io/weights.ts";
import { bytesFile } from "../../src/runtime/open.ts";
import fixture from "../fixtures/published.json" with { type: "json" };

const base64 = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const { file, tensors, module, refused } = fixture.torch;
const open = (bytes: Uint8Array) => openTorchFile(bytesFile(bytes), "m.bin");

describe("tensors", () => {
  it.each(Object.entries(tensors))("%s", async (name, { shape, f32 }) => {
    const opened = await open(base64(file));
    const expected = new Float32Array(base64(f32).buffer);
    expect(opened.infos.get(name)?.shape).toEqual(shape);
    expect((await opened.get(name)).data).toEqual(expected);
    const [rows] = shape;
    if (!(rows > 1)) return;
    const width = expected.length / rows;
    expect((await opened.getRows(name, 1, rows)).data).toEqual(expected.slice(width));
  });

  it("of a module, whose whole numbers are no weights", async () => {
    const opened = await open(base64(module));
    expect(opened.names).toEqual(["weight", "bias", "steps"]);
    await expect(opened.get("steps")).rejects.toThrow(/m\.bin: tensor "steps" has dtype I64, a float type is needed/);
  });
});

async function refusal(bytes: Uint8Array): Promise<string> {
  const error = await open(bytes).then(
    () => new Error("it was accepted"),
    (e) => e,
  );
  expect(isUserError(error), error.stack).toBe(true);
  return error.message;
}

describe("what is refused", () => {
  it.each<[keyof typeof refused, RegExp]>([
    ["a call", /m\.bin: it asks for "posix\.system", which is no part of a tensor: nothing of such a file is run/],
    ["a call deep inside", /asks for "__builtin__\.eval"/],
    ["a whole module", /asks for "torch\.nn\.modules\.linear\.Linear"/],
    ["a nested dictionary", /"state_dict" in it is no tensor; a dictionary of tensors is read/],
    ["a number", /"step" in it is no tensor/],
    ["no dictionary", /it holds no dictionary/],
    ["columns", /tensor a is not stored row by row: save it again after \.contiguous\(\)/],
    ["an older file", /written by PyTorch before 1\.6/],
  ])("%s", async (name, message) => {
    expect(await refusal(base64(refused[name]))).toMatch(message);
  });

  it.each<[string, Uint8Array, RegExp]>([
    ["nothing", new Uint8Array(), /no archive as torch\.save writes it/],
    ["another file", new TextEncoder().encode("not a zip file at all, but long enough to look"), /no archive/],
    ["a file cut short", base64(file).slice(0, -200), /no archive/],
  ])("%s", async (_, bytes, message) => {
    expect(await refusal(bytes)).toMatch(message);
  });

  it("whatever a byte says, in one line or by the tensors that are there", async () => {
    const bytes = base64(file);
    for (let at = 0; at < bytes.length; at += 7) {
      const changed = bytes.with(at, bytes[at] ^ (1 << (at % 8)));
      const result = await open(changed).catch((error) => error);
      if (result instanceof Error) expect(isUserError(result), `byte ${at}: ${result.stack}`).toBe(true);
      else for (const { begin, end } of result.infos.values()) expect(begin >= 0 && end <= bytes.length).toBe(true);
    }
  });
});

describe("a folder", () => {
  it("is opened by its safetensors where it has both, and else by pytorch_model.bin", async () => {
    const files = memoryFiles();
    await files.writeFolder("m", { "pytorch_model.bin": base64(file) });
    const weights = await openWeights(files, "m");
    expect(weights.label).toBe("m/pytorch_model.bin");
    expect(weights.info("half")).toEqual({ dtype: "F16", shape: [2, 3], bytes: 12 });
    await files.writeFile("m/model.safetensors", "broken");
    await expect(openWeights(files, "m")).rejects.toThrow(/model\.safetensors: not a safetensors file/);
  });

  it("says what is read where there is something else", async () => {
    const files = memoryFiles();
    await files.writeFolder("m", { "consolidated.pth": "x" });
    await expect(openWeights(files, "m")).rejects.toThrow(
      /safetensors files and pytorch_model\.bin, not from consolidated\.pth/,
    );
  });

  it("has shards of its own kind only", async () => {
    const files = memoryFiles();
    const index = { weight_map: { a: "model.safetensors" } };
    await files.writeFolder("m", { "pytorch_model.bin.index.json": JSON.stringify(index) });
    await expect(openWeights(files, "m")).rejects.toThrow(/must be the plain name of a \.bin file/);
  });
});
