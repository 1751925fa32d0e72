import { beforeAll, describe, expect, it } from "vitest";
import { caps, cast, gelu, linear, mul, scope, tensor } from "webrlhf";
import { gpuReady } from "../helpers.ts";
import { checkOp, halves, input, values } from "./check.ts";

beforeAll(gpuReady);

describe("cast", () => {
  it("rounds to f16 and back, also odd sizes, and beyond the range to infinity", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    for (const size of [1, 7, 64, 1001]) {
      const data = values(size, 1, 10);
      const back = scope(() => cast(cast(tensor(data), "f16"), "f32"));
      const rounded = await back.read();
      back.free("test");
      // Which of two neighbours is the adapter's choice.
      const worst = Math.max(...halves(data).map((v, i) => Math.abs(rounded[i] - v) / Math.abs(v)));
      expect(worst).toBeLessThanOrEqual(2 ** -10);
    }
    const large = scope(() => cast(cast(tensor([1e5, -1e6, 65504]), "f16"), "f32"));
    expect([...(await large.read())]).toEqual([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 65504]);
    large.free("test");
  });

  it("is the same tensor where there is nothing to do", () => {
    const x = tensor([1]);
    expect(cast(x, "f32")).toBe(x);
    x.free("test");
  });

  it("gives gradients back in the type that they came from", async ({ skip }) => {
    if (!caps().f16) return skip("no shader-f16");
    await checkOp(
      ([x]) => cast(cast(x, "f16"), "f32"),
      [input([3, 5], 1)],
      ([x]) => x,
      { rtol: 1e-3, gradRtol: 1e-3 },
    );
  });

  it("lets layers compute in f16 from f32 weights: a product with bias and residual, an activation, a square", async ({
    skip,
  }) => {
    if (!caps().f16) return skip("no shader-f16");
    const half = (t: Parameters<typeof cast>[0]) => cast(t, "f16");
    await checkOp(
      ([x, w, b]) => {
        const h = half(x);
        const y = gelu(linear(h, half(w), { bias: half(b), residual: h }));
        return cast(mul(y, y), "f32");
      },
      [input([5, 6], 1), input([6, 6], 2), input([6], 3)],
      ([x, w, b]) =>
        Float64Array.from({ length: 30 }, (_, i) => {
          const [r, c] = [Math.floor(i / 6), i % 6];
          let z = b[c] + x[i];
          for (let k = 0; k < 6; k++) z += x[r * 6 + k] * w[c * 6 + k];
          return (0.5 * z * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (z + 0.044715 * z ** 3)))) ** 2;
        }),
      { rtol: 4e-3, gradRtol: 6e-3 },
    );
  });
});
