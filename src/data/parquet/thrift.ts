/**
 * Thrift's compact protocol, as far as Parquet's headers need it. What a record has is described, and a known field of
 * another type, a number out of range or a length beyond the end is an error; fields that are not described are passed over.
 */

import { utf8 } from "../../runtime/utf8.ts";

/** The type of a field: what it must be, in a file that is whole. */
export type ThriftType = "bool" | "i8" | "i32" | "i64" | "text" | readonly [ThriftType] | ThriftFields;
/** Fields by number: a name, a type, and whether it must be there. */
export interface ThriftFields {
  readonly [id: number]: readonly [name: string, type: ThriftType, needed?: "needed"];
}
/** A record by the names of its description. */
export type ThriftRecord = { [name: string]: unknown };

const [STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT] = Array.from(
  { length: 13 },
  (_, code) => code,
);
const DEEPEST = 40;

/** A reader of records that follow each other in some bytes. */
export class ThriftReader {
  readonly bytes: Uint8Array;
  offset: number;

  constructor(bytes: Uint8Array, offset = 0) {
    this.bytes = bytes;
    this.offset = offset;
  }

  record(fields: ThriftFields, depth = 0): ThriftRecord {
    if (depth > DEEPEST) throw new Error("a header that is nested too deep");
    const found: ThriftRecord = {};
    for (let id = 0; ; ) {
      const head = this.byte();
      const code = head & 15;
      if (code === STOP) break;
      id = head >> 4 ? id + (head >> 4) : this.integer(16);
      const field = fields[id];
      if (!field) this.pass(code, depth);
      else if (field[0] in found) throw new Error(`a header that has its field "${field[0]}" twice`);
      else found[field[0]] = this.value(code, field[1], field[0], depth);
    }
    for (const [name, , needed] of Object.values(fields)) {
      if (needed && !(name in found)) throw new Error(`a header without its field "${name}"`);
    }
    return found;
  }

  private value(code: number, type: ThriftType, name: string, depth: number): unknown {
    if (type === "bool" && (code === TRUE || code === FALSE)) return code === TRUE;
    if (type === "i8" && code === BYTE) return (this.byte() << 24) >> 24;
    if (type === "i32" && code === I32) return this.integer(32);
    if (type === "i64" && code === I64) return this.integer(64);
    if (type === "text" && code === BINARY) return this.text();
    if (Array.isArray(type) && code === LIST) {
      const { count, code: inner } = this.list();
      return Array.from({ length: count }, () => this.value(inner, type[0], name, depth));
    }
    if (typeof type === "object" && !Array.isArray(type) && code === STRUCT) {
      return this.record(type as ThriftFields, depth + 1);
    }
    throw new Error(`a header whose field "${name}" is of another type`);
  }

  private list(): { count: number; code: number } {
    const head = this.byte();
    const count = head >> 4 === 15 ? this.unsigned() : head >> 4;
    if (count > this.bytes.length - this.offset) throw new Error("a list that is longer than its header");
    return { count, code: head & 15 };
  }

  private pass(code: number, depth: number): void {
    if (depth > DEEPEST) throw new Error("a header that is nested too deep");
    if (code === TRUE || code === FALSE) return;
    if (code === BYTE) this.skip(1);
    else if (code === I16 || code === I32 || code === I64) this.varint();
    else if (code === DOUBLE) this.skip(8);
    else if (code === BINARY) this.skip(this.unsigned());
    else if (code === LIST || code === SET) {
      const { count, code: inner } = this.list();
      for (let i = 0; i < count; i++) this.passItem(inner, depth + 1);
    } else if (code === MAP) {
      const count = this.unsigned();
      if (count > this.bytes.length - this.offset) throw new Error("a map that is longer than its header");
      const types = count > 0 ? this.byte() : 0;
      for (let i = 0; i < count; i++) {
        this.passItem(types >> 4, depth + 1);
        this.passItem(types & 15, depth + 1);
      }
    } else if (code === STRUCT) this.record({}, depth + 1);
    else throw new Error(`a header with a field of type ${code}, which there is not`);
  }

  /** In lists a truth value is a byte of its own. */
  private passItem(code: number, depth: number): void {
    if (code === TRUE || code === FALSE) this.skip(1);
    else this.pass(code, depth);
  }

  private byte(): number {
    if (this.offset >= this.bytes.length) throw new Error("a header that is cut off");
    return this.bytes[this.offset++];
  }

  private skip(length: number): void {
    if (length > this.bytes.length - this.offset) throw new Error("a header that is cut off");
    this.offset += length;
  }

  private text(): string {
    const length = this.unsigned();
    const start = this.offset;
    this.skip(length);
    return utf8(this.bytes.subarray(start, start + length));
  }

  private varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.byte();
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw new Error("a header with a number that does not end");
  }

  private unsigned(): number {
    const value = this.varint();
    if (value > 0x7fffffffn) throw new Error("a header with a length out of range");
    return Number(value);
  }

  private integer(bits: number): number {
    const value = this.varint();
    const signed = Number((value >> 1n) ^ -(value & 1n));
    if (Math.abs(signed) > Math.min(2 ** (bits - 1), Number.MAX_SAFE_INTEGER)) {
      throw new Error(`a header with the number ${signed}, which is out of range`);
    }
    return signed;
  }
}
