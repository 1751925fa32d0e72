/** Where the models of a run's best evaluation wait for its end. */

import { UserError } from "../runtime/errors.ts";
import { memoryFiles } from "../runtime/files.ts";
import { type Best, bestFolder } from "./best.ts";
import { type CheckpointedModel, type RunFolder, restoreFrom, saveCheckpoint } from "./checkpoint.ts";
import { damageIn } from "./checksums.ts";
import type { Saver } from "./saver.ts";

/** What is kept of a run, and brought back. */
interface Parts {
  kept: Record<string, CheckpointedModel>;
  state(): Promise<Record<string, unknown>>;
  around<R>(work: () => Promise<R>): Promise<R>;
}

/** Keeps the models of the best evaluation: in the run's checkpoint of its step, or in memory where a run has no folder. */
export class BestModels {
  private readonly folder: RunFolder;
  private readonly saver: Saver | null;
  private readonly models: Record<string, CheckpointedModel>;
  private readonly parts: Parts;

  constructor(folder: RunFolder | undefined, saver: Saver | null, parts: Parts) {
    this.folder = folder ?? { files: memoryFiles(), path: "best" };
    this.saver = saver;
    this.parts = parts;
    // Nothing is learned after them: what optimizers hold is not needed.
    this.models = Object.fromEntries(Object.entries(parts.kept).map(([name, { model }]) => [name, { model }]));
  }

  /** Takes the models as they are, where no checkpoint does. */
  async keep(step: number): Promise<void> {
    if (this.saver) return;
    const state = await this.parts.state();
    const keeping = { due: () => false, best: step };
    await this.parts.around(() => saveCheckpoint(this.folder, step, this.models, state, keeping));
  }

  /**
   * Brings the models of the best evaluation back, and returns the state beside them.
   * @throws UserError where their checkpoint is missing or damaged
   */
  async restore({ step, checkpoint = `checkpoint-${step}` }: Best): Promise<Record<string, unknown>> {
    const { files, path } = this.folder;
    const folder = bestFolder(path, checkpoint);
    const lost = (await files.list(folder)).length === 0 ? `${folder} is missing` : await damageIn(files, folder);
    if (lost) throw new UserError(`${lost}: it has the weights that evaluated best, which are wanted in the end`);
    return (await this.parts.around(() => restoreFrom(files, folder, step, this.models))).state;
  }
}
