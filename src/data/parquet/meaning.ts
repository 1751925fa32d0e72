/** What the values of a column mean: text, dates, decimals and other things that a JSON file would write its own way. */
import { f16sToF32 } from "../../runtime/half.ts";
import { utf8 } from "../../runtime/utf8.ts";
import type { Leaf, Physical } from "./footer.ts";

type Convert = (value: unknown) => unknown;

const DAY = 86_400_000;
/** Types that values with a meaning may be stored as. */
const STORED: Readonly<Record<string, readonly Physical[]>> = {
  STRING: ["BYTE_ARRAY"],
  ENUM: ["BYTE_ARRAY"],
  JSON: ["BYTE_ARRAY"],
  BSON: ["BYTE_ARRAY"],
  DECIMAL: ["INT32", "INT64", "BYTE_ARRAY", "FIXED"],
  DATE: ["INT32"],
  TIME: ["INT32", "INT64"],
  TIMESTAMP_MILLIS: ["INT64"],
  TIMESTAMP_MICROS: ["INT64"],
  TIMESTAMP_NANOS: ["INT64"],
  UUID: ["FIXED"],
  FLOAT16: ["FIXED"],
  UINT_8: ["INT32"],
  UINT_16: ["INT32"],
  UINT_32: ["INT32"],
  UINT_64: ["INT64"],
  INT_8: ["INT32"],
  INT_16: ["INT32"],
  INT_32: ["INT32"],
  INT_64: ["INT64"],
};

/**
 * Turns stored values into those of a row. Whole numbers of 64 bits become numbers.
 * @throws Error for a meaning that is not supported, or not for this type
 */
export function converter(leaf: Leaf): Convert {
  const { type, meaning, length } = leaf;
  if (meaning !== "" && meaning !== "NULL" && !STORED[meaning]?.includes(type)) {
    throw new Error(`column ${leaf.path}: ${meaning} stored as ${type} is not supported`);
  }
  switch (meaning) {
    case "STRING":
    case "ENUM":
      return (value) => utf8(value as Uint8Array);
    case "JSON":
      return (value) => JSON.parse(utf8(value as Uint8Array));
    case "DECIMAL":
      return (value) => decimal(value, leaf.scale);
    case "DATE":
      return (value) => date(Number(value) * DAY);
    case "TIMESTAMP_MILLIS":
      return (value) => date(Number(value));
    case "TIMESTAMP_MICROS":
      return (value) => date(Number((value as bigint) / 1000n));
    case "TIMESTAMP_NANOS":
      return (value) => date(Number((value as bigint) / 1_000_000n));
    case "NULL":
      return () => {
        throw new Error("a value where the schema says that there are only nulls");
      };
    case "UUID":
      if (length !== 16) throw new Error(`column ${leaf.path}: a UUID of ${length} bytes`);
      return (value) => hex(value as Uint8Array).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
    case "FLOAT16":
      if (length !== 2) throw new Error(`column ${leaf.path}: a FLOAT16 of ${length} bytes`);
      return (value) => f16sToF32(Uint16Array.of((value as Uint8Array)[0] + 256 * (value as Uint8Array)[1]))[0];
  }
  const whole = /^(U?)INT_(\d+)$/.exec(meaning);
  if (whole) return integer(whole[1] === "U", Number(whole[2]));
  if (type === "INT96") return (value) => julian(value as Uint8Array);
  if (type === "BYTE_ARRAY" && meaning === "") return (value) => textOrBytes(value as Uint8Array);
  return (value) => (typeof value === "bigint" ? Number(value) : value);
}

function integer(unsigned: boolean, bits: number): Convert {
  return (value) => {
    const stored = typeof value === "bigint" ? value : BigInt(value as number);
    // Small unsigned numbers are stored as signed ones of 32 bits.
    const number = unsigned ? BigInt.asUintN(Math.max(32, bits), stored) : stored;
    const fits = (unsigned ? BigInt.asUintN(bits, number) : BigInt.asIntN(bits, number)) === number;
    if (!fits) throw new Error(`the number ${number} has more than ${bits} bits`);
    return Number(number);
  };
}

function date(milliseconds: number): Date {
  const made = new Date(milliseconds);
  if (Number.isNaN(made.getTime())) throw new Error(`a date ${milliseconds} milliseconds after 1970`);
  return made;
}

/** Nanoseconds of a day and the number of the day, which counts from 4713 BC. */
function julian(bytes: Uint8Array): Date {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return date((view.getInt32(8, true) - 2440588) * DAY + Number(view.getBigInt64(0, true) / 1_000_000n));
}

function decimal(value: unknown, scale: number): number {
  const whole = value instanceof Uint8Array ? BigInt.asIntN(8 * value.length, BigInt(`0x0${hex(value)}`)) : value;
  return Number(whole) / 10 ** scale;
}

const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Writers that do not say what their bytes are mostly mean text. */
function textOrBytes(bytes: Uint8Array): string | Uint8Array {
  try {
    return utf8(bytes);
  } catch {
    return bytes.slice();
  }
}
