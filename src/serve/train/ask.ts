/** Fields that many of a training client's requests have. */
import { ApiError, badField } from "../errors.ts";
import { Fields } from "../fields.ts";

const LONGEST = 1024;
const MOST_ENTRIES = 64;
/** From an hour to ten years, in seconds. */
const TTL = [3600, 315_360_000] as const;

/** The fields of a request; its `type`, which says again what the address says, is known. */
export function fieldsOf(body: unknown): Fields {
  const f = new Fields(body);
  f.raw("type");
  return f;
}

/** A text that is not empty. */
export function text(f: Fields, name: string): string {
  const value = optionalText(f, name);
  if (value !== null) return value;
  throw badField(name, `${name} must be a text of at most ${LONGEST} characters`);
}

/** A text, or null where there is none. */
export function optionalText(f: Fields, name: string): string | null {
  const value = f.raw(name);
  if (value === undefined) return null;
  if (typeof value === "string" && value !== "" && value.length <= LONGEST) return value;
  throw badField(name, `${name} must be a text of at most ${LONGEST} characters`);
}

/** An object in an object, or null where there is none. */
export function inner(f: Fields, name: string): Fields | null {
  const value = f.raw(name);
  if (value === undefined) return null;
  if (typeof value !== "object" || Array.isArray(value)) throw badField(name, `${name} must be an object`);
  return new Fields(value);
}

/** What a client wants to be kept beside something: texts by names. */
export function metadata(f: Fields): Record<string, string> | null {
  const value = f.raw("user_metadata");
  if (value === undefined) return null;
  const wrong = (): never => {
    throw badField(
      "user_metadata",
      `user_metadata must be an object of at most ${MOST_ENTRIES} texts of at most ${LONGEST} characters`,
    );
  };
  if (typeof value !== "object" || Array.isArray(value)) return wrong();
  const entries = Object.entries(value as Record<string, unknown>).filter(([, one]) => one !== null);
  if (entries.length > MOST_ENTRIES) wrong();
  return Object.fromEntries(
    entries.map(([name, one]) => {
      const words = typeof one === "string" ? one : JSON.stringify(one);
      return name.length <= LONGEST && words.length <= LONGEST ? [name, words] : wrong();
    }),
  );
}

/** When something may go, in milliseconds since 1970; null: never. */
export function expiry(f: Fields): number | null {
  const seconds = f.integer("ttl_seconds", ...TTL);
  return seconds === undefined ? null : Date.now() + seconds * 1000;
}

/** There is one optimizer here. */
export function checkOptimizer(f: Fields): void {
  const config = inner(f, "optimizer_config");
  const type = config?.raw("type") ?? "adamw";
  if (type !== "adamw")
    throw badField("optimizer_config", `the optimizer ${JSON.stringify(type)} is not known here; adamw is`);
}

/** There is one model here. */
export function checkBase(given: string | null, served: string): void {
  if (given === null || given === served) return;
  throw new ApiError(400, `This server trains ${JSON.stringify(served)}, not ${JSON.stringify(given.slice(0, 200))}.`, {
    param: "base_model",
  });
}
