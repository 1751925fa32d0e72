/** The file of a finished run, written by a student's page and read by the teacher's. */
import * as v from "valibot";
import { said } from "../said.ts";
import { classSchema, studentSchema } from "./class-seed.ts";
import type { Json } from "./types.ts";

export const RESULT_FORMAT = "webrlhf result 1";

const id = v.pipe(
  v.string(),
  v.regex(
    /^[A-Za-z0-9_-]{1,40}$/,
    said({ en: "a name is letters, digits, _ and -", zh: "名称只含字母、数字、_ 和 -" }),
  ),
);
const option = v.pipe(
  v.string(),
  v.maxLength(80, said({ en: "an option has at most 80 letters", zh: "选项至多 80 个字" })),
);
const number = v.pipe(v.number(), v.finite());
const few = <T>(schema: v.GenericSchema<T>, most: number) => v.pipe(v.array(schema), v.maxLength(most));
const json: v.GenericSchema<Json> = v.lazy(() =>
  v.union([v.string(), v.number(), v.boolean(), v.null(), few(json, 100), v.record(v.string(), json)]),
);

/** Bounded, for it comes from somebody else's machine. */
export const resultSchema = v.strictObject({
  format: v.literal(RESULT_FORMAT),
  lesson: id,
  class: v.optional(classSchema),
  student: v.optional(studentSchema),
  size: v.picklist(["S", "M", "L"]),
  seed: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(999_999_999)),
  input: v.record(v.string(), json),
  checks: few(
    v.strictObject({
      id,
      numbers: v.nullable(
        v.pipe(
          v.record(id, number),
          v.check(
            (numbers) => Object.keys(numbers).length <= 30,
            said({ en: "more than 30 numbers", zh: "多于 30 个数值" }),
          ),
        ),
      ),
    }),
    20,
  ),
  truth: v.optional(v.strictObject({ gain: number, se: v.pipe(number, v.minValue(0)) })),
  predictions: few(
    v.strictObject({
      id,
      predicted: v.union([option, few(v.strictTuple([number, number]), 50)]),
      came: v.nullable(option),
    }),
    20,
  ),
});

export type Result = v.InferOutput<typeof resultSchema>;
