import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isUserError, parseSafetensors, writeSafetensors } from "webrlhf";
import { openSafetensors, type RangeReader } from "../../src/io/safetensors.ts";
import { RandomStream } from "../../src/runtime/rng.ts";

const base64 = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/** Written by the reference implementation (safetensors 0.8, torch): every dtype family, a scalar, an empty tensor. */
const MIXED = base64(
  "eAEAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCJ9LCJpIjp7ImR0eXBlIjoiSTY0Iiwic2hhcGUiOlszXSwiZGF0YV9vZmZz" +
    "ZXRzIjpbMCwyNF19LCJhLndlaWdodCI6eyJkdHlwZSI6IkYzMiIsInNoYXBlIjpbMiwyXSwiZGF0YV9vZmZzZXRzIjpbMjQsNDBdfSwiZSI6" +
    "eyJkdHlwZSI6IkYzMiIsInNoYXBlIjpbMCwzXSwiZGF0YV9vZmZzZXRzIjpbNDAsNDBdfSwicyI6eyJkdHlwZSI6IkYzMiIsInNoYXBlIjpb" +
    "XSwiZGF0YV9vZmZzZXRzIjpbNDAsNDRdfSwiYyI6eyJkdHlwZSI6IkJGMTYiLCJzaGFwZSI6WzNdLCJkYXRhX29mZnNldHMiOls0NCw1MF19" +
    "LCJiIjp7ImR0eXBlIjoiRjE2Iiwic2hhcGUiOls0XSwiZGF0YV9vZmZzZXRzIjpbNTAsNThdfX0gICAgAQAAAAAAAAD+/////////wAAAAAA" +
    "AQAAAACAPwAAIMAAAFBAbxKDOgAA8EDNPWJ/gL8APGYu//sBAA==",
);

describe("reading", () => {
  it("reads what the reference implementation wrote", () => {
    const file = parseSafetensors(MIXED, "m.safetensors");
    expect(file.metadata).toEqual({ format: "pt" });
    expect([...file.names].sort()).toEqual(["a.weight", "b", "c", "e", "i", "s"]);
    expect(file.get("a.weight")).toEqual({
      dtype: "F32",
      shape: [2, 2],
      data: new Float32Array([1, -2.5, 3.25, 1e-3]),
    });
    expect(file.get("b").data).toEqual(new Float32Array([1, 0.0999755859375, -65504, 2 ** -24]));
    expect(file.get("c").data).toEqual(new Float32Array([0.10009765625, 3.00405527047391e38, -1]));
    expect(file.get("s")).toEqual({ dtype: "F32", shape: [], data: new Float32Array([7.5]) });
    expect(file.get("e")).toEqual({ dtype: "F32", shape: [0, 3], data: new Float32Array(0) });
    expect(file.getRaw("i").data).toEqual(new BigInt64Array([1n, -2n, 1099511627776n]));
  });

  it("reads from bytes that start at an odd address", () => {
    const shifted = new Uint8Array(MIXED.length + 1);
    shifted.set(MIXED, 1);
    expect(parseSafetensors(shifted.subarray(1), "m").get("a.weight").data[2]).toBe(3.25);
  });

  it("reads tensor by tensor from a ranged reader", async () => {
    const asked: [number, number][] = [];
    const reader: RangeReader = {
      size: MIXED.length,
      read: async (offset, length) => {
        asked.push([offset, length]);
        return MIXED.slice(offset, offset + length);
      },
    };
    const file = await openSafetensors(reader, "m");
    expect((await file.get("c")).data[2]).toBe(-1);
    expect((await file.getRaw("i")).data.length).toBe(3);
    expect(asked.map(([, length]) => length)).toEqual([8, 376, 6, 24]);
  });

  it("names file and tensor for a missing tensor and for an integer one read as float", () => {
    const file = parseSafetensors(MIXED, "m.safetensors");
    expect(() => file.get("zz")).toThrow(/m\.safetensors: no tensor "zz"/);
    expect(() => file.get("i")).toThrow(/m\.safetensors: tensor "i" has dtype I64/);
  });
});

