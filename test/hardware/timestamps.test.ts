import { beforeAll, expect, it } from "vitest";
import { adapter, device } from "../../src/gpu/device.ts";
import { gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

it("times passes to the nanosecond, not in steps of 65,536", async ({ skip }) => {
  if (!adapter().features.has("timestamp-query")) return skip("the adapter has no timestamps");
  const gpu = device();
  const count = 16;
  const querySet = gpu.createQuerySet({ type: "timestamp", count });
  const encoder = gpu.createCommandEncoder();
  for (let i = 0; i < count; i += 2) {
    encoder
      .beginComputePass({ timestampWrites: { querySet, beginningOfPassWriteIndex: i, endOfPassWriteIndex: i + 1 } })
      .end();
  }
  const resolved = gpu.createBuffer({ size: 8 * count, usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC });
  const reader = gpu.createBuffer({ size: 8 * count, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
  encoder.copyBufferToBuffer(resolved, 0, reader, 0, 8 * count);
  gpu.queue.submit([encoder.finish()]);
  await reader.mapAsync(GPUMapMode.READ);
  const stamps = [...new BigUint64Array(reader.getMappedRange().slice(0))];
  for (const thing of [resolved, reader, querySet]) thing.destroy();
  expect(stamps.filter((stamp) => stamp % 65536n !== 0n).length).toBeGreaterThan(count / 2);
});
