/**
 * The one door for a dispatch's scalars: immediates where the implementation has them, else a uniform arena that is
 * filled on the CPU and uploaded once per flush. Measured on lavapipe: a dynamic offset costs 20 µs per dispatch more
 * than immediates, so immediates come first wherever they exist.
 */
import { caps, device, onClose } from "./device.ts";

/** A scalar's type in WGSL. */
export type ScalarType = "u32" | "i32" | "f32";

const BYTES = 64;
const SLOT = 256; // minimum dynamic-offset alignment
const SLOTS = 512;

/** Room for so many words, as each type. */
interface Words {
  readonly bytes: ArrayBuffer;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly f32: Float32Array;
}

/** By number of words: with a buffer as long as the scalars, Dawn in Node need not convert an offset and a length (0.15 µs). */
const wordsOf: readonly Words[] = Array.from({ length: BYTES / 4 + 1 }, (_, count) => {
  const bytes = new ArrayBuffer(4 * count);
  return { bytes, u32: new Uint32Array(bytes), i32: new Int32Array(bytes), f32: new Float32Array(bytes) };
});

interface Arena {
  buffer: GPUBuffer;
  layout: GPUBindGroupLayout;
  group: GPUBindGroup;
  cpu: Uint32Array;
  used: number;
}
let arena: Arena | null = null;

/** WGSL that declares the struct `u` holding the scalars. */
export function scalarDeclaration(scalars: Record<string, ScalarType>): string {
  const fields = Object.entries(scalars).map(([name, type]) => `${name}: ${type}`);
  const space = caps().immediates ? "var<immediate>" : "@group(1) @binding(0) var<uniform>";
  return `struct Scalars { ${fields.join(", ")} }\n${space} u: Scalars;`;
}

/** The bind-group layouts scalars need after group 0. */
export function scalarLayouts(): GPUBindGroupLayout[] {
  return caps().immediates ? [] : [openArena().layout];
}

/** True when the arena must be flushed before another dispatch. */
export const scalarsFull = (): boolean => arena !== null && arena.used === SLOTS;

/** Hands the scalars of the next dispatch to the pass. */
export function setScalars(pass: GPUComputePassEncoder, types: readonly ScalarType[], values: readonly number[]): void {
  const count = types.length;
  const { bytes, u32, i32, f32 } = wordsOf[count];
  for (let i = 0; i < count; i++) {
    const type = types[i];
    if (type === "u32") u32[i] = values[i];
    else if (type === "f32") f32[i] = values[i];
    else i32[i] = values[i];
  }
  if (caps().immediates) {
    if (count > 0) pass.setImmediates(0, bytes); // Dawn in Node takes an ArrayBuffer 2 µs faster than a view
    return;
  }
  const { cpu, group, used } = openArena();
  if (count > 0) {
    cpu.set(u32, (used * SLOT) / 4);
    pass.setBindGroup(1, group, [used * SLOT]);
    (arena as Arena).used += 1;
  } else {
    pass.setBindGroup(1, group, [0]);
  }
}

/** Uploads the arena; called by the stream just before it submits. */
export function uploadScalars(): void {
  if (!arena || arena.used === 0) return;
  device().queue.writeBuffer(arena.buffer, 0, arena.cpu as Uint32Array<ArrayBuffer>, 0, (arena.used * SLOT) / 4);
  arena.used = 0;
}

function openArena(): Arena {
  if (arena) return arena;
  const gpu = device();
  const buffer = gpu.createBuffer({
    label: "scalar arena",
    size: SLOT * SLOTS,
    usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
  });
  const layout = gpu.createBindGroupLayout({
    label: "scalars",
    entries: [{ binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: "uniform", hasDynamicOffset: true } }],
  });
  const group = gpu.createBindGroup({
    label: "scalars",
    layout,
    entries: [{ binding: 0, resource: { buffer, size: BYTES } }],
  });
  arena = { buffer, layout, group, cpu: new Uint32Array((SLOT * SLOTS) / 4), used: 0 };
  return arena;
}

onClose({
  forget() {
    arena = null;
  },
  setAside() {
    const kept = arena;
    return () => {
      arena = kept;
    };
  },
});
