/** Whether a value is one that a setting takes, and the words for those that are not. */
import * as v from "valibot";
import { type MixtureMap, mixtureText } from "../data/raw/mixture.ts";
import { nullable, type Setting, type SettingKind } from "./setting.ts";

const numberLike = v.union([
  v.number(),
  v.pipe(
    v.string(),
    v.trim(),
    v.nonEmpty(),
    v.transform((text) => Number(text)),
  ),
]);
/** A folder may be called 2024, and YAML reads that as a number. */
const textLike = v.pipe(
  v.union([v.string(), v.number()]),
  v.transform((value) => String(value)),
);
const truths = ["true", "yes", "on", "1"];
const boolLike = v.union([
  v.boolean(),
  v.pipe(
    v.union([v.string(), v.number()]),
    v.transform((value) => String(value).toLowerCase()),
    v.picklist([...truths, "false", "no", "off", "0"]),
    v.transform((text) => truths.includes(text)),
  ),
]);
const several = (value: unknown): unknown => {
  if (typeof value === "string") return value.split(",").map((part) => part.trim());
  return Array.isArray(value) ? value : [value];
};

/** The valibot schema of a setting: text that came from a flag or a file becomes the setting's type. */
export function schemaOf(setting: Setting): v.GenericSchema {
  const base = baseSchema(setting);
  if (!nullable(setting)) return base;
  return v.nullable(
    v.pipe(
      v.unknown(),
      v.transform((value) => (value === "none" || value === "null" ? null : value)),
      v.nullable(base),
    ),
  );
}

function baseSchema(setting: Setting): v.GenericSchema {
  const { kind, min, max, exclusiveMin } = setting;
  switch (kind) {
    case "int":
    case "float":
      return v.pipe(
        numberLike,
        v.number(),
        v.check((n) => (kind === "int" ? Number.isSafeInteger(n) : Number.isFinite(n))),
        v.check((n) => min === undefined || n > min || (n === min && !exclusiveMin)),
        v.check((n) => max === undefined || n <= max),
      );
    case "bool":
      return boolLike;
    case "switch":
      return v.union([boolLike, v.pipe(v.string(), v.nonEmpty())]);
    case "choice":
      return v.picklist(setting.choices ?? []);
    case "list":
      return v.pipe(v.unknown(), v.transform(several), v.array(textLike));
    case "numbers":
      return v.pipe(v.unknown(), v.transform(several), v.array(v.pipe(numberLike, v.number(), v.finite())));
    case "mixture": {
      const scalar = v.union([v.string(), v.number()]);
      const part = v.union([scalar, v.strictObject({ proportion: v.optional(scalar), path: v.optional(v.string()) })]);
      return v.pipe(
        v.union([scalar, v.record(v.string(), part)]),
        v.transform((value) => (typeof value === "object" ? mixtureText(value as MixtureMap) : String(value))),
        v.nonEmpty(),
      );
    }
    default:
      return v.pipe(textLike, v.nonEmpty());
  }
}

/** The values that a setting takes, in words: "a whole number of at least 1". */
export function expectation(setting: Setting): string {
  const { min, max, exclusiveMin } = setting;
  const above = exclusiveMin ? ` above ${min}` : ` of at least ${min}`;
  const both = exclusiveMin ? ` above ${min} and at most ${max}` : ` from ${min} to ${max}`;
  const upTo = max === undefined ? "" : ` of at most ${max}`;
  const range = min === undefined ? upTo : max === undefined ? above : both;
  const words: Record<SettingKind, string> = {
    int: `a whole number${range}`,
    float: `a number${range}`,
    bool: "true or false",
    switch: "true, false or a path",
    choice: `one of ${(setting.choices ?? []).join(", ")}`,
    list: "a list of names",
    numbers: "a list of numbers",
    text: "some text",
    path: "a path",
    mixture: "the name of a dataset, or a mixture (names with proportions)",
  };
  return words[setting.kind] + (nullable(setting) && !setting.required ? ", or none" : "");
}