describe("writing", () => {
  it("gives the reference implementation's bytes", () => {
    const reference = base64(
      "mAAAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJmb3JtYXQiOiJwdCJ9LCJhLndlaWdodCI6eyJkdHlwZSI6IkYzMiIsInNoYXBlIjpbMiwyXSwi" +
        "ZGF0YV9vZmZzZXRzIjpbMCwxNl19LCJ6Ijp7ImR0eXBlIjoiRjMyIiwic2hhcGUiOlszXSwiZGF0YV9vZmZzZXRzIjpbMTYsMjhdfX0gIAAA" +
        "gD8AACDAAABQQG8SgzoAAIA/AAAAQAAAQEA=",
    );
    const bytes = writeSafetensors({
      z: { shape: [3], data: new Float32Array([1, 2, 3]) },
      "a.weight": { shape: [2, 2], data: new Float32Array([1, -2.5, 3.25, 1e-3]) },
    });
    expect(bytes).toEqual(reference);
  });

  it("rounds to half precision on request, integers stay", () => {
    const tensors = {
      ids: { shape: [3], data: new Uint32Array([1, 2, 4294967295]) },
      w: { shape: [3], data: new Float32Array([1, 0.1, -65504]) },
    };
    const f16 = parseSafetensors(writeSafetensors(tensors, undefined, { dtype: "F16" }), "x");
    expect(f16.get("w")).toEqual({ dtype: "F16", shape: [3], data: new Float32Array([1, 0.0999755859375, -65504]) });
    expect(f16.getRaw("ids").data).toEqual(tensors.ids.data);
    const bf16 = parseSafetensors(writeSafetensors(tensors, undefined, { dtype: "BF16" }), "x");
    expect(bf16.get("w").data[1]).toBe(0.10009765625);
  });

  it("refuses data that does not fill its shape", () => {
    expect(() => writeSafetensors({ w: { shape: [2, 2], data: new Float32Array(3) } })).toThrow(/tensor "w"/);
  });

  it("round-trips any set of tensors, bit for bit, independently of the order given", () => {
    const tensor = fc.array(fc.nat(4), { maxLength: 3 }).chain((shape) => {
      const n = shape.reduce((a, b) => a * b, 1);
      return fc.oneof(
        fc.float32Array({ minLength: n, maxLength: n }).map((data) => ({ shape, data })),
        fc.uint32Array({ minLength: n, maxLength: n }).map((data) => ({ shape, data })),
      );
    });
    const name = fc
      .oneof(fc.string({ unit: "binary" }), fc.constant("__proto__"), fc.constant('ключ\u0000"'))
      .filter((s) => s !== "__metadata__");
    fc.assert(
      fc.property(fc.uniqueArray(fc.tuple(name, tensor), { selector: ([n]) => n, maxLength: 6 }), (entries) => {
        const bytes = writeSafetensors(Object.fromEntries(entries));
        expect(writeSafetensors(Object.fromEntries([...entries].reverse()))).toEqual(bytes);
        const file = parseSafetensors(bytes, "x");
        expect(new Set(file.names)).toEqual(new Set(entries.map(([n]) => n)));
        for (const [n, { shape, data }] of entries) {
          const raw = file.getRaw(n);
          expect(raw.shape).toEqual(shape);
          expect(new Uint8Array(raw.data.buffer, raw.data.byteOffset, raw.data.byteLength)).toEqual(
            new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
          );
        }
      }),
    );
  });
});

/** A file with the given header text and this many bytes of data. */
function forge(header: string, data: number, claimed?: bigint): Uint8Array {
  const text = new TextEncoder().encode(header);
  const out = new Uint8Array(8 + text.length + data);
  new DataView(out.buffer).setBigUint64(0, claimed ?? BigInt(text.length), true);
  out.set(text, 8);
  return out;
}

const entry = (dtype: string, shape: string, offsets: string) =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;

