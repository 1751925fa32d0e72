/**
 * LMFlow's dataset files: one object `{"type": T, "instances": [...]}`; a folder of them, all of one type, is a dataset.
 * The type is read as JSON wherever it stands. Its oldest reward data has no type and instances of `positive` and `negative`.
 */
import { UserError } from "../runtime/errors.ts";
import { checkMessages } from "./messages.ts";
import type { Row } from "./row.ts";
import { type Columns, columnsOf, type RowSchema, readAs, readDialogue, withSystem } from "./schemas.ts";

/** Fields that an instance of each type must have; others are allowed. */
const required = {
  text_only: ["text"],
  text2text: ["input", "output"],
  conversation: ["messages"],
  paired_conversation: ["chosen", "rejected"],
  paired_text_to_text: ["prompt", "chosen", "rejected"],
  text_to_textlist: ["input", "output"],
  text_to_scored_textlist: ["input", "output"],
  float_only: ["value"],
  image_text: ["images", "text"],
} as const;
export type LmflowType = keyof typeof required;

export const lmflowTypes = Object.keys(required) as LmflowType[];
const LEGACY = ["positive", "negative"];
/** Online-RLHF's first files of scored responses call themselves text_only. */
const SCORED = ["prompt", "responses"];

export const isObject = (value: unknown): value is Columns =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Whether a parsed JSON file is such a container: it has instances. */
export const isContainer = (json: unknown): json is Columns => isObject(json) && Object.hasOwn(json, "instances");

/**
 * The instances of a container.
 * @throws UserError naming file and instance: no or an unknown type, fields that are missing
 */
export function containerRows(json: Columns, file: string): Row[] {
  const { type, instances } = json;
  if (!Array.isArray(instances)) throw new UserError(`${file}: "instances" must be a list`);
  const first = instances[0];
  const has = (names: readonly string[]) => isObject(first) && names.every((field) => Object.hasOwn(first, field));
  const legacy = type === undefined && has(LEGACY);
  const scored = type === "text_only" && has(SCORED);
  if (type === undefined && !legacy) {
    throw new UserError(`${file}: there are "instances" but no "type"; it must be one of ${lmflowTypes.join(", ")}`);
  }
  if (!legacy && !lmflowTypes.includes(type as LmflowType)) {
    throw new UserError(`${file}: unknown type ${JSON.stringify(type)}; it must be one of ${lmflowTypes.join(", ")}`);
  }
  const fields = legacy ? LEGACY : scored ? SCORED : required[type as LmflowType];
  const schema = legacy || scored ? undefined : schemas[type as LmflowType];
  return instances.map((value: unknown, i) => {
    const where = `${file}, instance ${i + 1}`;
    if (!isObject(value)) {
      throw new UserError(`${where}: must be an object, not ${JSON.stringify(value)?.slice(0, 60)}`);
    }
    const missing = fields.find((field) => value[field] === undefined || value[field] === null);
    if (missing !== undefined) {
      const found = columnsOf(value).join(", ") || "nothing";
      throw new UserError(
        `${where}: ${type ?? "a pair"} needs ${fields.join(", ")}; "${missing}" is missing (found: ${found})`,
      );
    }
    return { value, where, ...(schema && { schema }) };
  });
}

const named = (name: LmflowType, read: RowSchema["read"]): RowSchema => ({ name, columns: required[name], read });

const text = (row: Columns, field: string, where: string): string => {
  const value = row[field];
  if (typeof value === "string") return value;
  throw new UserError(`${where}: "${field}" must be text, not ${JSON.stringify(value)?.slice(0, 60)}`);
};

/** The messages of a conversation, its system message before them. */
export const sideMessages = (side: unknown, name: string, where: string) => {
  if (!isObject(side)) throw new UserError(`${where}: "${name}" must be an object with "messages"`);
  return withSystem(checkMessages(side.messages, `${name === "" ? "" : `${name}.`}messages`, where), side.system);
};

/** How instances become records. */
const schemas: Record<LmflowType, RowSchema> = {
  text_only: named("text_only", (row, where, options) => readAs("text", row, where, options)),
  text2text: named("text2text", (row, where) => ({
    kind: "prompt_completion",
    prompt: text(row, "input", where),
    completion: text(row, "output", where),
    where,
  })),
  conversation: named("conversation", (row, where, options) =>
    readDialogue({ ...row, messages: sideMessages(row, "", where) }, where, options),
  ),
  paired_conversation: named("paired_conversation", (row, where, options) => {
    const pair = {
      ...row,
      chosen: sideMessages(row.chosen, "chosen", where),
      rejected: sideMessages(row.rejected, "rejected", where),
    };
    return readAs("implicit_preference", pair, where, options);
  }),
  paired_text_to_text: named("paired_text_to_text", (row, where, options) => readAs("preference", row, where, options)),
  text_to_textlist: named("text_to_textlist", (row, where) => {
    const prompt = text(row, "input", where);
    const outputs = listOf(row, where);
    if (outputs.length === 0) return { kind: "prompt", prompt, where };
    return outputs.map((output, i) => {
      if (typeof output !== "string") throw new UserError(`${where}: output ${i + 1} must be text`);
      return { kind: "prompt_completion", prompt, completion: output, where };
    });
  }),
  text_to_scored_textlist: named("text_to_scored_textlist", readScored),
  float_only: named("float_only", (_, where) => {
    throw new UserError(`${where}: float_only holds numbers (what a reward function gave), there is no text to use`);
  }),
  image_text: named("image_text", (_, where) => {
    throw new UserError(`${where}: image_text needs a model that sees images; there is none here, only text is read`);
  }),
};

/** Of scored answers the best against the worst; none where all scores are equal. */
function readScored(row: Columns, where: string) {
  const answers = listOf(row, where).map((item, i) => {
    const { score, text: answer } = isObject(item) ? item : {};
    if (typeof score === "number" && Number.isFinite(score) && typeof answer === "string") return { score, answer };
    throw new UserError(`${where}: output ${i + 1} must be {"score": number, "text": text}`);
  });
  if (answers.length === 0) return { skip: "it has no answers" };
  const best = answers.reduce((a, b) => (b.score > a.score ? b : a));
  const worst = answers.reduce((a, b) => (b.score < a.score ? b : a));
  if (best.score === worst.score) return { skip: "all its answers have the same score" };
  const pair = { prompt: text(row, "input", where), chosen: best.answer, rejected: worst.answer };
  return readAs("preference", pair, where, { template: "plain" });
}

function listOf(row: Columns, where: string): unknown[] {
  if (Array.isArray(row.output)) return row.output;
  throw new UserError(`${where}: "output" must be a list`);
}
