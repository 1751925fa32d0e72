import { lessonOf, textOf } from "../../../../lib/lesson/registry.ts";
import type { Lesson } from "../../../../lib/lesson/types.ts";
import type { PageLoad } from "./$types";

export const load: PageLoad = async ({ data, parent }) => {
  const { language } = await parent();
  const [lesson, text] = await Promise.all([lessonOf(data.slug), textOf(data.slug, language)]);
  return { ...data, lesson: lesson as Lesson, text };
};
