/**
 * Writes messages in Protocol Buffers' wire format: https://protobuf.dev/programming-guides/encoding. A message is the
 * bytes of its fields one after the other, each with its number in the message's definition.
 */
import { joinedBytes } from "../runtime/joined-bytes.ts";

/** The bytes of a field or a message. */
export type ProtoBytes = Uint8Array;

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  bytes.push(rest);
  return bytes;
}

const tag = (field: number, wire: 0 | 1 | 2 | 5): number[] => varint(field * 8 + wire);

const fixed = (field: number, wire: 1 | 5, write: (view: DataView) => void): ProtoBytes => {
  const value = new Uint8Array(wire === 1 ? 8 : 4);
  write(new DataView(value.buffer));
  return joinedBytes([Uint8Array.from(tag(field, wire)), value]);
};

const sized = (field: number, pieces: readonly Uint8Array[]): ProtoBytes => {
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  return joinedBytes([Uint8Array.from([...tag(field, 2), ...varint(length)]), ...pieces]);
};

/** Fields of messages, by the type that their definition gives. */
export const proto = {
  /** An enum, a bool, or an integer that is not negative. */
  int: (field: number, value: number): ProtoBytes => Uint8Array.from([...tag(field, 0), ...varint(value)]),
  double: (field: number, value: number): ProtoBytes => fixed(field, 1, (view) => view.setFloat64(0, value, true)),
  float: (field: number, value: number): ProtoBytes => fixed(field, 5, (view) => view.setFloat32(0, value, true)),
  text: (field: number, value: string): ProtoBytes => sized(field, [new TextEncoder().encode(value)]),
  bytes: (field: number, value: Uint8Array): ProtoBytes => sized(field, [value]),
  /** A repeated integer in one piece. */
  ints: (field: number, values: readonly number[]): ProtoBytes =>
    sized(field, [Uint8Array.from(values.flatMap(varint))]),
  message: (field: number, ...fields: ProtoBytes[]): ProtoBytes => sized(field, fields),
  /** A message that stands alone: its fields one after the other. */
  whole: (...fields: ProtoBytes[]): ProtoBytes => joinedBytes(fields),
};

/** A field as it stands in a message: a varint as its number, everything else as its bytes. */
export interface ProtoField {
  readonly field: number;
  readonly value: number | Uint8Array;
}

/**
 * The fields of a message, in their order; what is no whole field ends them.
 * @param broken is called where that is so
 */
export function* protoFields(bytes: Uint8Array, broken?: () => never): Generator<ProtoField> {
  let at = 0;
  const number = (): number => {
    let value = 0;
    for (let scale = 1; at < bytes.length; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    return Number.NaN;
  };
  while (at < bytes.length) {
    const key = number();
    const wire = key % 8;
    const field = Math.floor(key / 8);
    if (wire === 0) {
      const value = number();
      if (Number.isNaN(value)) broken?.();
      yield { field, value };
      continue;
    }
    const length = wire === 1 ? 8 : wire === 5 ? 4 : wire === 2 ? number() : Number.NaN;
    if (!(at + length <= bytes.length)) {
      broken?.();
      return;
    }
    yield { field, value: bytes.subarray(at, at + length) };
    at += length;
  }
}
