/** Damaged safetensors files: a header that contradicts itself or the data, or a few bytes. */
import { RandomStream } from "../../src/runtime/rng.ts";
import { mutate } from "../io/mutate.ts";
import { damage, pick, type Tree, treeOf, written } from "./json-tree.ts";

const TYPES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  U64: 8,
  I32: 4,
  U32: 4,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
};
const ODD: readonly Tree[] = [
  ...Object.keys(TYPES),
  "F8_E4M3",
  "F4",
  "C64",
  "f32",
  [2, 3],
  [0],
  [],
  [-1],
  [0, 24],
  [1, 2, 3],
];

export function safetensorsCase(seed: number): Uint8Array {
  const random = new RandomStream(seed);
  const header: Record<string, unknown> = {};
  if (random.int(2)) header.__metadata__ = { format: "pt", note: "ü" };
  let end = 0;
  for (let i = 1 + random.int(4); i > 0; i--) {
    const dtype = pick(random, Object.keys(TYPES) as (keyof typeof TYPES)[]);
    const shape = Array.from({ length: random.int(4) }, () => random.int(4));
    const begin = end;
    end += shape.reduce((a, b) => a * b, 1) * TYPES[dtype];
    header[pick(random, ["a", "model.embed.weight", "ü", "", "x.0"]) + i] = {
      dtype,
      shape,
      data_offsets: [begin, end],
    };
  }
  const tree = treeOf(header);
  const rounds = random.int(4);
  for (let i = 0; i < rounds; i++) damage(tree, random, ODD);
  const text = new TextEncoder().encode(written(tree) + " ".repeat(random.int(3) ? 0 : random.int(9)));
  const data = Uint8Array.from({ length: Math.max(0, end + (random.int(8) ? 0 : random.int(9) - 4)) }, () =>
    random.int(256),
  );
  const out = new Uint8Array(8 + text.length + data.length);
  new DataView(out.buffer).setBigUint64(0, BigInt(text.length), true);
  out.set(text, 8);
  out.set(data, 8 + text.length);
  return random.int(4) === 0 ? mutate(out, random) : out;
}
