/** The files of what RAFT's iterations learned, as LMFlow keeps them. */
import type { RunFolder } from "../checkpoint.ts";
import type { Response } from "../sampler.ts";

const trainSet = (run: RunFolder, iteration: number) => `${run.path}/train_set_${iteration}.json`;

/** Keeps what an iteration learns, as LMFlow's container of texts. */
export async function writeTrainSet(
  run: RunFolder | undefined,
  iteration: number,
  kept: readonly Response[],
): Promise<void> {
  if (!run) return;
  const instances = kept.map(({ promptText, text }) => ({ text: promptText + text }));
  const container = { type: "text_only", instances };
  await run.files.writeFile(trainSet(run, iteration), `${JSON.stringify(container, null, 2)}\n`);
}

/** Removes the train sets of iterations that are still to come: an earlier attempt's, perhaps with other options. */
export async function removeTrainSets(run: RunFolder | undefined, from: number): Promise<void> {
  if (!run) return;
  for (const name of await run.files.list(run.path)) {
    const iteration = /^train_set_(\d+)\.json$/.exec(name)?.[1];
    if (iteration !== undefined && Number(iteration) >= from) await run.files.remove(trainSet(run, Number(iteration)));
  }
}
