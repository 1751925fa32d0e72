/** The playground's program on a tiny model, in a session without a page. */
import type { LessonEvent, Start } from "../../../demo/src/lib/lesson/types.ts";
import type { Knobs } from "../../../demo/src/playground/knobs.ts";
import { lesson } from "../../../demo/src/playground/lesson.ts";
import { program } from "../../../demo/src/playground/program.ts";
import { withoutClock } from "../../without-clock.ts";
import { desk, type Vault } from "../../worker/desk.ts";

export const tiny: Knobs = { ...lesson.input("S", 7), responses: 8, steps: 2, pairs: 32 };

/** As the site's worker has it. */
export const tinyDesk = (start: Start, vault?: Vault | null) =>
  desk(
    {
      programs: {
        playground: {
          async *run({ input }: { input: unknown }, { files, folder, signal }) {
            yield* program(lesson.parse(input), { start, files, folder, signal });
          },
        },
      },
    },
    vault,
  );

/** What figures show of a run, without the clock and without what was said of how it went on. */
export const shown = (events: readonly LessonEvent[]): LessonEvent[] =>
  events.flatMap((event): LessonEvent[] => {
    if (event.type === "enter") return [];
    if (event.type !== "train") return [event];
    const { event: told } = event;
    if (told.type === "note" || told.type === "warning" || told.type === "start" || told.type === "data") return [];
    return [{ ...event, event: withoutClock(told) }];
  });
