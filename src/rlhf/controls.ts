/**
 * Wishes of those who watch a run at work. They travel by files of the run's folder: `control/standing.json` says how the run
 * stands, each wish is a small file beside it, and the trainer looks for such files between two steps. Nothing is sent to the
 * trainer's process, and what is no wish is thrown away.
 */
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";

/** Something that a run at work is asked for. A change of a setting begins with the next step. */
export type Wish =
  | { readonly ask: "pause" | "continue" | "save" | "stop" }
  | { readonly ask: "set"; readonly setting: string; readonly value: number };

/** How a run at work stands. */
export interface Standing {
  readonly state: "running" | "paused";
  /** The steps that were done when this was written. */
  readonly step: number;
  /** Settings that may change, by the names that people write. */
  readonly settings: Readonly<Record<string, number>>;
}

/** Where a run hears wishes. */
export interface RunControls {
  /** Is told when the run is at work, and how it stands from then on. */
  stand(standing: Standing): Promise<void>;
  /** The wishes that have come; quick where there are none. */
  look(): Promise<readonly Wish[]>;
  /** The same for a run that is held and has time: it waits a moment. */
  wait(signal?: AbortSignal): Promise<readonly Wish[]>;
}

/** The folder of wishes in a run's folder, and the file in it that says how the run stands. */
const FOLDER = "control";
const STANDING = "standing.json";
/** Bytes of a wish, or of a standing. */
const LONGEST = 4096;
/** Wishes that may wait at once. */
const MOST = 32;
/** Milliseconds between two looks. */
const EVERY = 250;

const NAMES = ["pause", "continue", "save", "stop", "set"] as const;

/** Wishes that this process left. */
let left = 0;

/** A wish, if it is one. */
export function wishOf(value: unknown): Wish | null {
  if (typeof value !== "object" || value === null) return null;
  const { ask, setting, value: to } = value as Record<string, unknown>;
  if (!NAMES.includes(ask as Wish["ask"])) return null;
  if (ask !== "set") return { ask: ask as Exclude<Wish["ask"], "set"> };
  const named = typeof setting === "string" && /^[a-z][a-z0-9_]{0,63}$/.test(setting);
  return named && typeof to === "number" && Number.isFinite(to) ? { ask, setting, value: to } : null;
}

/** A wish in words. */
export const inWords = (wish: Wish): string => (wish.ask === "set" ? `${wish.setting} ${wish.value}` : wish.ask);

async function readSmall(files: Files, path: string): Promise<unknown> {
  const file = await files.open(path).catch(() => null);
  if (file === null) return null;
  try {
    return file.size > LONGEST ? null : JSON.parse(new TextDecoder().decode(await file.read(0, file.size)));
  } catch {
    return null;
  } finally {
    await file.close();
  }
}

/** How the run in a folder stands; null where it says nothing, as one does that is over. */
export async function standingOf(files: Files, folder: string): Promise<Standing | null> {
  const found = (await readSmall(files, `${folder}/${FOLDER}/${STANDING}`)) as Partial<Standing> | null;
  if (typeof found !== "object" || found === null) return null;
  const { state, step, settings } = found;
  if ((state !== "running" && state !== "paused") || typeof step !== "number") return null;
  const numbers = Object.entries(settings ?? {}).filter(([, value]) => typeof value === "number");
  return { state, step, settings: Object.fromEntries(numbers) };
}

const wishFiles = async (files: Files, folder: string): Promise<string[]> =>
  (await files.list(`${folder}/${FOLDER}`)).filter((name) => /^wish-[\w-]+\.json$/.test(name));

/** The wishes that a run has not heard yet, the first first. */
export async function waitingWishes(files: Files, folder: string): Promise<Wish[]> {
  const names = (await wishFiles(files, folder)).slice(0, MOST);
  const all = await Promise.all(names.map((name) => readSmall(files, `${folder}/${FOLDER}/${name}`)));
  return all.flatMap((value) => wishOf(value) ?? []);
}

/**
 * Leaves a wish for the run in a folder, which hears it after the step it is at.
 * @throws UserError where no run listens there, or it could not do it
 */
export async function leaveWish(files: Files, folder: string, wish: Wish): Promise<void> {
  const standing = await standingOf(files, folder);
  const holder = await files.holder?.(folder);
  if (!standing || holder === null || holder?.alive === false) {
    throw new UserError(`${folder}: no run is at work here that could be asked`);
  }
  if (wish.ask === "set" && !Object.hasOwn(standing.settings, wish.setting)) {
    const names = Object.keys(standing.settings);
    throw new UserError(
      `${folder}: ${wish.setting} is none of what may change there: ${names.join(", ") || "nothing may"}`,
    );
  }
  if ((await wishFiles(files, folder)).length >= MOST) {
    throw new UserError(`${folder}: ${MOST} wishes wait already: the run hears them after its step`);
  }
  left += 1; // of several in a millisecond
  const name = `wish-${String(Date.now()).padStart(15, "0")}-${String(left).padStart(6, "0")}-${crypto.randomUUID().slice(0, 8)}.json`;
  await files.writeFile(`${folder}/${FOLDER}/${name}`, `${JSON.stringify(wish)}\n`);
}

/** The wishes that are left in a run's folder. */
export class FolderControls implements RunControls {
  readonly #files: Files;
  readonly #folder: string;
  readonly #stop = new AbortController();
  #begun = false;
  #looked = 0;

  constructor(files: Files, folder: string) {
    this.#files = files;
    this.#folder = folder;
  }

  /** Fires when the run is asked to stop, for work around its steps. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  async stand(standing: Standing): Promise<void> {
    // What was left for an earlier run is none of this one's.
    if (!this.#begun) await this.#files.remove(`${this.#folder}/${FOLDER}`);
    this.#begun = true;
    await this.#files.writeFile(`${this.#folder}/${FOLDER}/${STANDING}`, `${JSON.stringify(standing)}\n`);
  }

  async look(): Promise<readonly Wish[]> {
    const now = performance.now();
    if (now - this.#looked < EVERY) return [];
    this.#looked = now;
    const wishes: Wish[] = [];
    for (const name of (await wishFiles(this.#files, this.#folder)).slice(0, MOST)) {
      const path = `${this.#folder}/${FOLDER}/${name}`;
      const wish = wishOf(await readSmall(this.#files, path));
      await this.#files.remove(path);
      if (wish) wishes.push(wish);
    }
    if (wishes.some(({ ask }) => ask === "stop")) this.#stop.abort();
    return wishes;
  }

  async wait(signal?: AbortSignal): Promise<readonly Wish[]> {
    if (!signal?.aborted) await new Promise((done) => setTimeout(done, EVERY));
    return this.look();
  }

  /** Nobody is heard any more. */
  async close(): Promise<void> {
    if (this.#begun) await this.#files.remove(`${this.#folder}/${FOLDER}`);
  }
}
