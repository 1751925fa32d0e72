/** `webrlhf gpu-day`: what kernels and trainers come to on this machine's adapter, for people to share. */
import { appendFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { dayItems, dayModelFor, dayModels, type Facts, type Figure, runDayItem } from "../../day/index.ts";
import { type DayResult, dayLines } from "../../day/report.ts";
import { logging, model } from "../../rlhf/settings.ts";
import { UserError } from "../../runtime/errors.ts";
import { machine } from "../../runtime/machine.ts";
import { VERSION } from "../../runtime/version.ts";
import { settings } from "../../settings/index.ts";
import { type Context, defineVerb, Interrupted } from "../verb.ts";
import { launch, type Told } from "./gpu-day/launch.ts";
import { torchCommand } from "./gpu-day/torch.ts";
import { summaries } from "./summaries.ts";

const names = dayItems.map(({ name }) => name);

const daySettings = settings(
  "gpu-day",
  {
    minutes: logging.float(5, "Minutes that all items share", { min: 0, exclusiveMin: true, max: 240 }),
    out: logging.path(null, "File for the figures, a line of JSON for each item as soon as it is over"),
    shape: model.maybeChoice(
      Object.keys(dayModels),
      "Shape of the model to measure with; default: smollm2-135m, and tiny on CPU adapters, which only rehearses",
    ),
    items: logging.list(null, `Items to run; default: all of ${names.join(", ")}`),
    python: logging.path(
      null,
      "A Python with torch and transformers: the same steps by them, on CUDA or the CPU, beside",
    ),
    item: logging.text(null, "Run this one item here, not in a process of its own, and print its figures as they come"),
  },
  (o, name) => {
    for (const one of [...(o.items ?? []), ...(o.item === null ? [] : [o.item])]) {
      if (names.includes(one)) continue;
      throw new UserError(
        `${name(o.item === one ? "item" : "items")}: there is no item ${one}; there are ${names.join(", ")}`,
      );
    }
  },
);

export const gpuDayVerb = defineVerb({
  name: "gpu-day",
  summary: summaries["gpu-day"],
  settings: daySettings,
  examples: ["webrlhf gpu-day --minutes 5 --out gpu-day.jsonl", "webrlhf gpu-day --minutes 1 --items ceilings,decode"],
  interruptNote: null,
  async run(o, context) {
    if (o.item === null) return wholeDay(o, context);
    const say = (told: Told) => context.terminal.result(JSON.stringify(told));
    await runDayItem(dayItems[names.indexOf(o.item)], {
      model: o.shape === null ? undefined : dayModels[o.shape],
      seconds: o.minutes * 60,
      tell: (figure) => say({ figure }),
      note: (facts) => say({ facts }),
    });
  },
});

/** A part of the day, and the program that does it. */
interface Part {
  name: string;
  summary: string;
  share: number;
  command(seconds: number, results: readonly DayResult[]): string[];
}

const TORCH_SHARE = 40;

function partsOf({ items, shape, python }: ReturnType<typeof daySettings>): Part[] {
  // The first one says which adapter all others are about.
  const chosen = dayItems.filter(({ name }, i) => i === 0 || items === null || items.includes(name));
  const parts = chosen.map(
    ({ name, summary, share }): Part => ({
      ...{ name, summary, share },
      command: (seconds) => ownCommand(name, seconds, shape),
    }),
  );
  if (python === null) return parts;
  const torch: Part = {
    name: "torch",
    summary: "training steps and generation by PyTorch and transformers",
    share: TORCH_SHARE,
    command(seconds, results) {
      const kind = results[0].facts.kind === "cpu" ? "cpu" : "hardware";
      return torchCommand(python, shape === null ? dayModelFor(kind) : dayModels[shape], seconds);
    },
  };
  return [...parts, torch];
}

async function wholeDay(o: ReturnType<typeof daySettings>, { terminal, signal }: Context): Promise<void> {
  const { out, minutes } = o;
  if (out !== null) await begin(out);
  const keep = async (line: object) => {
    if (out !== null) await appendFile(out, `${JSON.stringify(line)}\n`);
  };
  await keep({ day: { version: VERSION, started: new Date().toISOString(), minutes, ...machine() } });
  const parts = partsOf(o);
  const shares = parts.reduce((sum, { share }) => sum + share, 0);
  const results: DayResult[] = [];
  for (const { name, summary, share, command } of parts) {
    const seconds = (60 * minutes * share) / shares;
    terminal.line(`${name}: ${summary} (about ${Math.ceil(seconds)} s)`);
    const figures: Figure[] = [];
    let facts: Facts = {};
    const hear = (told: Told) => {
      if ("figure" in told) figures.push(told.figure);
      else facts = { ...facts, ...told.facts };
    };
    const started = performance.now();
    // One sample is taken of each thing, however long it takes: what is slow gets some time more.
    const ending = await launch(command(seconds, results), 3 * seconds + 120, hear, signal);
    const took = (performance.now() - started) / 1000;
    const result = { item: name, seconds: took, facts, figures, ...(ending !== null && { failed: ending }) };
    await keep(result);
    results.push(result);
    if (signal.aborted)
      throw new Interrupted(`stopped in ${name}${out === null ? "" : `; ${out} has what came before`}`);
  }
  for (const line of dayLines(results)) terminal.result(line);
  const wrong = results.flatMap(({ figures }) => figures.filter((figure) => figure.wrong)).length;
  if (out !== null) terminal.line(`${out} has all figures: docs/performance.md says how to share them`);
  const failed = results.filter((result) => result.failed !== undefined).map(({ item }) => item);
  if (wrong > 0 || failed.length > 0) {
    const values = wrong > 0 ? [`${wrong} values are wrong`] : [];
    const ended = failed.length > 0 ? [`${failed.join(", ")} ended early`] : [];
    throw new UserError(
      `${[...values, ...ended].join(", and ")}: see above. Results of training here are not to be trusted`,
    );
  }
}

/** An empty file, where there is none yet. */
const begin = (out: string): Promise<void> =>
  writeFile(out, "", { flag: "wx" }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
    throw new UserError(`${out} is there already: give another --out, or move it away`);
  });

/** This program, with one item to run. */
function ownCommand(item: string, seconds: number, shape: string | null): string[] {
  const main = fileURLToPath(new URL("../main.js", import.meta.url));
  const runtime = "Deno" in globalThis ? ["run", "-A"] : process.execArgv;
  const words = ["gpu-day", "--item", item, "--minutes", String(seconds / 60)];
  return [process.execPath, ...runtime, main, ...words, ...(shape === null ? [] : ["--shape", shape])];
}
