/** The training worker: the programs and queries of every lesson and of the playground, each loaded when it is asked for. */
import { UserError } from "webrlhf";
import { type Program as SessionProgram, serveSession } from "webrlhf/worker";
import type { Address } from "./lib/lesson/address.ts";
import { endsOf } from "./lib/lesson/ends.ts";
import type { Json, Lesson, LessonEvent, Program, Query } from "./lib/lesson/types.ts";
import { fetchStart } from "./lib/start-files.ts";

const slugOf = (path: string): string => path.split("/").at(-2) as string;

interface Module {
  program: Program<Json>;
  /** What its events end, where a lesson says it itself. */
  ends?: typeof endsOf;
}

const lessons = import.meta.glob<{ lesson: Lesson }>(["./lessons/*/lesson.ts", "./playground/lesson.ts"]);

const programs = Object.entries(import.meta.glob<Module>(["./lessons/*/program.ts", "./playground/program.ts"])).map(
  ([path, load]) => {
    const source = async (): Promise<SessionProgram<{ input: Json; address: Address }, LessonEvent>> => {
      const [{ program, ends = endsOf }, { lesson }] = await Promise.all([
        load(),
        lessons[path.replace(/program\.ts$/, "lesson.ts")](),
      ]);
      return {
        async *run({ input }, { files, folder, signal }) {
          // A saved run may be a stranger's file.
          yield* program(lesson.parse(input), { start: await fetchStart(), files, folder, signal });
        },
        ends,
      };
    };
    return [slugOf(path), source] as const;
  },
);

const queries = import.meta.glob<{ queries: Record<string, Query> }>("./lessons/*/queries.ts");

serveSession({
  programs: Object.fromEntries(programs),
  queries: {
    /** A lesson's own question: the page needs to know no more of it than its name. */
    async lesson({ slug, name, argument }: { slug: string; name: string; argument: Json }, { run, signal }) {
      const query = (await queries[`./lessons/${slug}/queries.ts`]?.())?.queries[name];
      if (!query) throw new UserError(`The lesson ${slug} answers no question “${name}”.`);
      return query(argument, {
        start: await fetchStart(),
        signal,
        run: run && { files: run.files, folder: run.folder },
      });
    },
  },
});
