import { describe, expect, it } from "vitest";
import { encodeGgml, formatNamed, WRITTEN } from "../../src/io/ggml-quantize.ts";
import fixture from "../fixtures/gguf-quantized.json" with { type: "json" };

const base64 = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const values = new Float32Array(base64(fixture.values).buffer);

describe("values in ggml's formats", () => {
  it.each(Object.entries(fixture.formats))("%s: the reference's bytes", (name, expected) => {
    expect(encodeGgml(values, name as (typeof WRITTEN)[number])).toEqual(base64(expected));
  });

  it.each(WRITTEN)("%s: read back within half a step", (name) => {
    const ordinary = values.slice(0, 32 * 40);
    const back = formatNamed(name).type.decode(encodeGgml(ordinary, name));
    const share = { F32: 0, F16: 2 ** -11, BF16: 2 ** -8, Q8_0: 1 / 240, Q4_0: 1 / 7.9 }[name];
    for (let from = 0; from < ordinary.length; from += 32) {
      const block = ordinary.subarray(from, from + 32);
      const most = Math.max(...block.map(Math.abs));
      block.forEach((x, i) => {
        // The scale of a block is itself an f16, with few digits where it is tiny.
        expect(Math.abs(back[from + i] - x)).toBeLessThanOrEqual(share * most + 1e-5);
      });
    }
  });
});
