/** Stages as files: each makes one finished file out of rows, by way of a log that survives whatever breaks off. */

import { readSampledRows, rowLine, type SampledRow, type ScoredRow, scored } from "../../data/scored-rows.ts";
import { UserError } from "../../runtime/errors.ts";
import type { Files } from "../../runtime/files.ts";
import { RowLog } from "../../runtime/row-log.ts";
import { type AnnotateOptions, annotateRows, type RowJudge } from "./annotate.ts";
import type { RowPair } from "./pairs.ts";
import type { NumberedPrompt } from "./sample.ts";

/** Where the rows are while they come. */
const partial = (path: string) => `${path}.partial`;

/**
 * Responses to all prompts, in `path`; those of a run that finished it are taken as they are. Null when the signal stopped it.
 * @param samples responses per prompt
 * @param draw draws what the log has not got yet
 */
export async function sampleStage(
  files: Files,
  path: string,
  prompts: readonly NumberedPrompt[],
  samples: number,
  draw: (log: RowLog<SampledRow>) => Promise<SampledRow[] | null>,
): Promise<SampledRow[] | null> {
  const rows = await stage(files, path, prompts, (log: RowLog<SampledRow>) => {
    refuseOtherNumbers([...log.rows.values()], samples, log.path);
    return draw(log);
  });
  refuseOtherNumbers(rows ?? [], samples, path);
  return rows;
}

/** Rows of a run that drew another number of responses. */
function refuseOtherNumbers(rows: readonly SampledRow[], samples: number, path: string): void {
  // An environment that failed may have left some without any.
  const other = rows.find(({ responses: { length } }) => length !== samples && length > 0)?.responses.length;
  if (other === undefined) return;
  throw new UserError(
    `${path} holds rows of ${other} responses: the run had K ${other}, not ${samples}; use that, or another folder`,
  );
}

/** Rewards for all rows, in `path`, likewise. */
export async function scoreStage(
  files: Files,
  path: string,
  judge: RowJudge,
  rows: readonly SampledRow[],
  options: AnnotateOptions,
): Promise<ScoredRow[] | null> {
  const scoredRows = await stage(files, path, rows, (log: RowLog<number[]>) => annotateRows(judge, rows, log, options));
  return scoredRows?.map(scored) ?? null;
}

async function stage<R>(
  files: Files,
  path: string,
  expected: readonly { id?: number }[],
  work: (log: RowLog<R>) => Promise<SampledRow[] | null>,
): Promise<SampledRow[] | null> {
  const finished = await readFinished(files, path, expected);
  if (finished) {
    await files.remove(partial(path));
    return finished;
  }
  const log = await RowLog.open<R>(files, partial(path));
  const rows = await work(log);
  if (!rows) return null;
  await files.writeFile(path, rows.map((row) => `${rowLine(row)}\n`).join(""));
  await log.remove();
  return rows;
}

/** The rows of a finished stage; null where there is no file. */
async function readFinished(
  files: Files,
  path: string,
  expected: readonly { id?: number }[],
): Promise<SampledRow[] | null> {
  const bytes = await files.read(path);
  if (!bytes) return null;
  const stream = () => new Blob([bytes.slice()]).stream() as ReadableStream<Uint8Array>;
  const rows: SampledRow[] = [];
  for await (const row of readSampledRows({ name: path, stream })) rows.push(row);
  if (rows.length === expected.length && rows.every(({ id }, i) => id === expected[i].id)) return rows;
  throw new UserError(`${path} holds rows of other prompts: the run had other options; use those, or another folder`);
}

/** Pairs as JSON lines `{prompt, chosen, rejected, margin}`. */
export const pairLines = (pairs: readonly RowPair[]): string =>
  pairs
    .map(({ row: { prompt, responses }, chosen, rejected, margin }) =>
      JSON.stringify({
        prompt,
        chosen: said(prompt, responses[chosen]),
        rejected: said(prompt, responses[rejected]),
        margin,
      }),
    )
    .map((line) => `${line}\n`)
    .join("");

/** The answer in the prompt's own form. */
const said = (prompt: SampledRow["prompt"], text: string) =>
  typeof prompt === "string" ? text : [{ role: "assistant", content: text }];