describe("untrusted headers", () => {
  it.each([
    ["an empty file", new Uint8Array(0), /x: not a safetensors file: 0 bytes/],
    ["seven bytes", new Uint8Array(7), /7 bytes/],
    ["a header longer than the file", forge("{}", 0, 100n), /truncated: the header should have 100 bytes/],
    ["a header of 2^63 bytes", forge("{}", 0, 2n ** 63n), /claims a header of 9223372036854775808/],
    ["text instead of JSON", forge("hello", 0), /not JSON/],
    ["invalid UTF-8", forge("", 3, 3n), /not JSON/],
    ["a list", forge("[]", 0), /not a JSON object/],
    ["null", forge("null", 0), /not a JSON object/],
    ["deep nesting", forge("[".repeat(200000), 0), /not JSON/],
    ["a tensor that is a number", forge('{"w":3}', 0), /tensor "w": its header entry/],
    ["an unknown dtype", forge(`{"w":${entry("F3", "[1]", "[0,4]")}}`, 4), /tensor "w": dtype "F3"/],
    ["an inherited dtype", forge(`{"w":${entry("toString", "[1]", "[0,4]")}}`, 4), /tensor "w": dtype "toString"/],
    ["no dtype", forge('{"w":{"shape":[1],"data_offsets":[0,4]}}', 4), /tensor "w": dtype missing/],
    ["an extra key", forge('{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}', 4), /header key "x"/],
    ["a negative size", forge(`{"w":${entry("F32", "[-1]", "[0,4]")}}`, 4), /tensor "w": shape/],
    ["a fractional size", forge(`{"w":${entry("F32", "[1.5]", "[0,6]")}}`, 6), /tensor "w": shape/],
    ["a shape that is no list", forge(`{"w":${entry("F32", '"4"', "[0,4]")}}`, 4), /tensor "w": shape/],
    ["one offset", forge(`{"w":${entry("F32", "[1]", "[4]")}}`, 4), /tensor "w": data_offsets/],
    ["backward offsets", forge(`{"w":${entry("F32", "[1]", "[4,0]")}}`, 4), /run backwards/],
    ["truncated data", forge(`{"w":${entry("F32", "[2]", "[0,8]")}}`, 7), /tensor "w".*reach past the file's 7 bytes/],
    ["a shape too large", forge(`{"w":${entry("F32", "[3]", "[0,8]")}}`, 8), /needs 12 bytes, data_offsets give 8/],
    [
      "an overflowing shape",
      forge(`{"w":${entry("F32", "[4503599627370496,4503599627370496]", "[0,8]")}}`, 8),
      /tensor "w": shape/,
    ],
    [
      "an overlap",
      forge(`{"a":${entry("F32", "[2]", "[0,8]")},"b":${entry("F32", "[1]", "[4,8]")}}`, 8),
      /tensor "b" overlaps tensor "a"/,
    ],
    [
      "a gap",
      forge(`{"a":${entry("F32", "[1]", "[0,4]")},"b":${entry("F32", "[1]", "[8,12]")}}`, 12),
      /tensor "b": 4 unexplained bytes between tensor "a" and it/,
    ],
    ["trailing bytes", forge(`{"a":${entry("F32", "[1]", "[0,4]")}}`, 5), /1 unexplained bytes after tensor "a"/],
    ["data without tensors", forge("{}", 5), /5 unexplained bytes after the header/],
    [
      "a duplicate name",
      forge(`{"a":${entry("F32", "[1]", "[0,4]")},"a":${entry("F32", "[1]", "[0,4]")}}`, 4),
      /"a" occurs twice/,
    ],
    [
      "a duplicate name in disguise",
      forge(`{"a":${entry("F32", "[1]", "[0,4]")},"\\u0061" :${entry("F32", "[1]", "[0,4]")}}`, 4),
      /"a" occurs twice/,
    ],
    ["metadata that is no map of strings", forge('{"__metadata__":{"a":1}}', 0), /__metadata__/],
  ])("refuses %s", (_, bytes, message) => {
    let error: unknown;
    try {
      parseSafetensors(bytes, "x");
    } catch (e) {
      error = e;
    }
    expect(isUserError(error)).toBe(true);
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).toMatch(/^x: /);
  });

  it("finds no duplicates where there are none", () => {
    const tricky = `{"__metadata__":{"a":"\\"a\\":{","b\\\\":"a"},"a":${entry("F32", "[1]", "[0,4]")},"b\\\\":${entry("F32", "[1]", "[4,8]")}}`;
    expect(parseSafetensors(forge(tricky, 8), "x").names).toEqual(["a", "b\\"]);
  });

  it("survives 2,000 mutations: either a UserError or tensors inside the file", () => {
    const random = new RandomStream(1);
    let refused = 0;
    for (let i = 0; i < 2000; i++) {
      const bytes = mutate(MIXED, random);
      try {
        const file = parseSafetensors(bytes, "x");
        for (const name of file.names) expect(file.getRaw(name).data.byteLength).toBeLessThanOrEqual(bytes.length);
      } catch (error) {
        if (!isUserError(error)) throw error;
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(1000);
  });
});

/** One to three of: a changed byte, a digit changed in the header, a cut, an insertion. */
function mutate(source: Uint8Array, random: RandomStream): Uint8Array {
  let bytes = source.slice();
  for (let k = 1 + random.int(3); k > 0; k--) {
    const at = random.int(bytes.length || 1);
    const kind = random.int(5);
    if (kind === 0) bytes[at] = random.int(256);
    else if (kind === 1) bytes[8 + random.int(376)] = 0x30 + random.int(10);
    else if (kind === 2) bytes = bytes.slice(0, at);
    else if (kind === 3) bytes = new Uint8Array([...bytes.slice(0, at), random.int(256), ...bytes.slice(at)]);
    else bytes[random.int(8)] ^= 1 << random.int(8);
  }
  return bytes;
}
