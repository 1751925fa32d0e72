/** Damaged GGUF files: wrong types, counts, names, shapes and offsets, or a few bytes. */
import { RandomStream } from "../../src/runtime/rng.ts";
import { mutate } from "../io/mutate.ts";
import { pick } from "./json-tree.ts";

const encoder = new TextEncoder();
/** ggml's types that are drawn: number, items and bytes of a block. */
const TYPES: readonly [number, number, number][] = [
  [0, 1, 4],
  [1, 1, 2],
  [2, 32, 18],
  [3, 32, 20],
  [6, 32, 22],
  [7, 32, 24],
  [8, 32, 34],
  [12, 256, 144],
  [14, 256, 210],
  [30, 1, 2],
  [10, 256, 84],
  [24, 1, 1],
];

class Writer {
  readonly bytes: number[] = [];
  u(value: number | bigint, size: number): this {
    let rest = BigInt.asUintN(8 * size, BigInt(value));
    for (let i = 0; i < size; i++, rest >>= 8n) this.bytes.push(Number(rest & 255n));
    return this;
  }
  text(value: string | Uint8Array): this {
    const content = typeof value === "string" ? encoder.encode(value) : value;
    this.u(content.length, 8);
    this.bytes.push(...content);
    return this;
  }
}

export function ggufCase(seed: number): Uint8Array {
  const random = new RandomStream(seed);
  /** Mostly the value, at times another. */
  const or = <T>(value: T, ...others: T[]): T => (random.int(60) ? value : pick(random, others));
  const w = new Writer();
  const alignment = pick(random, [32, 32, 64]);
  w.bytes.push(...encoder.encode(or("GGUF", "GGUX", "FUGG")));
  w.u(or(pick(random, [2, 3, 3]), 1, 4, 0, 0x03000000), 4);
  const tensors = Array.from({ length: random.int(4) }, (_, i) => {
    const type = pick(random, TYPES);
    const shape = [type[1] * (1 + random.int(2)), ...Array.from({ length: random.int(3) }, () => 1 + random.int(3))];
    return {
      name: pick(random, ["a", "blk.0.attn_q.weight", "ü", "token_embd.weight"]) + or(String(i), ""),
      type,
      shape,
    };
  });
  const pairs: [string, (w: Writer) => unknown][] = [
    ["general.architecture", (w) => w.u(8, 4).text("llama")],
    ["general.alignment", (w) => w.u(4, 4).u(or(alignment, 8, 1, 0, 33), 4)],
    ["llama.block_count", (w) => w.u(or(4, 5, 10, 6), 4).u(7, 4)],
    ["x.small", (w) => w.u(0, 4).u(random.int(256), 1)],
    ["x.signed", (w) => w.u(3, 4).u(-random.int(9), 2)],
    ["x.float", (w) => w.u(6, 4).u(random.int(2 ** 31), 4)],
    [
      "x.double",
      (w) =>
        w
          .u(12, 4)
          .u(random.int(2 ** 31), 4)
          .u(random.int(2 ** 31), 4),
    ],
    ["x.big", (w) => w.u(pick(random, [10, 11]), 4).u(-random.int(3), 8)],
    ["x.flag", (w) => w.u(7, 4).u(or(random.int(2), 2, 255), 1)],
    ["x.texts", (w) => list(w, 8, 3, (w) => w.text(or(pick(random, ["a", "", "ü▁"]), "\u0000")))],
    ["x.numbers", (w) => list(w, pick(random, [4, 5, 6]), 3, (w) => w.u(random.int(2 ** 31), 4))],
    ["x.flags", (w) => list(w, 7, 2, (w) => w.u(or(random.int(2), 3), 1))],
    ["x.empty", (w) => list(w, pick(random, [4, 8, 9]), 0, () => {})],
  ];
  function list(w: Writer, type: number, count: number, item: (w: Writer) => unknown): void {
    w.u(9, 4);
    w.u(or(type, 9, 13, 7, 0), 4);
    w.u(or(count, count + 1, 0, 2 ** 31, 2 ** 40), 8);
    for (let i = 0; i < count; i++) item(w);
  }
  const chosen = pairs.filter(([key]) => key === "general.architecture" || random.int(3) === 0);
  if (alignment !== 32 && !chosen.some(([key]) => key === "general.alignment")) chosen.push(pairs[1]);
  if (random.int(40) === 0) chosen.push(pick(random, pairs));
  w.u(or(tensors.length, tensors.length + 1, 0, 2 ** 40), 8);
  w.u(or(chosen.length, chosen.length + 1, 0, chosen.length - 1), 8);
  for (const [key, write] of chosen) {
    w.text(or(key, "", `${key}x`, "general.alignment"));
    write(w);
  }
  let at = 0;
  const padded = (n: number) => Math.ceil(n / alignment) * alignment;
  for (const { name, type, shape } of tensors) {
    w.text(or(name, "", "a"));
    w.u(or(shape.length, 0, 5, 2 ** 31), 4);
    for (const size of shape) w.u(or(size, 0, 2 ** 31, 1, size * 2), 8);
    w.u(or(type[0], 0, 1, 4, 9, 99), 4);
    w.u(or(at, at + alignment, 0, at + 1, 2 ** 40), 8);
    at = padded(at + (shape.reduce((a, b) => a * b, 1) / type[1]) * type[2]);
  }
  while (w.bytes.length % alignment) w.bytes.push(0);
  const length = Math.max(0, at + or(0, 1, -1, -alignment, alignment));
  // Scales of blocks are halves: small bytes keep most of them ordinary numbers.
  for (let i = 0; i < length; i++) w.bytes.push(random.int(4) ? random.int(64) : random.int(256));
  const out = Uint8Array.from(w.bytes);
  return random.int(4) === 0 ? mutate(out, random) : out;
}
