/** Typed access to a GGUF file's metadata. */
import { UserError } from "../runtime/errors.ts";
import type { GgufHeader, GgufValue } from "./gguf.ts";

export class GgufMetadata {
  readonly path: string;
  private readonly values: ReadonlyMap<string, GgufValue>;

  constructor(header: GgufHeader, path: string) {
    this.values = header.metadata;
    this.path = path;
  }

  fail(what: string): never {
    throw new UserError(`${this.path}: ${what}`);
  }

  has(key: string): boolean {
    return this.values.has(key);
  }

  number(key: string): number {
    return this.optional(key) ?? this.fail(`metadata ${key} is missing`);
  }

  /** A number, or undefined where there is none. */
  optional(key: string): number | undefined {
    const value = this.values.get(key);
    if (value === undefined) return undefined;
    if (typeof value === "number") return shortest(value);
    // Some files state per layer what is the same for all.
    if (isList(value) && value.length > 0 && Array.from(value as ArrayLike<unknown>).every((v) => v === value[0])) {
      if (typeof value[0] === "number") return shortest(value[0]);
    }
    return this.fail(`metadata ${key} must be one number`);
  }

  text(key: string): string | undefined {
    const value = this.values.get(key);
    if (value === undefined || typeof value === "string") return value;
    return this.fail(`metadata ${key} must be text`);
  }

  flag(key: string): boolean | undefined {
    const value = this.values.get(key);
    if (value === undefined || typeof value === "boolean") return value;
    return this.fail(`metadata ${key} must be true or false`);
  }

  texts(key: string): string[] | undefined {
    const value = this.values.get(key);
    if (value === undefined) return undefined;
    if (isList(value) && Array.isArray(value) && value.every((v) => typeof v === "string")) return value as string[];
    return this.fail(`metadata ${key} must be a list of texts`);
  }

  numbers(key: string): ArrayLike<number> | undefined {
    const value = this.values.get(key);
    if (value === undefined) return undefined;
    if (isList(value) && (value.length === 0 || typeof value[0] === "number")) return value as ArrayLike<number>;
    return this.fail(`metadata ${key} must be a list of numbers`);
  }
}

const isList = (value: GgufValue): value is Exclude<GgufValue, number | bigint | boolean | string> =>
  typeof value === "object";

/** The number with the fewest digits that is the same as f32: 1e-5 for 9.999999747378752e-6. */
function shortest(value: number): number {
  if (Number.isInteger(value)) return value;
  for (let digits = 1; digits < 9; digits++) {
    const rounded = Number(value.toPrecision(digits));
    if (Math.fround(rounded) === value) return rounded;
  }
  return value;
}
