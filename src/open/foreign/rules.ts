/** How arguments of other programs are read: tables of names, each with a rule. */
import type { Foreign, SettingsTable } from "../../settings/index.ts";

/** What an argument of another program comes to; null where it is not this rule's to say. */
export type Rule = (value: unknown, given: Readonly<Record<string, unknown>>, table: SettingsTable) => Foreign | null;

/** Rules by the arguments' names, in snake_case. */
export type Rules = Readonly<Record<string, Rule>>;

/** It changes nothing here, whatever its value. */
export const idle: Rule = () => ({ kind: "idle" });

/** The values by which a thing is left out: false, 0, none, nothing. */
export function isOff(value: unknown): boolean {
  if (value === null || value === undefined || value === false || value === 0) return true;
  if (typeof value === "string") return ["", "false", "no", "off", "none", "null", "0", "0.0"].includes(plain(value));
  return typeof value === "object" && Object.keys(value).length === 0;
}

/** A value as text, whichever way it was written. */
export const plain = (value: unknown): string => String(value).trim().toLowerCase();

const refused = (why: string): Foreign => ({ kind: "refused", why });

/** It may be left out only: with it the result would be another one. */
export const off =
  (why: string): Rule =>
  (value) =>
    isOff(value) ? { kind: "idle" } : refused(why);

/** It may have these values only, by which it says what happens here anyway. Null is another program's default. */
export const only =
  (fine: readonly (string | number | boolean)[], why: string): Rule =>
  (value) => {
    const number = Number(value);
    const same = (one: string | number | boolean) =>
      plain(one) === plain(value) ||
      (typeof one === "number" && one === number) ||
      (one === true && plain(value) === "1");
    return value === null || fine.some(same) || (fine.includes(false) && isOff(value))
      ? { kind: "idle" }
      : refused(why);
  };

/** Another name of a setting, perhaps with its value put another way. */
export const sets =
  (key: string, turn: (value: unknown) => unknown = (value) => value): Rule =>
  (value, _, table) => {
    if (Object.hasOwn(table, key)) return { kind: "sets", values: { [key]: turn(value) } };
    return isOff(value) ? { kind: "idle" } : refused("this method has nothing like it");
  };

/** Rules for names that all come to the same. */
export const each = (rule: Rule, names: string): Rules =>
  Object.fromEntries(
    names
      .trim()
      .split(/\s+/)
      .map((name) => [name, rule]),
  );

/** An object, also where a flag holds it as JSON; null for what is none. */
export function record(value: unknown): Record<string, unknown> | null {
  try {
    const read: unknown = typeof value === "string" ? JSON.parse(value) : value;
    return typeof read === "object" && read !== null && !Array.isArray(read) ? (read as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}
