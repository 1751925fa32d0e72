/** What the navigation shows: read while the site is built, so that no page loads other lessons' code. */
import { languageOf } from "../lib/language.ts";
import { lessonOf, slugs } from "../lib/lesson/registry.ts";

export const load = async ({ params }: { params: { lang?: string } }) => {
  const lessons = await Promise.all(
    slugs.map(async (slug) => {
      const lesson = await lessonOf(slug);
      if (!lesson) throw new Error(`src/lessons/${slug}/lesson.ts exports no lesson`);
      const { number, title, aha } = lesson;
      return { slug, number, title, aha };
    }),
  );
  return { language: languageOf(params.lang), lessons: lessons.sort((a, b) => a.number - b.number) };
};
