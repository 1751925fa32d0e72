import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from "../../src/runtime/half.ts";

describe("binary16", () => {
  it("keeps every one of its 65,536 patterns through f32 and back", () => {
    const wrong: number[] = [];
    for (let h = 0; h < 65536; h++) {
      const nan = (h & 0x7c00) === 0x7c00 && (h & 0x3ff) !== 0;
      const back = f32ToF16(f16ToF32(h));
      // NaN payloads are not kept, NaN is.
      if (nan ? !Number.isNaN(f16ToF32(back)) : back !== h) wrong.push(h);
    }
    expect(wrong).toEqual([]);
  });

  it.each([
    [1, 0x3c00],
    [-2, 0xc000],
    [65504, 0x7bff],
    [65519.99, 0x7bff],
    [65520, 0x7c00],
    [-1e30, 0xfc00],
    [2 ** -24, 0x0001],
    [2 ** -25, 0x0000], // halfway to the smallest subnormal: even is zero
    [1.5 * 2 ** -24, 0x0002], // halfway between 1 and 2 units: even is 2
    [2 ** -14 - 2 ** -25, 0x0400], // rounds up out of the subnormals
    [1 + 2 ** -11, 0x3c00], // halfway: even below
    [1 + 3 * 2 ** -11, 0x3c02], // halfway: even above
    [2 - 2 ** -11, 0x4000], // carry into the exponent
  ])("rounds %f to nearest even", (x, h) => {
    expect(f32ToF16(x)).toBe(h);
  });

  it("picks the nearest pattern for any float", () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true, min: -65000, max: 65000 }), (x) => {
        const h = f32ToF16(x);
        const error = Math.abs(f16ToF32(h) - x);
        for (const other of [h - 1, h + 1]) {
          const near = f16ToF32(other & 0xffff);
          if (Number.isFinite(near)) expect(Math.abs(near - x)).toBeGreaterThanOrEqual(error);
        }
      }),
    );
  });
});

describe("bfloat16", () => {
  it("keeps every pattern through f32 and back", () => {
    const wrong: number[] = [];
    for (let h = 0; h < 65536; h++) {
      const x = bf16ToF32(h);
      if (Number.isNaN(x) ? !Number.isNaN(bf16ToF32(f32ToBf16(x))) : f32ToBf16(x) !== h) wrong.push(h);
    }
    expect(wrong).toEqual([]);
  });

  it("rounds ties to even", () => {
    expect(f32ToBf16(1 + 2 ** -8)).toBe(0x3f80);
    expect(f32ToBf16(1 + 3 * 2 ** -8)).toBe(0x3f82);
    expect(f32ToBf16(3.4e38)).toBe(0x7f80);
  });
});
