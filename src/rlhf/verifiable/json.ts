/** Answers in JSON, and schemas that they must fit. */
import type { Validator } from "@cfworker/json-schema";

/** The JSON of an answer: all of it, or the last fenced block; after any thinking. Undefined where that is no JSON. */
export function jsonAnswer(text: string): unknown {
  const answer = text.slice(text.lastIndexOf("</think>") < 0 ? 0 : text.lastIndexOf("</think>") + "</think>".length);
  const fenced = [...answer.matchAll(/```(?:json)?[ \t]*\n([\s\S]*?)```/gi)].at(-1)?.[1];
  try {
    return JSON.parse(fenced ?? answer);
  } catch {
    return undefined;
  }
}

/** Tells whether a value fits a schema. */
export type Fits = (value: unknown) => boolean;

/**
 * Prepares a JSON Schema (draft 2020-12, or the draft that its `$schema` names). It is interpreted: no code is made of it, and nothing
 * that it refers to elsewhere is fetched.
 * @throws Error for what is no schema
 */
export async function fitsSchema(schema: unknown): Promise<Fits> {
  if (typeof schema !== "boolean" && (typeof schema !== "object" || schema === null || Array.isArray(schema))) {
    throw new Error("a JSON Schema is an object, or true or false");
  }
  const { Validator: Validating } = await import("@cfworker/json-schema");
  const named = typeof schema === "object" ? String((schema as { $schema?: unknown }).$schema ?? "") : "";
  const drafts = { "draft-04": "4", "draft-07": "7", "2019-09": "2019-09" } as const;
  const [, draft = "2020-12"] = Object.entries(drafts).find(([name]) => named.includes(name)) ?? [];
  const validator: Validator = new Validating(schema as object, draft);
  return (value) => {
    if (value === undefined) return false;
    try {
      return validator.validate(value).valid;
    } catch (error) {
      // A value that is nested deeper than the stack, by a schema that refers to itself.
      if (error instanceof RangeError) return false;
      throw error;
    }
  };
}
