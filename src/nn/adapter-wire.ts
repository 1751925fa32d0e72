/**
 * Adapters in fewer bytes, for travelling. Rounding is done before: a rounded adapter travels without further loss, so that what
 * arrives is what draws everywhere.
 */
import { parseSafetensors, writeSafetensors } from "../io/safetensors.ts";
import { UserError } from "../runtime/errors.ts";
import { f16ToF32, f32ToF16 } from "../runtime/half.ts";
import { joinedBytes } from "../runtime/joined-bytes.ts";
import { utf8 } from "../runtime/utf8.ts";
import { ADAPTER_WEIGHTS } from "./peft.ts";

/** How an adapter's numbers travel: as they are, in half precision, or in 8 bits with a scale for each 64 of them. */
export const adapterWires = ["f32", "f16", "int8"] as const;
/** One of `adapterWires`. */
export type AdapterWire = (typeof adapterWires)[number];

/** The files of an adapter's folder. */
export type AdapterFiles = Record<string, Uint8Array | string>;

type Tensors = Record<string, { shape: readonly number[]; data: Float32Array }>;

/** The weights of an adapter in 8 bits: they are no safetensors file. */
const PACKED = "adapter_model.int8";
/** Numbers that share a scale. */
const BLOCK = 64;
/** Blocks of smaller numbers are zeros: their scales would have too few bits. */
const NOTHING = 1e-30;

/** The files of an adapter whose numbers are those that `wire` can say; in f32. */
export function roundedAdapter(files: AdapterFiles, wire: AdapterWire): AdapterFiles {
  if (wire === "f32") return files;
  const all = Object.entries(tensorsOf(files));
  if (wire === "int8" && all.some(([name]) => name.endsWith(".lora_magnitude_vector"))) {
    throw new UserError(
      "int8 would round the lengths that DoRA trains by up to 0.4 percent: hand the adapter over as f16 or f32",
    );
  }
  const tensors = all.map(([name, { shape, data }]) => {
    const rounded = wire === "f16" ? data.map((x) => f16ToF32(f32ToF16(x))) : unpacked(packed(data), data.length);
    const lost = rounded.findIndex((x) => !Number.isFinite(x));
    if (lost >= 0) throw new UserError(`the adapter's tensor ${name} holds ${data[lost]}, which ${wire} cannot say`);
    return [name, { shape, data: rounded }] as const;
  });
  return { ...files, [ADAPTER_WEIGHTS]: writeSafetensors(Object.fromEntries(tensors)) };
}

/** A rounded adapter's files as they travel. */
export function packedAdapter(files: AdapterFiles, wire: AdapterWire): AdapterFiles {
  if (wire === "f32") return files;
  const tensors = tensorsOf(files);
  if (wire === "f16") return { ...files, [ADAPTER_WEIGHTS]: writeSafetensors(tensors, undefined, { dtype: "F16" }) };
  const { [ADAPTER_WEIGHTS]: _, ...rest } = files;
  const names = Object.keys(tensors).sort();
  const header = JSON.stringify(names.map((name) => [name, tensors[name].shape]));
  const length = new Uint8Array(Uint32Array.of(header.length).buffer);
  const parts = names.map((name) => packed(tensors[name].data));
  return { ...rest, [PACKED]: joinedBytes([length, new TextEncoder().encode(header), ...parts]) };
}

/** Files that may have travelled, as an adapter's folder has them: in f32 or f16. Throws `UserError` for damaged ones. */
export function unpackedAdapter(files: ReadonlyMap<string, Uint8Array>): Map<string, Uint8Array> {
  const bytes = files.get(PACKED);
  const all = new Map(files);
  if (!bytes) return all;
  const damaged = () => new UserError(`${PACKED} is damaged`);
  if (bytes.length < 4) throw damaged();
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  let header: [string, number[]][];
  try {
    header = JSON.parse(utf8(bytes.subarray(4, 4 + length)));
  } catch {
    throw damaged();
  }
  const tensors: Tensors = {};
  let at = 4 + length;
  for (const [name, shape] of header) {
    const size = shape.reduce((product, n) => product * n, 1);
    const end = at + size + 4 * Math.ceil(size / BLOCK);
    if (!(end <= bytes.length)) throw damaged();
    tensors[name] = { shape, data: unpacked(bytes.subarray(at, end), size) };
    at = end;
  }
  if (at !== bytes.length) throw damaged();
  all.delete(PACKED);
  all.set(ADAPTER_WEIGHTS, writeSafetensors(tensors));
  return all;
}

function tensorsOf(files: AdapterFiles): Tensors {
  const bytes = files[ADAPTER_WEIGHTS];
  if (!(bytes instanceof Uint8Array)) throw new Error(`an adapter without ${ADAPTER_WEIGHTS}`);
  const read = parseSafetensors(bytes, ADAPTER_WEIGHTS);
  return Object.fromEntries(read.names.map((name) => [name, read.get(name)]));
}

/**
 * Numbers in 8 bits: the scales of all blocks as f32, then the numbers. A scale has 16 significant bits, so that its products with
 * 7 are exact: packing what was unpacked gives the same bytes.
 */
function packed(values: Float32Array): Uint8Array {
  const blocks = Math.ceil(values.length / BLOCK);
  const scales = new Float32Array(blocks);
  const bits = new Uint32Array(scales.buffer);
  const numbers = new Int8Array(values.length);
  for (let block = 0; block < blocks; block++) {
    const own = values.subarray(block * BLOCK, (block + 1) * BLOCK);
    const most = own.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0);
    if (most < NOTHING) continue;
    scales[block] = most / 127;
    bits[block] = (bits[block] + 0xff) & ~0xff; // not below what it was: no number is beyond 127
    for (const [i, x] of own.entries()) numbers[block * BLOCK + i] = Math.round(x / scales[block]);
  }
  return joinedBytes([new Uint8Array(scales.buffer), new Uint8Array(numbers.buffer)]);
}

function unpacked(bytes: Uint8Array, length: number): Float32Array<ArrayBuffer> {
  const blocks = Math.ceil(length / BLOCK);
  const scales = new Float32Array(bytes.slice(0, 4 * blocks).buffer);
  const numbers = new Int8Array(bytes.slice(4 * blocks).buffer);
  return Float32Array.from(numbers, (x, i) => x * scales[Math.floor(i / BLOCK)]);
}
