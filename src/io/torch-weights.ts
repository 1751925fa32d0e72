/**
 * Weights as `torch.save` writes them since PyTorch 1.6: a zip archive of uncompressed files, of which one, data.pkl, says which
 * elements of which others are which tensor. A file comes from a stranger: see torch-pickle.ts for what is read of it.
 */
import { UserError } from "../runtime/errors.ts";
import { BYTES, product } from "./dtypes.ts";
import { type LazySafeTensors, type RangeReader, readLazily, type TensorInfo } from "./safetensors.ts";
import { type PickledTensor, unpickleTensors } from "./torch-pickle.ts";

/** The largest description of tensors, and the largest directory of an archive, that are read. */
const LONGEST = 64 << 20;

/** Opens such a file: reads and checks what it says of its tensors now, and tensors when they are asked for. */
export async function openTorchFile(reader: RangeReader, file: string): Promise<LazySafeTensors> {
  const entries = await directoryOf(reader, file);
  const description = [...entries.keys()].filter((name) => /^[^/]*\/data\.pkl$/.test(name));
  if (description.length !== 1) {
    throw new UserError(`${file}: it holds ${description.length} descriptions of tensors (data.pkl), and not one`);
  }
  const folder = description[0].slice(0, -"data.pkl".length);
  const place = async (name: string): Promise<{ begin: number; size: number }> => {
    const entry = entries.get(name);
    return entry ? placeOf(entry, reader, file) : fail(file, `${name}, which it needs, is not in it`);
  };
  const read = async (name: string): Promise<Uint8Array> => {
    const { begin, size } = await place(name);
    if (size > LONGEST) fail(file, `${name} has ${size} bytes, more than the ${LONGEST} that are read`);
    return reader.read(begin, size);
  };
  if (entries.has(`${folder}byteorder`)) {
    const order = new TextDecoder().decode(await read(`${folder}byteorder`)).trim();
    if (order !== "little") fail(file, `its numbers are stored ${order} end first, which is not read`);
  }
  const infos = new Map<string, TensorInfo>();
  const storages = new Map<string, { begin: number; size: number }>();
  for (const [name, tensor] of unpickleTensors(await read(description[0]), file)) {
    const path = `${folder}data/${tensor.storage}`;
    const storage = storages.get(path) ?? (await place(path));
    storages.set(path, storage);
    infos.set(name, infoOf(name, tensor, storage, file));
  }
  return readLazily(reader, { names: [...infos.keys()], metadata: {}, infos }, file);
}

function fail(file: string, what: string): never {
  throw new UserError(`${file}: ${what}`);
}

/** Where a tensor stands in the file: its elements must follow one another, row by row, within the storage. */
function infoOf(
  name: string,
  { dtype, offset, shape, stride, storageSize }: PickledTensor,
  storage: { begin: number; size: number },
  file: string,
): TensorInfo {
  const bytes = BYTES[dtype];
  const elements = product(shape);
  let step = 1;
  for (let d = shape.length - 1; d >= 0; d--) {
    if (shape[d] !== 1 && elements > 0 && stride[d] !== step) {
      fail(file, `tensor ${name} is not stored row by row: save it again after .contiguous()`);
    }
    step *= shape[d];
  }
  if (!Number.isSafeInteger(elements) || offset + elements > storageSize || storageSize * bytes > storage.size) {
    fail(file, `tensor ${name} of shape [${shape}] reaches past the ${storage.size} bytes that are stored for it`);
  }
  const begin = storage.begin + offset * bytes;
  return { dtype, shape, begin, end: begin + elements * bytes };
}

// --- the archive ---

interface Entry {
  name: string;
  size: number;
  /** Where the file's own header is. */
  header: number;
}

const END = 22;
const END64 = 56;
const LOCATOR = 20;

