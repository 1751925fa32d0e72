/** The answers of all lessons, read while the site is built: from their recorded runs, and from the tables of measured seeds. */
import { languageOf } from "../../../../lib/language.ts";
import { lessonOf, recordingsOf, slugs } from "../../../../lib/lesson/registry.ts";
import type { Lesson } from "../../../../lib/lesson/types.ts";
import { answersOf } from "../../../../teach/answers.ts";
import { questions } from "../../../../teach/questions.ts";

const tables = import.meta.glob<string>("../../../../../../docs/results/lessons/*.md", {
  query: "?raw",
  import: "default",
  eager: true,
});

export const load = async ({ params }: { params: { lang?: string } }) => {
  const answers = await Promise.all(
    slugs.map(async (slug) => {
      const table = Object.entries(tables).find(([path]) => path.endsWith(`/${slug}.md`))?.[1] ?? "";
      return answersOf((await lessonOf(slug)) as Lesson, await recordingsOf(slug), table, languageOf(params.lang));
    }),
  );
  const language = languageOf(params.lang);
  const key = questions.map(({ id, asks, options, right, why }) => ({
    id,
    asks: asks[language],
    right: options.find((option) => option.id === right)?.text[language] ?? "",
    why: why[language],
  }));
  return { questions: key, answers: answers.sort((a, b) => a.number - b.number) };
};
