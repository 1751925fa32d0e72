/** Damaged Parquet files: footers and page headers with other fields, or a few bytes. */
import { readdirSync, readFileSync } from "node:fs";
import { RandomStream } from "../../src/runtime/rng.ts";
import { mutate } from "../io/mutate.ts";
import { pick } from "./json-tree.ts";

const folder = new URL("../data/fixtures/parquet/", import.meta.url);
const files = readdirSync(folder)
  .filter((name) => name.endsWith(".parquet"))
  .map((name) => new Uint8Array(readFileSync(new URL(name, folder))));

/** A record of Thrift's compact protocol, of any kind. */
type Item =
  | { code: number; number: bigint }
  | { code: number; bytes: Uint8Array }
  | { code: number; items: Item[]; inner: number }
  | { code: number; fields: { id: number; item: Item }[] }
  | { code: number };

class Reader {
  at: number;
  readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array, at: number) {
    this.bytes = bytes;
    this.at = at;
  }
  varint(): bigint {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.bytes[this.at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  }
  take(length: number): Uint8Array {
    this.at += length;
    return this.bytes.slice(this.at - length, this.at);
  }
  item(code: number, inList = false): Item {
    if (code === 1 || code === 2) return inList ? { code, bytes: this.take(1) } : { code };
    if (code === 3) return { code, bytes: this.take(1) };
    if (code === 7) return { code, bytes: this.take(8) };
    if (code === 8) return { code, bytes: this.take(Number(this.varint())) };
    if (code === 9) {
      const head = this.bytes[this.at++];
      const count = head >> 4 === 15 ? Number(this.varint()) : head >> 4;
      return { code, inner: head & 15, items: Array.from({ length: count }, () => this.item(head & 15, true)) };
    }
    if (code === 12) return { code, fields: this.fields() };
    return { code, number: this.varint() };
  }
  fields(): { id: number; item: Item }[] {
    const found = [];
    for (let id = 0; ; ) {
      const head = this.bytes[this.at++];
      if ((head & 15) === 0) return found;
      id = head >> 4 ? id + (head >> 4) : Number(this.varint() >> 1n);
      found.push({ id, item: this.item(head & 15) });
    }
  }
}

function write(item: Item, out: number[], inList = false): void {
  const varint = (value: bigint) => {
    let rest = value;
    for (; rest >= 128n; rest >>= 7n) out.push(Number(rest & 127n) | 128);
    out.push(Number(rest));
  };
  if ("fields" in item) {
    let last = 0;
    for (const { id, item: inner } of item.fields) {
      const delta = id - last;
      if (delta > 0 && delta < 16) out.push((delta << 4) | inner.code);
      else out.push(inner.code, (id << 1) & 127);
      last = id;
      write(inner, out);
    }
    out.push(0);
  } else if ("items" in item) {
    if (item.items.length < 15) out.push((item.items.length << 4) | item.inner);
    else {
      out.push(0xf0 | item.inner);
      varint(BigInt(item.items.length));
    }
    for (const inner of item.items) write(inner, out, true);
  } else if ("bytes" in item) {
    if (item.code === 8) varint(BigInt(item.bytes.length));
    out.push(...item.bytes);
  } else if ("number" in item) varint(item.number);
  else if (inList) out.push(item.code);
}

function all(item: Item, found: Item[] = []): Item[] {
  found.push(item);
  if ("fields" in item) for (const { item: inner } of item.fields) all(inner, found);
  if ("items" in item) for (const inner of item.items) all(inner, found);
  return found;
}

function damageItem(root: Item, random: RandomStream): void {
  const items = all(root);
  const item = pick(random, items);
  if ("number" in item) {
    const changes = [
      item.number + 2n,
      item.number > 1n ? item.number - 2n : 1n,
      0n,
      item.number ^ 1n,
      2n * item.number,
    ];
    item.number = pick(random, [...changes, BigInt(random.int(40)), 0x7fffffffn, 1n << 40n]);
  } else if ("fields" in item && item.fields.length > 0) {
    const i = random.int(item.fields.length);
    if (random.int(3) === 0) item.fields.splice(i, 1);
    else if (random.int(2)) item.fields[i].item = structuredClone(pick(random, items));
    else item.fields[i].id += 1;
  } else if ("items" in item && item.items.length > 0) {
    const i = random.int(item.items.length);
    if (random.int(2)) item.items.splice(i, 1);
    else item.items[i] = structuredClone(pick(random, item.items));
  } else if ("bytes" in item && item.bytes.length > 0) item.bytes[random.int(item.bytes.length)] ^= 1 << random.int(8);
  else if (item.code === 1 || item.code === 2) item.code = 3 - item.code;
}

/** Places of the headers of pages, by the plain way from the file's start: pages follow one another. */
function headers(file: Uint8Array): number[] {
  const found: number[] = [];
  try {
    for (let at = 4; at < file.length - 100; ) {
      found.push(at);
      const reader = new Reader(file, at);
      const size = reader.fields().find(({ id }) => id === 3)?.item as { number: bigint };
      at = reader.at + Number(size.number >> 1n);
    }
  } catch {
    found.pop();
  }
  return found;
}

export function parquetCase(seed: number): Uint8Array {
  const random = new RandomStream(seed);
  const source = pick(random, files);
  const file = source.slice();
  const view = new DataView(file.buffer);
  const footer = file.length - 8 - view.getUint32(file.length - 8, true);
  const kind = random.int(5);
  if (kind < 2) {
    const root: Item = { code: 12, fields: new Reader(file, footer).fields() };
    for (let i = 1 + random.int(2); i > 0; i--) damageItem(root, random);
    const out: number[] = [];
    write(root, out);
    const made = new Uint8Array(footer + out.length + 8);
    made.set(file.subarray(0, footer));
    made.set(out, footer);
    new DataView(made.buffer).setUint32(footer + out.length, out.length, true);
    made.set(file.subarray(file.length - 4), footer + out.length + 4);
    return made;
  }
  if (kind === 2) {
    // A page's header, with a field of as many bytes as before.
    const places = headers(source.subarray(0, footer));
    if (places.length > 0) {
      const at = pick(random, places);
      const reader = new Reader(file, at);
      const root: Item = { code: 12, fields: reader.fields() };
      const size = reader.at - at;
      damageItem(root, random);
      const out: number[] = [];
      write(root, out);
      if (out.length <= size) {
        file.set(out, at);
        if (out.length < size) file.copyWithin(at + out.length, at + size, footer);
        return file;
      }
    }
  }
  if (kind === 3) {
    // Bytes of pages: sums, levels, indices, values.
    for (let i = 1 + random.int(3); i > 0; i--) {
      const at = 4 + random.int(footer - 4);
      if (random.int(2)) file[at] ^= 1 << random.int(8);
      else file[at] = pick(random, [0, 1, 2, 3, 127, 128, 255, random.int(256)]);
    }
    return file;
  }
  return mutate(file, random);
}
