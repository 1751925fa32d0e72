/** A class: every student of it has a seed of their own, the same on every machine and at every visit. */
import * as v from "valibot";
import type { Text } from "../language.ts";
import { said } from "../said.ts";

/** Letters and digits of any script, with what stands between them. */
const name = (what: Text) =>
  v.pipe(
    v.string(said({ en: `${what.en} is a text`, zh: `${what.zh}应是文字` })),
    v.transform(tidy),
    v.regex(
      /^[\p{L}\p{M}\p{N}][\p{L}\p{M}\p{N} ._-]{0,23}$/u,
      said({
        en: `${what.en} is 1 to 24 letters, digits, spaces, dots or hyphens`,
        zh: `${what.zh}应为 1 到 24 个字母、汉字、数字、空格、点或连字符`,
      }),
    ),
  );

/** A class's name, as it stands in its link. */
export const classSchema = name({ en: "class", zh: "班级" });
/** A student's number or name within the class. */
export const studentSchema = name({ en: "student", zh: "学号或名字" });

/** " ７ " and "7" are one student, "Ann" and "ann" too. */
function tidy(text: string): string {
  return text.normalize("NFKC").trim().replace(/\s+/g, " ").toLowerCase();
}

/**
 * The seed of a student, 0 to 999,999,999: a hash of class and student alone, so that nobody has to keep a list.
 * @throws ValiError with words where either is no name
 */
export function seedOf(group: string, student: string): number {
  // JSON keeps ("a", "b c") and ("a b", "c") apart.
  const bytes = new TextEncoder().encode(
    JSON.stringify([v.parse(classSchema, group), v.parse(studentSchema, student)]),
  );
  let hash = 0x811c9dc5; // FNV-1a
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  // Murmur's finish: neighbouring numbers get seeds far apart.
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) % 1_000_000_000;
}

/** Whose run this is; null where its seed is none of theirs: it was somebody else's before they sat down here. */
export function memberOf(
  group: string | undefined,
  student: string,
  seed: number,
): { class: string; student: string } | null {
  if (group === undefined || !student) return null;
  return seedOf(group, student) === seed ? { class: group, student } : null;
}
