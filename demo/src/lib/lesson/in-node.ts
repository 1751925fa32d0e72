/** Lessons outside of the page: recordings, and the table of how often each check holds. */
import { caps, diskFiles, memoryFiles, openDevice } from "webrlhf";
import { showNumber } from "webrlhf/report";
import { lessonOf, slugs } from "./registry.ts";
import type { Check, Json, Lesson, LessonEvent, Numbers, Program, Recording, Size, Start } from "./types.ts";

export { slugs };

const programs = import.meta.glob<{ program: Program<Json> }>([
  "../../lessons/*/program.ts",
  "../../playground/program.ts",
]);
/** The playground is run as a lesson is. */
const PLAYGROUND = "playground";
/** Where a lesson lies under `src`. */
export const folderOf = (slug: string): string => (slug === PLAYGROUND ? slug : `lessons/${slug}`);

async function start(): Promise<Start> {
  const disk = await diskFiles();
  const files = memoryFiles();
  for (const file of ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]) {
    const content = await disk.read(`models/world-sft/${file}`);
    if (!content) throw new Error(`models/world-sft/${file} is not here: run this in the repository's root`);
    await files.writeFile(`start/${file}`, content);
  }
  return { files, folder: "start" };
}

/** All events of one run of a lesson. */
export async function eventsOf(slug: string, input: Json): Promise<LessonEvent[]> {
  await openDevice();
  const { program } = await programs[`../../${folderOf(slug)}/program.ts`]();
  const events: LessonEvent[] = [];
  const context = { start: await start(), files: memoryFiles(), folder: "run", signal: new AbortController().signal };
  for await (const event of program(input, context)) events.push(event);
  return events;
}

async function needed(slug: string): Promise<Lesson> {
  const lesson = slug === PLAYGROUND ? (await import("../../playground/lesson.ts")).lesson : await lessonOf(slug);
  if (!lesson) throw new Error(`there is no lesson ${slug}: ${[...slugs, PLAYGROUND].join(", ")}`);
  return lesson;
}

/** The runs that a lesson wants recorded, packed small. */
export async function recorded(slug: string, log: (line: string) => void): Promise<Recording[]> {
  const lesson = await needed(slug);
  const runs: Recording[] = [];
  for (const { name, input } of lesson.recorded) {
    log(name.en);
    const events = (await eventsOf(slug, input)).flatMap((event) => {
      const kept = lesson.keep ? lesson.keep(event) : event;
      return kept ? [kept] : [];
    });
    runs.push({ name, input, device: caps().name, events: JSON.parse(JSON.stringify(events, rounded)) });
  }
  return runs;
}

const rounded = (_: string, value: unknown) =>
  typeof value === "number" && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;

/** How often each check holds over seeds, with the lesson's own knobs and with the wrong one, as Markdown. */
export async function measured(
  slug: string,
  size: Size,
  seeds: readonly number[],
  log: (line: string) => void,
): Promise<string> {
  const lesson = await needed(slug);
  const rows: { way: "own" | "wrong"; seed: number; numbers: Map<Check, Numbers | null>; seconds: number }[] = [];
  for (const way of ["own", "wrong"] as const) {
    for (const seed of seeds) {
      const began = performance.now();
      const events = await eventsOf(slug, way === "own" ? lesson.input(size, seed) : lesson.wrong(size, seed));
      const numbers = new Map(lesson.checks.map((check) => [check, check.measure(events)]));
      rows.push({ way, seed, numbers, seconds: (performance.now() - began) / 1000 });
      log(
        `${way}, seed ${seed}: ${lesson.checks.map((c) => `${c.id} ${verdict(c, numbers.get(c) ?? null)}`).join(", ")}`,
      );
    }
  }
  const held = (check: Check, way: string) => {
    const of = rows.filter((row) => row.way === way);
    return `${of.filter(({ numbers }) => verdict(check, numbers.get(check) ?? null) === "holds").length} of ${of.length}`;
  };
  const lines = [
    `# Lesson ${lesson.number}: ${lesson.title.en}`,
    "",
    `Made by \`node demo/measure.mjs --seeds ${seeds.length} --from ${seeds[0]} --size ${size} --write ${slug}\` on ${caps().name}.`,
    "",
    "| check | holds | holds with the wrong knob |",
    "|---|---|---|",
    ...lesson.checks.map((check) => `| ${check.claim.en} | ${held(check, "own")} | ${held(check, "wrong")} |`),
    "",
    "| run | seed | check | | numbers |",
    "|---|---|---|---|---|",
    ...rows.flatMap(({ way, seed, numbers }) =>
      lesson.checks.map((check) => {
        const n = numbers.get(check) ?? null;
        const shown = n ? Object.entries(n).map(([name, value]) => `${name} ${showNumber(value, 3)}`) : [];
        return `| ${way} | ${seed} | ${check.id} | ${verdict(check, n)} | ${shown.join(", ")} |`;
      }),
    ),
    "",
  ];
  return lines.join("\n");
}

const verdict = (check: Check, numbers: Numbers | null): string =>
  numbers === null ? "untold" : check.holds(numbers) ? "holds" : "fails";
