import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { caps, finish, openDevice, stats } from "webrlhf";
import { isCompiling, onCompileProgress } from "../../src/gpu/compiling.ts";
import { clearDeviceError } from "../../src/gpu/device.ts";
import { kernel, prepare, source } from "../../src/gpu/kernel.ts";
import { acquire, createBuffer, release, sizeClass, subview } from "../../src/gpu/pool.ts";
import { rehearse } from "../../src/gpu/rehearsal.ts";
import {
  addWork,
  clear,
  copy,
  destroyBuffers,
  download,
  flush,
  run,
  runPrepared,
  trim,
  upload,
} from "../../src/gpu/stream.ts";

beforeAll(() => openDevice());
afterEach(clearDeviceError);

const WG = 64;
const head = `@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(num_workgroups) nwg: vec3u, @builtin(local_invocation_index) lid: u32) {
  let i = linearId(wid, nwg) * WG + lid;
  if (i >= u.n) { return; }`;

const affine = kernel({
  name: "test_affine",
  code: `${head} y[i] = y[i] * u.a + u.b; }`,
  bindings: { y: "write f32" },
  scalars: { n: "u32", a: "f32", b: "f32" },
});

/** Another kernel for every K. */
const fresh = kernel({
  name: "test_fresh",
  code: `${head} y[i] = y[i] * f32(K) + 1.0; }`,
  bindings: { y: "write f32" },
  scalars: { n: "u32" },
});

const read = async (view: Parameters<typeof download>[0], n: number) => [
  ...new Float32Array(await download(view, 4 * n)),
];

describe("stream", () => {
  it("keeps uploads, copies, clears and dispatches in order, across many flushes", async () => {
    const x = acquire(16, "x");
    const y = acquire(16, "y");
    const seen: number[] = [];
    for (let i = 0; i < 5; i++) {
      upload(x, Float32Array.of(i, i, i, i));
      run(affine, { WG }, [x], [4, 2, 1], 1);
      copy(x, y, 16);
      clear(x);
      run(affine, { WG }, [x], [4, 1, -7], 1);
      if (i % 2) flush();
      run(affine, { WG }, [y], [2, 1, 0.5], 1);
      const [a, , c] = await read(y, 4);
      seen.push(a, c, (await read(x, 1))[0]);
    }
    expect(seen).toEqual([1.5, 1, -7, 3.5, 3, -7, 5.5, 5, -7, 7.5, 7, -7, 9.5, 9, -7]);
    release(x);
    release(y);
  });

  it("submits a copy to read before it waits, where no kernel is compiled and nothing is checked", async () => {
    const x = acquire(16, "x");
    upload(x, Float32Array.of(1, 2, 3, 4));
    run(affine, { WG }, [x], [4, 1, 1], 1);
    await read(x, 4); // the kernel is compiled, the buffers are checked
    const { reads, submits } = stats();
    const found = read(x, 4);
    expect([stats().reads - reads, stats().submits - submits]).toEqual([1, 1]);
    run(affine, { WG }, [x], [4, 0, 9], 1);
    expect(await found).toEqual([2, 3, 4, 5]);
    expect(await read(x, 4)).toEqual([9, 9, 9, 9]);
    release(x);
  });

  it("finds bind groups again in whatever order they are asked for, and none of buffers that are gone", async () => {
    const counted = prepare(affine, { WG });
    const make = () => Array.from({ length: 3 }, (_, i) => createBuffer(16, `b${i}`));
    const add = (views: ReturnType<typeof make>, order: readonly number[]) => {
      for (const i of order) runPrepared(counted, [views[i]], [4, 1, 10 ** i], 1);
    };
    const old = make();
    for (const view of old) clear(view);
    add(old, [0, 1, 2]);
    const before = stats();
    add(old, [0, 1, 2, 2, 1, 1, 0, 2]);
    expect(await read(old[0], 4)).toEqual([3, 3, 3, 3]);
    expect(await read(old[1], 1)).toEqual([40]);
    expect(await read(old[2], 1)).toEqual([400]);
    expect(stats().bindGroupMisses).toBe(before.bindGroupMisses);
    expect(stats().bindGroupHits).toBe(before.bindGroupHits + 8);
    destroyBuffers(old);
    const fresh = make();
    for (const view of fresh) clear(view);
    add(fresh, [0, 1, 2, 0]);
    expect(stats().bindGroupMisses).toBe(before.bindGroupMisses + 3);
    expect((await Promise.all(fresh.map((view) => read(view, 1)))).flat()).toEqual([2, 10, 100]);
    destroyBuffers(fresh);
  });

  it("compiles what was prepared anew for every device", async () => {
    const counted = prepare(affine, { WG });
    const once = async () => {
      const x = acquire(16, "x");
      clear(x);
      runPrepared(counted, [x], [4, 1, 5], 1);
      const [value] = await read(x, 1);
      release(x);
      return value;
    };
    expect(await once()).toBe(5);
    await rehearse(async () => void (await once()));
    expect(await once()).toBe(5);
  });

  it("keeps that order while kernels are being compiled, side by side", async () => {
    const x = acquire(16, "x");
    const y = acquire(16, "y");
    const host = Float32Array.of(3, 3, 3, 3);
    const told: string[] = [];
    onCompileProgress((done, begun) => told.push(`${done} of ${begun}`));
    upload(x, host);
    run(fresh, { WG, K: 1 }, [x], [4], 1);
    host.fill(9); // what was handed over is what counts
    copy(x, y, 16);
    clear(x);
    run(fresh, { WG, K: 2 }, [y], [4], 1);
    run(affine, { WG }, [y], [4, 2, 0], 1);
    upload(x, Float32Array.of(7));
    addWork(1e15);
    flush();
    run(fresh, { WG, K: 3 }, [x], [2], 1);
    expect(isCompiling()).toBe(true);
    const before = stats().submits;
    expect([await read(x, 4), await read(y, 4)]).toEqual([
      [22, 1, 0, 0],
      [18, 18, 18, 18],
    ]);
    expect(stats().submits).toBeGreaterThan(before);
    expect(isCompiling()).toBe(false);
    expect(told.at(-1)).toBe("3 of 3");
    onCompileProgress(null);
    release(x);
    release(y);
  });

  it("keeps it for callers that cannot wait", async () => {
    const x = acquire(16, "x");
    const large = createBuffer(1 << 20, "large");
    upload(x, Float32Array.of(1, 1, 1, 1));
    run(fresh, { WG, K: 11 }, [x], [4], 1);
    upload(large, new Float32Array(1 << 18).fill(5)); // goes past the encoder
    run(fresh, { WG, K: 12 }, [large], [4], 1);
    destroyBuffers([createBuffer(16, "gone")]);
    expect(isCompiling()).toBe(false);
    run(fresh, { WG, K: 13 }, [x], [4], 1);
    expect([await read(x, 1), await read(large, 1)]).toEqual([[12 * 13 + 1], [61]]);
    destroyBuffers([large]);
    release(x);
  });

  it("gives every dispatch its own scalars, past the number that one flush holds", async () => {
    const x = acquire(4, "x");
    upload(x, Float32Array.of(0));
    for (let i = 1; i <= 1500; i++) run(affine, { WG }, [x], [1, 1, i], 1);
    expect(await read(x, 1)).toEqual([(1500 * 1501) / 2]);
    release(x);
  });

  it("writes large data too, also sizes that are no multiple of 4 bytes", async () => {
    const n = 300_001;
    const view = createBuffer(n * 4, "large");
    upload(
      view,
      Float32Array.from({ length: n }, (_, i) => i),
    );
    const back = new Float32Array(await download(view, 4 * n));
    expect(back[n - 1]).toBe(n - 1);
    const halves = acquire(6, "halves");
    upload(halves, Uint16Array.of(1, 2, 3));
    expect([...new Uint16Array(await download(halves, 6))]).toEqual([1, 2, 3]);
  });

  it("submits by itself when much work is enqueued", () => {
    const before = stats().submits;
    const x = acquire(4, "x");
    run(affine, { WG }, [x], [1, 1, 1], 1);
    addWork(1e15);
    expect(stats().submits).toBe(before + 1);
    release(x);
  });

  it("refuses wrong numbers of buffers and scalars by the kernel's name", () => {
    const x = acquire(4, "x");
    expect(() => run(affine, { WG }, [x, x], [1, 1, 1], 1)).toThrow("test_affine takes 1 buffers, got 2");
    expect(() => run(affine, { WG }, [x], [1], 1)).toThrow("test_affine takes 3 scalars, got 1");
    expect(() => run(affine, { WG }, [x], [1, 1, 1], 1, 70_000)).toThrow(/over 65535/);
    release(x);
  });
});

