/** What the predictions and checks of a lesson show: from its recorded runs, and over the seeds that were measured. */
import type { Language } from "../lib/language.ts";
import type { Lesson, Recording } from "../lib/lesson/types.ts";

/** A drawn curve in words. */
interface Drawn {
  from: string;
  most: string;
  at: string;
  last: string;
}

export interface LessonAnswers {
  slug: string;
  number: number;
  title: string;
  aha: string;
  /** Of each prediction what each recorded run made true; null: that run says nothing of it. */
  predictions: { asks: string; runs: { name: string; came: string | Drawn | null }[] }[];
  /** Of each check what the lesson's own run says, and in how many seeds it held; null: not measured. */
  checks: { claim: string; says: string; holds: boolean | null; seeds: { own: string; wrong: string } | null }[];
}

/** @param table the lesson's page of measured seeds, in Markdown; empty where there is none */
export function answersOf(
  lesson: Lesson,
  recordings: readonly Recording[],
  table: string,
  language: Language,
): LessonAnswers {
  const own = recordings[0]?.events ?? [];
  return {
    slug: lesson.slug,
    number: lesson.number,
    title: lesson.title[language],
    aha: lesson.aha[language],
    predictions: lesson.predictions.map((prediction) => ({
      asks: prediction.asks[language],
      runs: recordings.map(({ name, events }) => {
        if (!("options" in prediction)) return { name: name[language], came: drawn(prediction.outcome(events)) };
        const came = prediction.outcome(events);
        return { name: name[language], came: prediction.options.find(({ id }) => id === came)?.text[language] ?? null };
      }),
    })),
    checks: lesson.checks.map((check) => {
      const numbers = check.measure(own);
      return {
        claim: check.claim[language],
        says: numbers ? check.says(numbers, language) : "",
        holds: numbers && check.holds(numbers),
        seeds: seedsOf(table, check.claim.en),
      };
    }),
  };
}

function drawn(points: readonly (readonly [number, number])[]): Drawn | null {
  if (points.length === 0) return null;
  const most = points.reduce((best, point) => (point[1] > best[1] ? point : best));
  const [first, last] = [points[0], points[points.length - 1]];
  return {
    from: first[1].toFixed(2),
    most: most[1].toFixed(2),
    at: String(Number(most[0].toFixed(2))),
    last: last[1].toFixed(2),
  };
}

/** "| claim | 10 of 10 | 0 of 10 |" */
function seedsOf(table: string, claim: string): { own: string; wrong: string } | null {
  for (const line of table.split("\n")) {
    const [, name, own, wrong] = line.split("|").map((cell) => cell.trim());
    if (name === claim && own && wrong) return { own: own.replace(" of ", " / "), wrong: wrong.replace(" of ", " / ") };
  }
  return null;
}
