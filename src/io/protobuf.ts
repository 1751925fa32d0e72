/**
 * Writes messages in Protocol Buffers' wire format: https://protobuf.dev/programming-guides/encoding. A message is the
 * bytes of its fields one after the other, each with its number in the message's definition.
 */

/** The bytes of a field or a message. */
export type ProtoBytes = readonly number[];

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  bytes.push(rest);
  return bytes;
}

const tag = (field: number, wire: 0 | 1 | 2 | 5): number[] => varint(field * 8 + wire);

const fixed = (bytes: number, write: (view: DataView) => void): number[] => {
  const view = new DataView(new ArrayBuffer(bytes));
  write(view);
  return [...new Uint8Array(view.buffer)];
};

/** Fields of messages, by the type that their definition gives. */
export const proto = {
  /** An enum, a bool, or an integer that is not negative. */
  int: (field: number, value: number): ProtoBytes => [...tag(field, 0), ...varint(value)],
  double: (field: number, value: number): ProtoBytes => [
    ...tag(field, 1),
    ...fixed(8, (view) => view.setFloat64(0, value, true)),
  ],
  float: (field: number, value: number): ProtoBytes => [
    ...tag(field, 5),
    ...fixed(4, (view) => view.setFloat32(0, value, true)),
  ],
  text: (field: number, value: string): ProtoBytes => {
    const bytes = new TextEncoder().encode(value);
    return [...tag(field, 2), ...varint(bytes.length), ...bytes];
  },
  message: (field: number, ...fields: ProtoBytes[]): ProtoBytes => {
    const bytes = fields.flat();
    return [...tag(field, 2), ...varint(bytes.length), ...bytes];
  },
};

/** A field as it stands in a message: a varint as its number, everything else as its bytes. */
export interface ProtoField {
  readonly field: number;
  readonly value: number | Uint8Array;
}

/** The fields of a message, in their order; what is no whole field ends them. */
export function* protoFields(bytes: Uint8Array): Generator<ProtoField> {
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
      yield { field, value: number() };
      continue;
    }
    const length = wire === 1 ? 8 : wire === 5 ? 4 : wire === 2 ? number() : Number.NaN;
    if (!(at + length <= bytes.length)) return;
    yield { field, value: bytes.subarray(at, at + length) };
    at += length;
  }
}
