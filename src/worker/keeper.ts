/** Keeps runs beyond their worker: saves them as they go, and takes them up again. */
import { isUserError, UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { decode } from "../runtime/typed-json.ts";
import type { Notice, SavedRun } from "./contract.ts";
import type { Before, Keeping, LiveRun } from "./runner.ts";
import { readRecord, SavedFolder, specOf } from "./saved.ts";

/** Milliseconds between two saves of a run, at most. */
const EVERY = 5000;
/** Milliseconds that a worker that was just ended may need to give its run back. */
const PATIENCE = 2000;

const ID = /^[\w-]{1,64}$/;

/** A run that is being saved. */
interface Slot {
  saved: SavedFolder;
  release: () => Promise<void>;
  timer: ReturnType<typeof setTimeout> | null;
  writing: Promise<void> | null;
  again: boolean;
  failed: boolean;
  /** The run was dropped, and what is saved of it is being deleted. */
  dropped: Promise<void> | null;
}

export class Keeper implements Keeping {
  private readonly slots = new Map<string, Slot>();
  /** Runs that were given as snapshots, and wait to be begun. */
  private readonly given = new Map<string, Before>();
  private folder: Promise<{ files: Files; path: string }> | null = null;
  private readonly open: () => Promise<Files>;
  private readonly notice: (run: string, notice: Notice) => void;

  /** @param open opens the place where runs are saved */
  constructor(open: () => Promise<Files>, notice: (run: string, notice: Notice) => void) {
    this.open = open;
    this.notice = notice;
  }

  /** Runs are saved in this folder from now on; null saves none. */
  saveIn(path: string | null): void {
    this.folder = null;
    if (path === null) return;
    const opened = this.open().then((files) => ({ files, path }));
    opened.catch(() => {}); // told to every run
    this.folder = opened;
  }

  give(id: string, before: Before): void {
    this.given.set(id, before);
  }

  async take(id: string, wanted: boolean): Promise<Before | null> {
    const given = this.given.get(id) ?? null;
    this.given.delete(id);
    if (!this.folder) return given;
    let slot: Slot;
    let before: Before | null = null;
    try {
      const { files, path } = await this.folder;
      const release = await claim(files, pathOf(path, id), wanted);
      const saved = new SavedFolder(files, pathOf(path, id));
      slot = { saved, release, timer: null, writing: null, again: false, failed: false, dropped: null };
      try {
        const moment = wanted && !given ? await saved.load() : null;
        before = moment && { ...moment, done: false };
      } catch (error) {
        await release();
        throw new Damaged(error);
      }
    } catch (error) {
      if (error instanceof Held) throw new UserError(error.message);
      if (error instanceof Damaged) throw error.cause;
      this.notice(id, { type: "unsaved", message: unsaved(error) });
      return given;
    }
    this.slots.set(id, slot);
    return given ?? before;
  }

  save(run: LiveRun, now: boolean): void {
    const slot = this.slots.get(run.id);
    if (!slot || slot.dropped) return;
    if (now) void this.write(slot, run);
    else slot.timer ??= setTimeout(() => void this.write(slot, run), EVERY);
  }

  /** Saves runs now, and resolves when they are saved. */
  async saveAll(runs: readonly LiveRun[]): Promise<void> {
    await Promise.all(
      runs.map((run) => {
        const slot = this.slots.get(run.id);
        return slot && !slot.dropped && this.write(slot, run);
      }),
    );
    await Promise.all([...this.slots.values()].map(({ dropped }) => dropped));
  }

  /** Deletes what is saved of a run that is ending: nobody is to go on with it, whatever becomes of this worker. */
  drop(id: string): void {
    const slot = this.slots.get(id);
    if (!slot) return;
    if (slot.timer) clearTimeout(slot.timer);
    slot.again = false;
    slot.dropped ??= (slot.writing ?? Promise.resolve()).then(() => this.remove(id)).catch(() => {});
  }

  async leave(id: string, forget: boolean): Promise<void> {
    const slot = this.slots.get(id);
    if (!slot) return forget ? this.forget(id).catch(() => {}) : undefined;
    if (forget) this.drop(id);
    else if (slot.timer) clearTimeout(slot.timer);
    await slot.writing;
    await slot.dropped;
    this.slots.delete(id);
    await slot.release().catch(() => {});
  }

  /** Runs that are saved, the newest first, but for those that this worker has. */
  async unfinished(): Promise<SavedRun[]> {
    if (!this.folder) return [];
    const { files, path } = await this.folder;
    const found: SavedRun[] = [];
    for (const id of (await files.list(path)).filter((name) => ID.test(name) && !this.slots.has(name))) {
      const record = await readRecord(files, pathOf(path, id)).catch(() => null);
      if (!record) continue;
      const { events, last, savedAt } = record;
      const release = await files.claim?.(pathOf(path, id)).catch(() => null);
      await release?.();
      const held = release === null;
      found.push({ id, ...specOf(record), events, last: last === null ? undefined : decode(last), savedAt, held });
    }
    return found.sort((a, b) => b.savedAt - a.savedAt);
  }

  /** Deletes a saved run that nobody has. */
  async forget(id: string): Promise<void> {
    if (!this.folder) return;
    const { files, path } = await this.folder;
    const release = await claim(files, pathOf(path, id), false);
    await this.remove(id);
    await release();
  }

  private async remove(id: string): Promise<void> {
    const { files, path } = (await this.folder) as { files: Files; path: string };
    await files.remove(pathOf(path, id));
  }

  /** Writes a run as it is now. While one write is under way, the next waits. */
  private write(slot: Slot, run: LiveRun): Promise<void> {
    if (slot.timer) clearTimeout(slot.timer);
    slot.timer = null;
    if (slot.writing) {
      slot.again = true;
      return slot.writing;
    }
    const all = async () => {
      do {
        slot.again = false;
        await this.writeOnce(slot, run);
      } while (slot.again);
    };
    slot.writing = all().finally(() => {
      slot.writing = null;
    });
    return slot.writing;
  }

  private async writeOnce(slot: Slot, { id, spec, told, files }: LiveRun): Promise<void> {
    try {
      // Both of one moment: what a file says was told is told.
      await slot.saved.save({ spec, events: [...told], contents: files.contents() });
      if (slot.failed) this.notice(id, { type: "saved", message: "The run is saved again." });
      slot.failed = false;
    } catch (error) {
      if (!slot.failed) this.notice(id, { type: "unsaved", message: unsaved(error) });
      slot.failed = true;
    }
  }
}

class Held extends Error {}
class Damaged extends Error {
  constructor(cause: unknown) {
    super("damaged", { cause });
  }
}

function pathOf(folder: string, id: string): string {
  if (!ID.test(id)) throw new UserError(`${JSON.stringify(id)} is no run's id`);
  return `${folder}/${id}`;
}

const unsaved = (error: unknown): string =>
  `Nothing of this run will survive a reload: ${isUserError(error) ? error.message : `saving failed (${(error as Error).message})`}`;

/** Takes a run's folder. A worker that was just ended may have it for a moment yet. */
async function claim(files: Files, path: string, patient: boolean): Promise<() => Promise<void>> {
  if (!files.claim) return async () => {};
  for (const until = Date.now() + (patient ? PATIENCE : 0); ; ) {
    try {
      return await files.claim(path);
    } catch (error) {
      if (!isUserError(error) || !/another run/.test(error.message)) throw error;
      if (Date.now() >= until)
        throw new Held("this run is open in another tab: go on with it there, or close that tab first");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
