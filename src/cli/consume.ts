import type { TrainEvent } from "../rlhf/events.ts";
import { diskFiles } from "../runtime/files.ts";
import { lockFolder } from "./lock.ts";
import { RunLog, type StateSettings } from "./logs.ts";
import { Progress } from "./progress.ts";
import { type Context, Interrupted } from "./verb.ts";

/** The options that every training verb has. */
export interface RunSettings extends StateSettings {
  readonly output_dir: string;
}

/**
 * Runs a trainer to its end, with its events on the terminal and in the log files.
 * After Ctrl-C the trainer, which holds the same signal, saves and returns without an end: that is an Interrupted.
 */
export async function consume(
  events: AsyncGenerator<TrainEvent>,
  settings: RunSettings,
  context: Context,
): Promise<Record<string, number>> {
  const files = await diskFiles();
  const unlock = await lockFolder(files, settings.output_dir);
  const log = new RunLog(files, settings.output_dir, settings);
  const progress = new Progress(context.terminal, context.label, settings.logging_steps ?? 1);
  let ended: Record<string, number> | null = null;
  try {
    for await (const event of events) {
      await log.add(event);
      progress.add(event);
      if (event.type === "end") ended = event.metrics;
    }
  } catch (error) {
    // The first error is the one to tell: a full disk may well break this, too.
    await log.close().catch(() => {});
    throw error;
  } finally {
    progress.clear();
    await unlock();
  }
  if (ended === null) throw new Interrupted(`stopped; go on with --resume --output_dir ${settings.output_dir}`);
  return ended;
}
