/** Reading a tokenizer.json: its parts have types, and their options are of the types that the Rust library wants. */
import { UserError } from "../../runtime/errors.ts";

export type Json = Record<string, unknown>;

/** A part of a tokenizer.json, with what is said about it when it cannot be used. */
export class Part {
  readonly type: string;
  private readonly json: Json;
  private readonly what: string;
  private readonly file: string;

  /** @param what it is, such as "normalizer" */
  constructor(json: unknown, what: string, file: string) {
    this.what = what;
    this.file = file;
    if (!isObject(json) || typeof json.type !== "string") throw new UserError(`${file}: a ${what} must have a type`);
    this.json = json;
    this.type = json.type;
  }

  fail(reason: string): never {
    throw new UserError(`${this.file}: the ${this.what} ${this.type} ${reason}`);
  }

  /** @throws UserError for a type that is not known */
  unknown(): never {
    throw new UserError(`${this.file}: the ${this.what} ${brief(this.type)} is not supported`);
  }

  has(key: string): boolean {
    return this.json[key] !== undefined && this.json[key] !== null;
  }

  value(key: string): unknown {
    return this.json[key];
  }

  flag(key: string, otherwise?: boolean): boolean {
    const value = this.json[key] ?? otherwise;
    return typeof value === "boolean" ? value : this.fail(`needs "${key}" as true or false, not ${brief(value)}`);
  }

  text(key: string, otherwise?: string): string {
    const value = this.json[key] ?? otherwise;
    return typeof value === "string" ? value : this.fail(`needs "${key}" as text, not ${brief(value)}`);
  }

  char(key: string, otherwise?: string): string {
    const value = this.text(key, otherwise);
    return [...value].length === 1 ? value : this.fail(`needs "${key}" as one character, not ${brief(value)}`);
  }

  count(key: string): number {
    const value = this.json[key];
    return isCount(value) ? value : this.fail(`needs "${key}" as a whole number, not ${brief(value)}`);
  }

  choice<T extends string>(key: string, choices: readonly T[], otherwise?: T): T {
    const value = this.json[key] ?? otherwise;
    if (choices.includes(value as T)) return value as T;
    return this.fail(`has "${key}": ${brief(value)}; ${choices.join(", ")} are known`);
  }

  /** The parts of a sequence. */
  parts(key: string): Part[] {
    const list = this.json[key];
    if (!Array.isArray(list)) return this.fail(`needs "${key}" as a list`);
    return list.map((one) => new Part(one, this.what, this.file));
  }

  /** A text to look for, or a regular expression. */
  pattern(): { text: string } | { regex: string } {
    const { pattern } = this.json;
    if (isObject(pattern) && Object.keys(pattern).length === 1) {
      if (typeof pattern.String === "string" && pattern.String !== "") return { text: pattern.String };
      if (typeof pattern.Regex === "string") {
        if (pattern.Regex.length <= LONGEST_PATTERN) return { regex: pattern.Regex };
        return this.fail(`has a pattern of ${pattern.Regex.length} characters`);
      }
    }
    return this.fail(`needs a pattern, not ${brief(pattern)}`);
  }
}

const LONGEST_PATTERN = 20_000;
/** More ids than any known vocabulary has; one wrong digit must not make lists of billions. */
export const MOST_IDS = 1 << 22;

export const isCount = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 0;
export const isId = (value: unknown): value is number => isCount(value) && value < MOST_IDS;
export const brief = (value: unknown): string => String(JSON.stringify(value)).slice(0, 60);
/** Whether a text has half a surrogate pair, which is no text for the Rust library. */
export const isBroken = (text: string): boolean => /\p{Surrogate}/u.test(text);

export function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
