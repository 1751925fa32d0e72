/** Reads TensorBoard's event files and wandb's logs for tests, after the published definitions; it shares nothing with what writes them. */

export interface Scalar {
  step: number;
  name: string;
  value: number;
}

/** A CRC-32, bit by bit. */
function checksum(bytes: Uint8Array, polynomial: bigint): bigint {
  let sum = 0xffffffffn;
  for (const byte of bytes) {
    sum ^= BigInt(byte);
    for (let i = 0; i < 8; i++) sum = sum & 1n ? (sum >> 1n) ^ polynomial : sum >> 1n;
  }
  return sum ^ 0xffffffffn;
}

/** The CRC-32C, turned and moved as TFRecord does. */
function masked(bytes: Uint8Array): number {
  const sum = checksum(bytes, 0x82f63b78n);
  return Number((((sum >> 15n) | (sum << 17n)) + 0xa282ead8n) & 0xffffffffn);
}

/** The records of a file; what is cut short at its end is none. Throws where a checksum is wrong. */
export function recordsOf(file: Uint8Array): Uint8Array[] {
  const records: Uint8Array[] = [];
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  for (let at = 0; at + 12 <= file.length; ) {
    const length = Number(view.getBigUint64(at, true));
    if (view.getUint32(at + 8, true) !== masked(file.subarray(at, at + 8))) throw new Error(`length at ${at}`);
    if (at + 16 + length > file.length) break;
    const record = file.subarray(at + 12, at + 12 + length);
    if (view.getUint32(at + 12 + length, true) !== masked(record)) throw new Error(`record at ${at}`);
    records.push(record);
    at += 16 + length;
  }
  return records;
}

type Field = [number, number | Uint8Array];

/** The fields of a protobuf message. */
export function fieldsOf(bytes: Uint8Array): Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number(value);
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const wire = key & 7;
    if (wire === 0) {
      fields.push([key >> 3, varint()]);
      continue;
    }
    const length = wire === 2 ? varint() : wire === 1 ? 8 : 4;
    fields.push([key >> 3, bytes.subarray(at, at + length)]);
    at += length;
  }
  return fields;
}

const all = (fields: readonly Field[], field: number) => fields.filter(([f]) => f === field).map(([, value]) => value);

/** The scalars of an event file, in their order. */
export function scalarsOf(file: Uint8Array): Scalar[] {
  return recordsOf(file).flatMap((record) => {
    const event = fieldsOf(record);
    const step = Number(all(event, 2)[0] ?? 0);
    return all(event, 5).flatMap((summary) =>
      all(fieldsOf(summary as Uint8Array), 1).flatMap((value) => {
        const fields = fieldsOf(value as Uint8Array);
        const bytes = all(fields, 2)[0] as Uint8Array | undefined;
        if (!bytes) return [];
        const name = new TextDecoder().decode(all(fields, 1)[0] as Uint8Array);
        return [{ step, name, value: new DataView(bytes.buffer, bytes.byteOffset, 4).getFloat32(0, true) }];
      }),
    );
  });
}

/** The records of a log in LevelDB's format with wandb's header and checksums. Throws where one is wrong. */
export function wandbRecordsOf(file: Uint8Array): Uint8Array[] {
  const records: Uint8Array[] = [];
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (new TextDecoder().decode(file.subarray(0, 4)) !== ":W&B") throw new Error("no log of wandb");
  const open: number[] = [];
  for (let at = 7; at < file.length; ) {
    const left = 32768 - (at % 32768);
    if (left < 7) {
      at += left;
      continue;
    }
    const end = at + 7 + view.getUint16(at + 4, true);
    if (Number(checksum(file.subarray(at + 6, end), 0xedb88320n)) !== view.getUint32(at, true))
      throw new Error(`at ${at}`);
    open.push(...file.subarray(at + 7, end));
    if ([1, 4].includes(file[at + 6])) records.push(Uint8Array.from(open.splice(0)));
    at = end;
  }
  return records;
}
