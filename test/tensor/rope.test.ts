import { beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "../../src/gpu/device.ts";
import { rope } from "../../src/tensor/ops/rope.ts";
import { tensor } from "../../src/tensor/tensor.ts";
import { expectClose } from "../helpers.ts";

beforeAll(() => openDevice());

describe("rope", () => {
  for (const headDim of [4, 8, 12, 16, 32]) {
    it(`rotates pairs (i, i + D/2) exactly at far positions, D = ${headDim}`, async () => {
      const [heads, kvHeads, maxPositions] = [3, 1, 9000];
      const positions = [0, 1, 77, 8191];
      const width = (heads + 2 * kvHeads) * headDim;
      const x = Float32Array.from({ length: positions.length * width }, (_, i) => Math.sin(i * 1.7));
      const options = { heads, kvHeads, headDim, theta: 10000, maxPositions };
      const y = await rope(tensor(x, [positions.length, width]), tensor(Uint32Array.from(positions)), options).read();
      const expected = Float64Array.from(x);
      const half = headDim / 2;
      positions.forEach((p, row) => {
        for (let head = 0; head < heads + kvHeads; head++) {
          for (let i = 0; i < half; i++) {
            const angle = p * 10000 ** (-i / half);
            const at = row * width + head * headDim + i;
            const [a, b] = [x[at], x[at + half]];
            expected[at] = a * Math.cos(angle) - b * Math.sin(angle);
            expected[at + half] = b * Math.cos(angle) + a * Math.sin(angle);
          }
        }
      });
      expectClose(y, expected, 1e-6, 1e-6);
    });
  }
});
