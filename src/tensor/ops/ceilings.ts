/** Work of one kind only, at the adapter's own rate: what the rates of real kernels are held against. */
import { kernel } from "../../gpu/kernel.ts";
import { run } from "../../gpu/stream.ts";
import { FMA, SHARED_READS } from "../../shaders/ceilings.wgsl.ts";
import { empty, type Tensor } from "../core.ts";

const GROUP = 256;

const fmaKernel = kernel({
  name: "ceiling_fma",
  code: FMA,
  bindings: { y: "write f32" },
  scalars: { a: "f32", b: "f32" },
});

/** Enqueues about so many multiplications and additions in f32 or f16; returns one sum per invocation, and how many there were. */
export function multiplyAdds(operations: number, type: "f32" | "f16", invocations: number): [Tensor, number] {
  const rounds = Math.max(1, Math.round(operations / invocations / 64));
  const y = empty([Math.ceil(invocations / GROUP) * GROUP], "f32", "ceiling");
  run(fmaKernel, { T: type, WG: GROUP, ROUNDS: rounds }, [y.view], [0.5, 0.25], y.size / GROUP);
  return [y, y.size * rounds * 64];
}

const sharedKernel = kernel({ name: "ceiling_shared", code: SHARED_READS, bindings: { y: "write f32" } });

/** Enqueues reads of about so many bytes of workgroup memory; returns one sum per invocation, and how many bytes there were. */
export function sharedReads(bytes: number, invocations: number): [Tensor, number] {
  const rounds = Math.max(1, Math.round(bytes / invocations / 128));
  const y = empty([Math.ceil(invocations / GROUP) * GROUP], "f32", "ceiling");
  run(sharedKernel, { WG: GROUP, ROUNDS: rounds }, [y.view], [], y.size / GROUP);
  return [y, y.size * rounds * 128];
}
