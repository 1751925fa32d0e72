/**
 * What trainers take from a sample, as a row of the columns that Hugging Face's libraries know (schemas.ts reads it):
 * supervised, preference, safety preference, prompt only.
 */
import { UserError } from "../../runtime/errors.ts";
import type { Message } from "../messages.ts";
import type { Row } from "../row.ts";
import { dialogueSchema } from "../schemas.ts";
import { type RawSample, type Skipped, turnsOf } from "./sample.ts";

/** The trainings that a raw sample can become rows for. */
export type Consumer = "supervised" | "chosen" | "preference" | "safety" | "prompt";

/** The fields that each of them needs; where there are two lists, either will do. */
const required: Record<Consumer, readonly (readonly (keyof RawSample)[])[]> = {
  supervised: [["input", "answer"], ["dialogue"]],
  chosen: [["input", "answer", "other_answer", "better"]],
  preference: [["input", "answer", "other_answer", "better"]],
  safety: [["input", "answer", "other_answer", "safer", "is_safe", "is_other_safe"]],
  prompt: [["input"]],
};
const labels: Record<Consumer, string> = {
  supervised: "supervised data",
  chosen: "the better answer",
  preference: "preference data",
  safety: "safety preference data",
  prompt: "a prompt",
};

/**
 * A sample as a consumer's row, or why it has none.
 * @param dataset its name, for messages
 * @throws UserError naming dataset, row and field when a required field is missing or has the wrong type
 */
export function consume(sample: RawSample, consumer: Consumer, dataset: string): Row | Skipped {
  const where = placeOf(sample, dataset);
  checkFields(sample, consumer, where);
  if (consumer === "supervised" && sample.input === undefined) {
    const turns = sample.dialogue ?? [];
    if (turns.length < 2) return { skip: "nobody answers in it" };
    return { value: { messages: [...systemOf(sample), ...alternating(turns)] }, where, schema: dialogueSchema };
  }
  const turns = turnsOf(sample.input ?? []);
  if (turns.length % 2 === 0) {
    throw new UserError(`${where}: "input" has ${turns.length} turns; it must begin and end with the person's`);
  }
  const prompt = [...systemOf(sample), ...alternating(turns)];
  const says = (content: string | undefined): Message[] => [{ role: "assistant", content: content ?? "" }];
  const { answer, other_answer: other, better, safer } = sample;
  const besides = {
    ...(sample.margin !== undefined && { margin: sample.margin }),
    ...(sample.subset !== undefined && { subset: sample.subset }),
  };
  switch (consumer) {
    case "prompt":
      return { value: { prompt }, where };
    case "supervised":
      return { value: { prompt, completion: says(answer) }, where };
    case "chosen":
      return { value: { prompt, completion: says(better ? answer : other) }, where };
    case "preference": {
      const [chosen, rejected] = better ? [answer, other] : [other, answer];
      return { value: { prompt, chosen: says(chosen), rejected: says(rejected), ...besides }, where };
    }
    case "safety": {
      const { is_safe: safe, is_other_safe: otherSafe } = sample;
      const [chosen, rejected] = safer ? [answer, other] : [other, answer];
      const [chosenSafe, rejectedSafe] = safer ? [safe, otherSafe] : [otherSafe, safe];
      if (!chosenSafe && rejectedSafe) return { skip: "the safer answer is labelled unsafe and the other one safe" };
      return {
        value: {
          prompt,
          chosen: says(chosen),
          rejected: says(rejected),
          chosen_is_safe: chosenSafe,
          rejected_is_safe: rejectedSafe,
          ...besides,
        },
        where,
      };
    }
  }
}

/** The consumer through which supervised fine-tuning learns a sample: of two answers the better one. */
export const learned = (sample: RawSample): Consumer =>
  sample.other_answer !== undefined && sample.better !== undefined ? "chosen" : "supervised";

function placeOf(sample: RawSample, dataset: string): string {
  const place = sample.where ?? "a sample";
  return place.startsWith(`${dataset}: `) ? place : `${dataset}: ${place}`;
}

function checkFields(sample: RawSample, consumer: Consumer, where: string): void {
  const has = (field: keyof RawSample) => sample[field] !== undefined && sample[field] !== null;
  const wanted = required[consumer];
  const fitting = wanted.find((fields) => fields.every(has));
  if (!fitting) {
    const fields = Object.keys(sample).filter((field) => field !== "where" && has(field as keyof RawSample));
    const needs = wanted.map((list) => list.join(", ")).join("; or ");
    const missing = wanted[0].filter((field) => !has(field)).map((field) => `"${field}"`);
    throw new UserError(
      `${where}: ${labels[consumer]} needs ${needs}; this sample has no ${missing.join(", ")} (it has ` +
        `${fields.join(", ") || "nothing"})`,
    );
  }
  for (const field of fitting) {
    const value = sample[field];
    const kind = field === "input" || field === "dialogue" ? "turns" : /answer/.test(field) ? "text" : "label";
    const right =
      kind === "label"
        ? typeof value === "boolean"
        : typeof value === "string"
          ? field !== "dialogue"
          : kind === "turns" && Array.isArray(value) && value.every((turn) => typeof turn === "string");
    if (right) continue;
    const what = { turns: "text or a list of turns", text: "text", label: "true or false" }[kind];
    throw new UserError(`${where}: "${field}" must be ${what}, not ${JSON.stringify(value)?.slice(0, 60)}`);
  }
}

const systemOf = ({ system }: RawSample): Message[] => (system ? [{ role: "system", content: system }] : []);

/** Turns as messages, the person's first. */
export const alternating = (turns: readonly string[]): Message[] =>
  turns.map((content, i) => ({ role: i % 2 === 0 ? "user" : "assistant", content }));
