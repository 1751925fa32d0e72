/**
 * Settings that change while a run is at work. Each change is a line of `changes.jsonl` in the run's folder before the first step
 * that has the new value is taken. A run that goes on from a checkpoint makes the changes of its first attempt again, at the same
 * steps, so that it is the run that was not killed; another run that is given the lines makes them, too.
 */
import { UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { snakeCase } from "../runtime/names.ts";
import { checkLive, liveValues } from "../settings/index.ts";

/** A setting that was changed on the way. */
export interface Change {
  /** The first step that is taken with the new value, from 1. */
  readonly step: number;
  /** Its name as people write it: "learning_rate". */
  readonly setting: string;
  readonly from: number;
  readonly to: number;
}

/** The file of a run's folder that holds its changes. */
export const CHANGES = "changes.jsonl";

/** Bytes of such a file at most. */
const LONGEST = 1 << 20;

/**
 * The changes that a file holds, by their steps; none where there is no file.
 * @throws UserError naming the line that is no change
 */
export async function readChanges(files: Files, path: string): Promise<Change[]> {
  const file = await files.open(path);
  if (file === null) return [];
  try {
    if (file.size > LONGEST) throw new UserError(`${path} has ${file.size} bytes: no run has so many changes`);
    const lines = new TextDecoder().decode(await file.read(0, file.size)).split("\n");
    // A line without its end is of a write that was cut off; no step has seen it.
    const whole = lines
      .slice(0, -1)
      .flatMap((line, i) => (line === "" ? [] : [changeIn(line, `${path} line ${i + 1}`)]));
    return whole.sort((a, b) => a.step - b.step);
  } finally {
    await file.close();
  }
}

function changeIn(line: string, where: string): Change {
  let row: Partial<Record<keyof Change, unknown>> | null;
  try {
    row = JSON.parse(line);
  } catch {
    row = null;
  }
  const { step, setting, from, to } = row ?? {};
  const counts = Number.isSafeInteger(step) && (step as number) >= 1;
  if (counts && typeof setting === "string" && Number.isFinite(from) && Number.isFinite(to)) {
    return { step, setting, from, to } as Change;
  }
  throw new UserError(`${where} is no change: it needs step, setting, from and to`);
}

const lineOf = ({ step, setting, from, to }: Change): string => `${JSON.stringify({ step, setting, from, to })}\n`;

/** Where a run keeps its changes. */
type Place = { readonly files: Files; readonly path: string };

const writeChanges = ({ files, path }: Place, changes: readonly Change[]): Promise<void> =>
  files.writeFile(`${path}/${CHANGES}`, changes.map(lineOf).join(""));

/** The changes of a run: those that are known before it comes to their steps, and those that are asked for on the way. */
export class Changes {
  readonly #place: Place | null;
  readonly #settings: object;
  readonly #adjust: (key: string, value: number) => number | null;
  readonly #known: Change[];
  #planned: Change[];

  /**
   * @param settings the trainer's own, made by `live`
   * @param planned what the file holds, in the order of their steps; throws a UserError where one of them cannot be
   * @param adjust takes a value over that a trainer keeps besides; gives what stood there, or null where it is the setting alone
   */
  constructor(
    place: Place | null,
    settings: object,
    planned: readonly Change[],
    adjust: (key: string, value: number) => number | null = () => null,
  ) {
    this.#place = place;
    this.#settings = settings;
    this.#known = [...planned];
    this.#planned = [...planned];
    this.#adjust = adjust;
    // What cannot be is said before the first step, not after hours.
    for (const { setting, to } of planned) checkLive(settings, this.#keyOf(setting), to);
  }

  /** Settings that may change, as they are now, by the names that people write. */
  get values(): Record<string, number> {
    return Object.fromEntries(
      Object.entries(liveValues(this.#settings)).map(([key, value]) => [snakeCase(key), value]),
    );
  }

  /** Whether a change is known that begins with this step. */
  due(step: number): boolean {
    return this.#planned[0]?.step === step;
  }

  /** Makes what is known of the steps up to this one. */
  make(step: number): Change[] {
    const made: Change[] = [];
    while (this.#planned.length > 0 && this.#planned[0].step <= step) {
      const [{ step, setting, to }] = this.#planned.splice(0, 1);
      made.push({ step, setting, from: this.#set(setting, to), to });
    }
    return made;
  }

  /**
   * Makes a change that somebody asks for; it is on disk before it holds. Where it cannot be, all is as it was.
   * @throws UserError for a setting or a value that cannot be, and what the files throw
   */
  async ask(step: number, setting: string, to: number): Promise<Change> {
    const key = this.#keyOf(setting);
    const values = this.#settings as Record<string, number>;
    const before = values[key];
    const from = this.#set(setting, to);
    const change = { step, setting, from, to };
    try {
      // Whole, not at the end of what is there: of a write that fails nothing stays.
      if (this.#place) await writeChanges(this.#place, [...this.#known, change]);
    } catch (error) {
      this.#adjust(key, from);
      values[key] = before;
      throw error;
    }
    this.#known.push(change);
    return change;
  }

  #keyOf(setting: string): string {
    return Object.keys(liveValues(this.#settings)).find((one) => snakeCase(one) === setting) ?? setting;
  }

  #set(setting: string, to: number): number {
    const key = this.#keyOf(setting);
    checkLive(this.#settings, key, to);
    const values = this.#settings as Record<string, number>;
    const stood = this.#adjust(key, to) ?? values[key];
    values[key] = to;
    return stood;
  }
}

/** What a run is to change on its way. */
interface Plan {
  /** The folder whose checkpoint it goes on from; null: it begins anew. */
  readonly source: string | null;
  readonly given: readonly Change[];
}

/** Finds what a run is to change: what it or its first attempt changed, and what it is given. The folder holds that afterwards. */
export async function plannedChanges(place: Place | null, { source, given }: Plan): Promise<Change[]> {
  const before = place && source !== null ? await readChanges(place.files, `${source}/${CHANGES}`) : [];
  const known = new Set(before.map(lineOf));
  const planned = [...before, ...given.filter((change) => !known.has(lineOf(change)))].sort((a, b) => a.step - b.step);
  if (!place) return planned;
  if (planned.length === 0) await place.files.remove(`${place.path}/${CHANGES}`);
  else await writeChanges(place, planned);
  return planned;
}
