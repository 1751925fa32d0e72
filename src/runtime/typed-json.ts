/** Values as text: JSON with what a structured clone has besides, typed arrays and numbers that are none. */
import { fromBase64, toBase64 } from "./base64.ts";
import { UserError } from "./errors.ts";

const ARRAYS = {
  Float32Array,
  Float64Array,
  Int8Array,
  Int16Array,
  Int32Array,
  Uint8Array,
  Uint8ClampedArray,
  Uint16Array,
  Uint32Array,
  BigInt64Array,
  BigUint64Array,
} as const;
type ArrayName = keyof typeof ARRAYS;

/** Marks what JSON has not; an object that has a key of this name is marked itself. */
const MARK = "$as";

/** The value as JSON text on one line. */
export const encode = (value: unknown): string => JSON.stringify(marked(value));

/** The value as JSON has it. */
export function marked(value: unknown): unknown {
  if (typeof value === "number" && (!Number.isFinite(value) || Object.is(value, -0))) {
    return { [MARK]: "number", of: Object.is(value, -0) ? "-0" : String(value) };
  }
  if (typeof value === "bigint") return { [MARK]: "bigint", of: String(value) };
  if (value === undefined) return { [MARK]: "undefined" };
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return Array.from(value, marked);
  if (ArrayBuffer.isView(value)) {
    const { buffer, byteOffset, byteLength } = value;
    const { name } = value.constructor;
    if (!Object.hasOwn(ARRAYS, name)) throw new UserError(`an event cannot hold a ${name}: give it a typed array`);
    return { [MARK]: name, of: toBase64(new Uint8Array(buffer, byteOffset, byteLength)) };
  }
  if (value instanceof ArrayBuffer) return { [MARK]: "ArrayBuffer", of: toBase64(new Uint8Array(value)) };
  if (value instanceof Map) return { [MARK]: "Map", of: marked([...value]) };
  if (value instanceof Set) return { [MARK]: "Set", of: marked([...value]) };
  if (value instanceof Date) return { [MARK]: "Date", of: value.getTime() };
  const plain = Object.fromEntries(Object.entries(value).map(([key, item]) => [key, marked(item)]));
  return Object.hasOwn(value, MARK) ? { [MARK]: "object", of: plain } : plain;
}

/**
 * The value of such a text.
 * @throws UserError where it is none
 */
export function decode(text: string): unknown {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new UserError(`not valid JSON: ${text.slice(0, 60)}`, { cause });
  }
  return unmarked(json);
}

/** What such JSON is the value of. Throws a `UserError` where it is none. */
export function unmarked(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(unmarked);
  if (!Object.hasOwn(value, MARK)) return inner(value);
  const { [MARK]: as, of } = value as Record<string, unknown>;
  if (as === "undefined") return undefined;
  if (as === "object" && typeof of === "object" && of !== null) return inner(of);
  if (as === "number" && typeof of === "string") return Number(of);
  if (as === "bigint" && typeof of === "string" && /^-?\d{1,400}$/.test(of)) return BigInt(of);
  if (as === "Date" && typeof of === "number") return new Date(of);
  if (as === "ArrayBuffer" && typeof of === "string") return bytesOf(of).buffer;
  if (as === "Map" && Array.isArray(of) && of.every((pair) => Array.isArray(pair) && pair.length === 2)) {
    return new Map(unmarked(of) as [unknown, unknown][]);
  }
  if (as === "Set" && Array.isArray(of)) return new Set(unmarked(of) as unknown[]);
  if (typeof as === "string" && Object.hasOwn(ARRAYS, as) && typeof of === "string") {
    const bytes = bytesOf(of);
    const Kind = ARRAYS[as as ArrayName];
    if (bytes.length % Kind.BYTES_PER_ELEMENT === 0) return new Kind(bytes.buffer);
  }
  throw new UserError(`${JSON.stringify(as)} is nothing that an event can hold`);
}

/** A new object: a key called __proto__ is a key like others. */
const inner = (value: object): object =>
  Object.fromEntries(Object.entries(value).map(([key, item]) => [key, unmarked(item)]));

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  const bytes = fromBase64(text);
  if (bytes) return bytes;
  throw new UserError("an event holds an array that is damaged");
}
