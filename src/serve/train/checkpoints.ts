/** What clients save: folders below one folder, by names that are checked and lead nowhere else. */
import { type FileContent, type Files, isPartial, parseJson } from "../../runtime/files.ts";
import { joinedBytes } from "../../runtime/joined-bytes.ts";
import { join } from "../../runtime/paths.ts";
import { ApiError } from "../errors.ts";

/** What a saved folder is for: to train on, to sample from, or for other programs. */
export const kinds = ["weights", "sampler_weights", "external_weights"] as const;
export type Kind = (typeof kinds)[number];

/** Where a saved folder is. */
export interface Place {
  /** The id of the model that was saved. */
  run: string;
  kind: Kind;
  name: string;
}

/** What stands beside a saved folder's weights. */
export interface About {
  base: string;
  rank: number;
  trainAttn: boolean;
  trainMlp: boolean;
  /** When it was saved, and when it may go; in milliseconds since 1970. */
  created: number;
  expires: number | null;
  userMetadata: Record<string, string> | null;
  /** What the client that trains it wanted to be kept. */
  runMetadata: Record<string, string> | null;
  bytes: number;
  /** Belongs to a sampling client and goes with it. */
  passing: boolean;
}

const ABOUT = "checkpoint.json";
const RUN = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}:train:\d{1,9}$/;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** Whether a name may stand in a path: letters, digits, dots, dashes and underscores, and not as those of unfinished writes. */
export const isName = (name: string): boolean => NAME.test(name) && !isPartial(name);

/** The path by which clients know a saved folder. */
export const pathOf = ({ run, kind, name }: Place): string => `tinker://${run}/${kind}/${name}`;

/** Reads such a path. Throws for what is none, without a look at the disk. */
export function placeOf(path: string): Place {
  const [run = "", kind = "", name = "", ...more] = path.startsWith("tinker://") ? path.slice(9).split("/") : [];
  if (RUN.test(run) && (kinds as readonly string[]).includes(kind) && isName(name) && more.length === 0) {
    return { run, kind: kind as Kind, name };
  }
  throw new ApiError(
    400,
    `${JSON.stringify(path.slice(0, 200))} is no path of saved weights: they are tinker://<model>/${kinds.join("|")}/<name>.`,
    { param: "path" },
  );
}

/** Whether a text is the id of a model. */
export const isRun = (text: string): boolean => RUN.test(text);

/** The folder of a server's saved weights. */
export class Checkpoints {
  private readonly files: Files;
  private readonly root: string;
  private readonly most: number;

  /** @param most folders that stay; those of sampling clients do not count */
  constructor(files: Files, root: string, most: number) {
    this.files = files;
    this.root = root;
    this.most = most;
  }

  /** Where a place lies on the disk. */
  folderOf({ run, kind, name }: Place): string {
    return join(join(join(this.root, run.replaceAll(":", "-")), kind), name);
  }

  /** Throws where something may not be saved there. Call it before the work is done. */
  async checkRoom(place: Place, overwrite: boolean, passing = false): Promise<void> {
    const there = await this.find(place);
    if (there && !overwrite) {
      throw new ApiError(
        400,
        `${pathOf(place)} is there already: choose another name${place.kind === "weights" ? ", or overwrite it" : ""}.`,
      );
    }
    if (there || passing) return;
    const kept = (await this.list()).filter(({ about }) => !about.passing);
    if (kept.length >= this.most) {
      throw new ApiError(
        400,
        `${this.most} checkpoints are kept already (--max_checkpoints): delete some, or save with a ttl_seconds.`,
      );
    }
  }

  /** Writes a folder, or nothing. */
  async write(place: Place, content: Record<string, FileContent>, about: Omit<About, "bytes">): Promise<void> {
    const files: Record<string, Uint8Array | string> = {};
    let bytes = 0;
    for (const [name, one] of Object.entries(content)) {
      files[name] = typeof one === "string" || one instanceof Uint8Array ? one : await inMemory(one);
      bytes += files[name].length;
    }
    files[ABOUT] = `${JSON.stringify({ ...about, bytes }, null, 2)}\n`;
    await this.files.writeFolder(this.folderOf(place), files);
  }

  /** What is said of a saved folder. Throws where there is none. */
  async about(place: Place): Promise<About> {
    const found = await this.find(place);
    if (found) return found;
    throw new ApiError(404, `There are no weights at ${pathOf(place)}; they were never saved, or are gone.`, {
      param: "path",
    });
  }

  /** All that is saved, the oldest first; what has expired goes. */
  async list(run?: string): Promise<{ place: Place; about: About }[]> {
    const found: { place: Place; about: About }[] = [];
    for (const place of await this.places(run)) {
      const about = isName(place.name) ? await this.find(place) : null;
      if (about) found.push({ place, about });
    }
    return found.sort((a, b) => a.about.created - b.about.created);
  }

  async remove(place: Place): Promise<void> {
    await this.about(place);
    await this.files.remove(this.folderOf(place));
  }

  /** Removes what sampling clients had, and what was not written to its end by a server that was killed. */
  async removePassing(run?: string): Promise<void> {
    for (const place of await this.places(run)) {
      const gone = isPartial(place.name) || (isName(place.name) && (await this.find(place))?.passing);
      if (gone) await this.files.remove(this.folderOf(place));
    }
  }

  /** All that lies where saved folders do. */
  private async places(run?: string): Promise<Place[]> {
    const found: Place[] = [];
    for (const folder of await this.files.list(this.root)) {
      const id = folder.replace(/-train-(?=\d+$)/, ":train:");
      if (!isRun(id) || (run !== undefined && id !== run)) continue;
      for (const kind of kinds) {
        for (const name of await this.files.list(join(join(this.root, folder), kind)))
          found.push({ run: id, kind, name });
      }
    }
    return found;
  }

  private async find(place: Place): Promise<About | null> {
    const file = join(this.folderOf(place), ABOUT);
    const bytes = await this.files.read(file);
    if (!bytes) return null;
    const about = parseJson<About>(bytes, file);
    if (about.expires === null || about.expires > Date.now()) return about;
    await this.files.remove(this.folderOf(place));
    return null;
  }
}

/** An adapter and its optimizer's moments are small, and what they are made of may change while they are written. */
async function inMemory(content: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const piece of content) pieces.push(piece.slice());
  return joinedBytes(pieces);
}
