/** Weights are read ahead of what is written: a read that fails is told once, to the writer, whenever that looks. */
import { describe, expect, it } from "vitest";
import { memoryFiles } from "webrlhf";
import { streamSafetensors, type TensorToWrite } from "../../src/io/safetensors-write.ts";
import { merge } from "../../src/serve/request.ts";
import { expectAllHeard } from "../unheard.ts";

const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A tensor that is read after some time, or fails by then. */
const tensor = (name: string, ms: number, fails = false): TensorToWrite => ({
  name,
  shape: [2],
  dtype: "F32",
  async read() {
    await later(ms);
    if (fails) throw new Error(`${name} cannot be read`);
    return new Float32Array(2);
  },
});

describe("reading ahead", () => {
  it("tells a failure that comes before its turn where its turn comes", () =>
    expectAllHeard(async () => {
      const files = memoryFiles();
      const tensors = [tensor("a", 20), tensor("b", 0, true), tensor("c", 0, true)];
      await expect(files.writeFile("x", streamSafetensors(tensors))).rejects.toThrow("b cannot be read");
      expect(await files.read("x")).toBeNull();
    }));

  it("is no loose rejection where the writer is slow, or leaves", () =>
    expectAllHeard(async () => {
      for await (const _ of streamSafetensors([tensor("a", 0), tensor("b", 0, true)])) {
        await later(10);
        break;
      }
      const slow = async () => {
        for await (const _ of streamSafetensors([tensor("a", 0), tensor("b", 0, true)])) await later(10);
      };
      await expect(slow()).rejects.toThrow("b cannot be read");
    }));
});

describe("several generators as one", () => {
  it("keep a failure until the reader asks for it", () =>
    expectAllHeard(async () => {
      async function* some() {
        yield 1;
        throw new Error("it broke");
      }
      const read = async () => {
        for await (const _ of merge([some(), some()])) await later(10);
      };
      await expect(read()).rejects.toThrow("it broke");
    }));
});