/** The files of the archive by name, from the directory at its end. */
async function directoryOf(reader: RangeReader, file: string): Promise<Map<string, Entry>> {
  const { offset, size, count } = await endOf(reader, file);
  if (size > LONGEST || offset + size > reader.size) damaged(file);
  const bytes = await reader.read(offset, size);
  const view = viewOf(bytes);
  const entries = new Map<string, Entry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > bytes.length || view.getUint32(at, true) !== 0x02014b50) damaged(file);
    const [nameLength, extraLength, comment] = [28, 30, 32].map((place) => view.getUint16(at + place, true));
    if (at + 46 + nameLength + extraLength + comment > bytes.length) damaged(file);
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    const extra = bytes.subarray(at + 46 + nameLength, at + 46 + nameLength + extraLength);
    const [packed, unpacked, header] = sizesOf(view, at, extra, file);
    if (view.getUint16(at + 10, true) !== 0 || packed !== unpacked || view.getUint16(at + 8, true) & 1) {
      fail(file, `${name} in it is compressed or encrypted, as PyTorch stores nothing`);
    }
    if (entries.has(name)) fail(file, `it holds two files ${name}`);
    entries.set(name, { name, size: unpacked, header });
    at += 46 + nameLength + extraLength + comment;
  }
  return entries;
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const damaged = (file: string): never => fail(file, "no archive as torch.save writes it, or cut short");

/** A 64-bit size; beyond 2^53 there is none. */
const u64 = (view: DataView, at: number): number => Number(view.getBigUint64(at, true));

async function endOf(reader: RangeReader, file: string): Promise<{ offset: number; size: number; count: number }> {
  const start = await reader.read(0, Math.min(4, reader.size));
  if (start[0] === 0x80)
    fail(file, "written by PyTorch before 1.6: open it there and save it again, best as safetensors");
  // A comment, which may follow, has at most 65,535 bytes.
  const from = Math.max(0, reader.size - END - 65_535);
  const bytes = await reader.read(from, reader.size - from);
  const view = viewOf(bytes);
  let at = bytes.length - END;
  while (at >= 0 && view.getUint32(at, true) !== 0x06054b50) at--;
  if (at < 0) damaged(file);
  const plain = {
    count: view.getUint16(at + 10, true),
    size: view.getUint32(at + 12, true),
    offset: view.getUint32(at + 16, true),
  };
  if (at < LOCATOR || view.getUint32(at - LOCATOR, true) !== 0x07064b50) return plain;
  const place = u64(view, at - LOCATOR + 8);
  if (!(place + END64 <= reader.size)) damaged(file);
  const large = viewOf(await reader.read(place, END64));
  if (large.getUint32(0, true) !== 0x06064b50) damaged(file);
  return { count: u64(large, 32), size: u64(large, 40), offset: u64(large, 48) };
}

/** Packed size, size and place, of which those that do not fit 32 bits stand in the extra field of kind 1, in this order. */
function sizesOf(view: DataView, at: number, extra: Uint8Array, file: string): [number, number, number] {
  const [packed, unpacked, header] = [20, 24, 42].map((place) => view.getUint32(at + place, true));
  const more = viewOf(extra);
  let large = 0;
  let end = 0;
  for (let e = 0; e + 4 <= extra.length; e += 4 + more.getUint16(e + 2, true)) {
    if (more.getUint16(e, true) !== 1) continue;
    large = e + 4;
    end = Math.min(extra.length, large + more.getUint16(e + 2, true));
    break;
  }
  const whole = (value: number): number => {
    if (value !== 0xffffffff) return value;
    if (large + 8 > end) damaged(file);
    large += 8;
    return u64(more, large - 8);
  };
  const size = whole(unpacked);
  return [whole(packed), size, whole(header)];
}

/** Where a file's content begins: behind a header of its own. */
async function placeOf(entry: Entry, reader: RangeReader, file: string): Promise<{ begin: number; size: number }> {
  const { header, size } = entry;
  const own = await reader.read(header, 30);
  if (own.length < 30 || viewOf(own).getUint32(0, true) !== 0x04034b50) damaged(file);
  const begin = header + 30 + viewOf(own).getUint16(26, true) + viewOf(own).getUint16(28, true);
  if (!(begin + size <= reader.size)) fail(file, `truncated: ${entry.name} in it ends at byte ${begin + size}`);
  return { begin, size };
}