describe("pool", () => {
  it("hands out the free buffer with the lowest id", () => {
    trim(); // no larger one is lent then
    const size = 123_456;
    const taken = Array.from({ length: 5 }, () => acquire(size, "pool"));
    const ids = taken.map((b) => b.id).toSorted((a, b) => a - b);
    for (const i of [3, 0, 4, 1, 2]) release(taken[i]);
    const again = Array.from({ length: 5 }, () => acquire(size, "pool"));
    expect(again.map((b) => b.id)).toEqual(ids);
    for (const b of again) release(b);
  });

  it("wastes at most a quarter above 64 KiB", () => {
    for (let bytes = 65_537; bytes < 3e8; bytes = Math.ceil(bytes * 1.013)) {
      const size = sizeClass(bytes);
      expect(size).toBeGreaterThanOrEqual(bytes);
      expect(size / bytes).toBeLessThanOrEqual(1.25);
      expect(size % 4).toBe(0);
    }
  });

  it("makes views once, at aligned offsets", () => {
    const x = acquire(4096, "x");
    expect(subview(x, 256, 512)).toBe(subview(x, 256, 512));
    expect(() => subview(x, 100, 4)).toThrow(/multiple of 256/);
    expect(() => subview(x, 3840, 512)).toThrow(/passes the end/);
    release(x);
  });

  it("names what does not fit, and the limit", () => {
    expect(() => createBuffer(caps().maxBinding + 4, "embedding table")).toThrow(
      /embedding table needs .* MiB, but one binding of this adapter holds at most .* MiB: use a smaller/,
    );
  });
});

describe("errors", () => {
  it("reports a shader that does not compile with line, column and source, at the next read", async () => {
    const broken = kernel({
      name: "test_broken",
      code: `${head} y[i] = nonsense; }`,
      bindings: { y: "write f32" },
      scalars: { n: "u32" },
    });
    const x = acquire(4, "x");
    run(broken, { WG }, [x], [1], 1);
    flush();
    await expect(finish()).rejects.toThrow(/test_broken[\s\S]*nonsense/);
    release(x);
  });

  it("declares bindings, constants and scalars from the record", () => {
    const wgsl = source(affine, { WG, T: "f32", LONG: true, F: 0.5, V: "vec4<f32>" });
    expect(wgsl).toContain("@group(0) @binding(0) var<storage, read_write> y: array<f32>;");
    expect(wgsl).toContain("const WG = 64u;");
    expect(wgsl).toContain("const LONG = true;");
    expect(wgsl).toContain("const F = f32(0.5);");
    expect(wgsl).toContain("alias V = vec4<f32>;");
    expect(wgsl).toContain("struct Scalars { n: u32, a: f32, b: f32 }");
  });
});
