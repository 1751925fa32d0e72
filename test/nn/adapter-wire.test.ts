/** Adapters in fewer bytes: rounded once, and then the same wherever they arrive. */
import { describe, expect, it } from "vitest";
import { parseSafetensors, writeSafetensors } from "webrlhf";
import { packedAdapter, roundedAdapter, unpackedAdapter } from "../../src/nn/adapter-wire.ts";

const NAME = "adapter_model.safetensors";
const values = (size: number, seed: number) =>
  Float32Array.from({ length: size }, (_, i) => Math.sin(i * 12.9898 + seed) * 10 ** (((i * 7) % 9) - 7));
const files = {
  "adapter_config.json": "{}",
  [NAME]: writeSafetensors({
    "b.lora_A.weight": { shape: [16, 576], data: values(16 * 576, 1) },
    "a.lora_B.weight": { shape: [576, 16], data: values(576 * 16, 2) },
    odd: { shape: [3, 23], data: values(69, 3) },
    zeros: { shape: [130], data: new Float32Array(130) },
    tiny: { shape: [3], data: Float32Array.of(1e-42, -3e-40, 0) },
  }),
};
const bytesOf = (content: Uint8Array | string) =>
  typeof content === "string" ? new TextEncoder().encode(content) : content;
const read = (bytes: Uint8Array) => {
  const all = parseSafetensors(bytes, NAME);
  return Object.fromEntries(all.names.map((name) => [name, [all.get(name).shape, ...all.get(name).data]]));
};
const arrived = (sent: Record<string, Uint8Array | string>) =>
  unpackedAdapter(new Map(Object.entries(sent).map(([name, content]) => [name, bytesOf(content)])));
const size = (sent: Record<string, Uint8Array | string>) =>
  Object.values(sent).reduce((sum, content) => sum + bytesOf(content).length, 0);

describe.each(["f16", "int8"] as const)("an adapter in %s", (wire) => {
  const rounded = roundedAdapter(files, wire);

  it("arrives as it was rounded, to the bit, and rounding it again changes nothing", () => {
    expect(read(rounded[NAME] as Uint8Array)).not.toEqual(read(files[NAME]));
    const got = arrived(packedAdapter(rounded, wire));
    expect([...got.keys()].sort()).toEqual(["adapter_config.json", NAME]);
    expect(read(got.get(NAME) as Uint8Array)).toEqual(read(rounded[NAME] as Uint8Array));
    expect(roundedAdapter(rounded, wire)).toEqual(rounded);
    // The bytes name the version: they follow from the numbers.
    expect(packedAdapter(roundedAdapter(rounded, wire), wire)).toEqual(packedAdapter(rounded, wire));
  });

  it("is near what it was", () => {
    const [before, after] = [files[NAME], rounded[NAME] as Uint8Array].map((bytes) => parseSafetensors(bytes, NAME));
    for (const name of before.names) {
      const [x, y] = [before.get(name).data, after.get(name).data];
      for (let block = 0; block < x.length; block += 64) {
        const most = Math.max(...x.subarray(block, block + 64).map(Math.abs));
        const far = wire === "int8" ? most / 250 + 1e-30 : most / 2000 + 1e-7;
        const off = x.subarray(block, block + 64).findIndex((value, i) => Math.abs(value - y[block + i]) > far);
        expect(off, `${name} at ${block}`).toBe(-1);
      }
    }
  });

  it("takes a half, or little more than a quarter, of the bytes", () => {
    const share = size(packedAdapter(rounded, wire)) / size(files);
    expect(share).toBeLessThan(wire === "f16" ? 0.51 : 0.28);
  });
});

describe("an adapter on its way", () => {
  it("is left as it is in f32", () => {
    expect(roundedAdapter(files, "f32")).toBe(files);
    expect(packedAdapter(files, "f32")).toBe(files);
    expect(read(arrived(files).get(NAME) as Uint8Array)).toEqual(read(files[NAME]));
  });

  it("is refused where half precision cannot say it", () => {
    const large = { [NAME]: writeSafetensors({ a: { shape: [2], data: Float32Array.of(1, 1e6) } }) };
    expect(() => roundedAdapter(large, "f16")).toThrow(/tensor a holds 1000000, which f16 cannot say/);
    expect(() => roundedAdapter(large, "int8")).not.toThrow();
  });

  it("is refused where it is damaged", () => {
    const sent = packedAdapter(roundedAdapter(files, "int8"), "int8");
    const whole = sent["adapter_model.int8"] as Uint8Array;
    const broken = [
      whole.subarray(0, 3),
      whole.subarray(0, whole.length - 1),
      whole.subarray(0, 40),
      Uint8Array.from([...whole, 0]),
    ];
    for (const bytes of broken) {
      expect(() => arrived({ ...sent, "adapter_model.int8": bytes })).toThrow(/adapter_model.int8 is damaged/);
    }
  });
});
