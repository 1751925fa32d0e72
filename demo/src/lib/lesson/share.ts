/** What lies beside a saved run in its zip file, for people and programs that do not know this site. */
import { VERSION } from "webrlhf";
import {
  lineOf,
  linesOf,
  metricsOf,
  RECORDING,
  type Row,
  type RunTables,
  recordingLimits,
  recordingOf,
  recordingText,
  sampleOf,
} from "webrlhf/report";
import { type Label, toJsonLines } from "../labels.ts";
import type { Language } from "../language.ts";
import { RECIPE_FILE, RECIPE_LINE } from "./recipe.ts";
import type { Started } from "./started.ts";
import type { Json, Lesson, LessonEvent } from "./types.ts";

const RUN = "run.json";
const LABELS = "labels.jsonl";

/** A training, or looks, within a run: its tables by their files. */
interface Part {
  stage: string;
  /** Its folder. */
  name: string;
  /** The trainer's name; null: nothing was trained yet. */
  verb: string | null;
  tables: Map<string, Row[]>;
}

/** In the order they began. Each training is a part of its own: a judge that was trained three times has three curves. */
function partsOf(events: readonly LessonEvent[]): Part[] {
  const parts: Part[] = [];
  const partOf = (stage: string, anew: boolean): Part => {
    const last = parts.findLast((part) => part.stage === stage);
    if (last && !(anew && last.verb !== null)) return last;
    const before = parts.filter((part) => folderOf(part.stage) === folderOf(stage)).length;
    const name = before > 0 ? `${folderOf(stage)}-${before + 1}` : folderOf(stage);
    const part: Part = { stage, name, verb: null, tables: new Map() };
    parts.push(part);
    return part;
  };
  for (const event of events) {
    if (event.type === "enter" || event.type === "data") continue;
    const start = event.type === "train" && event.event.type === "start" ? event.event : null;
    const part = partOf(event.stage, start?.step === 0);
    if (start) part.verb = start.stage;
    for (const { file, rows } of linesOf(trainEvent(event))) {
      const table = part.tables.get(file) ?? [];
      table.push(...rows);
      if (table.length > 0) part.tables.set(file, table);
    }
  }
  return parts.filter(({ tables }) => tables.size > 0);
}

type Shown = Exclude<LessonEvent, { type: "enter" | "data" }>;

/** What was measured on held-out prompts is an evaluation. */
const trainEvent = (event: Shown): Parameters<typeof linesOf>[0] => {
  if (event.type === "train") return event.event;
  const { step } = event;
  return event.type === "samples"
    ? { type: "samples", step, samples: event.samples }
    : { type: "eval", step, metrics: event.values };
};

/** A stage's name as that of a folder: in a stranger's run it may be anything. */
const folderOf = (stage: string): string => stage.replace(/[^A-Za-z0-9]+/g, "-").slice(0, 60) || "stage";

/** The files beside a saved run. */
export function sharedFiles(
  lesson: Lesson,
  { address, input }: Started,
  events: readonly LessonEvent[],
  { adapter, language }: { adapter: string | null; language: Language },
): Record<string, string> {
  const question = publicOf(input, lesson.private ?? []);
  const labels = lesson.private?.includes("labels") ? (input as { labels?: Label[] }).labels : undefined;
  const recipe = lesson.recipe?.(input) ?? null;
  const parts = partsOf(events);
  const runs = parts.flatMap(({ name, verb, tables }): RunTables[] => {
    const metrics = tables.get("metrics.jsonl");
    if (!metrics) return [];
    return [
      {
        ...{ name, verb, settings: question },
        metrics: metrics.map((row) => metricsOf(row, name)),
        samples: (tables.get("samples.jsonl") ?? []).map((row) => sampleOf(row, name)),
      },
    ];
  });
  const title = lesson.title[language];
  const run = {
    format: "webrlhf lesson run 1",
    ...{ lesson: lesson.slug, size: address.size, seed: address.seed, input: question },
    ...{ webrlhf: VERSION, adapter },
  };
  return {
    "README.txt": readme(language, title, { recipe: recipe !== null, labels: Boolean(labels) }),
    [RUN]: `${JSON.stringify(sorted(run), null, 2)}\n`,
    ...(recipe !== null && { [RECIPE_FILE]: recipe }),
    ...(labels && { [LABELS]: toJsonLines(labels) }),
    ...(runs.length > 0 && {
      [RECORDING]: recordingText(
        recordingOf({ title, webrlhf: VERSION, adapter, runs: runs.slice(-recordingLimits.runs) }, title),
      ),
    }),
    ...Object.fromEntries(
      parts.flatMap(({ name, tables }) =>
        [...tables].map(([file, rows]) => [`${name}/${file}`, rows.map((row) => `${lineOf(row)}\n`).join("")]),
      ),
    ),
  };
}

const publicOf = (input: Json, names: readonly string[]): Record<string, Json> =>
  Object.fromEntries(Object.entries(input as Record<string, Json>).filter(([name]) => !names.includes(name)));

/** Equal runs have equal texts: keys stand in order. */
const sorted = (value: unknown): unknown =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.fromEntries(
        Object.entries(value)
          .sort(([a], [b]) => (a < b ? -1 : 1))
          .map(([key, inner]) => [key, sorted(inner)]),
      )
    : Array.isArray(value)
      ? value.map(sorted)
      : value;

function readme(language: Language, title: string, { recipe, labels }: { recipe: boolean; labels: boolean }): string {
  const lines =
    language === "zh"
      ? [
          `课程“${title}”的一次运行。在该课程的页面上打开这个 zip 文件即可恢复运行,回放页面可以播放它。`,
          "",
          "run.json         课程、问题、规模、随机种子、版本",
          ...(recipe ? [`recipe.yaml      在终端里重复同样的训练:${RECIPE_LINE}`] : []),
          ...(labels ? ["labels.jsonl     标注:prompt、chosen、rejected(TRL 的列名)"] : []),
          "recording.json   曲线与样本,供回放页面使用",
          "*/metrics.jsonl  各部分每一步的数字,与 webrlhf 命令行写出的格式相同;*/samples.jsonl 为样本",
          "files/run/*/     训练出的模型,附带分词器;transformers、peft 与 webrlhf 都能打开",
          "webrlhf-run.json, events.jsonl  页面恢复运行所需的内容",
        ]
      : [
          `A run of the lesson “${title}”. The lesson's page goes on from this zip file, and the replay page plays it.`,
          "",
          "run.json         lesson, question, size, seed, version",
          ...(recipe ? [`recipe.yaml      the same training in a terminal: ${RECIPE_LINE}`] : []),
          ...(labels ? ["labels.jsonl     labels: prompt, chosen, rejected (the columns of TRL)"] : []),
          "recording.json   curves and samples, for the replay page",
          "*/metrics.jsonl  each part's numbers by step, as the command line of webrlhf writes them; */samples.jsonl: samples",
          "files/run/*/     models that were trained, with the tokenizer: transformers, peft and webrlhf open them",
          "webrlhf-run.json, events.jsonl  what the page goes on from",
        ];
  return `${lines.join("\n")}\n`;
}
