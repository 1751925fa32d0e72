/** Room in a browser's storage for a large download, and that it stays. */
import { fullness, roomLeft } from "./browser-errors.ts";
import { UserError } from "./errors.ts";

/** From here on it would be a pity to load something twice. */
const LARGE = 8 << 20;

let asked: Promise<string | null> | undefined;

/**
 * Makes sure that so many bytes fit, and asks the browser once per page to keep this origin's files until somebody deletes them.
 * @returns a line for people on what the browser answered; null where nothing was asked
 * @throws UserError where there is no room
 */
export async function makeRoom(bytes: number): Promise<string | null> {
  const left = await roomLeft();
  if (left !== null && left < bytes) throw new UserError(`cannot keep the download: ${await fullness(bytes)}`);
  if (bytes < LARGE || asked) return null;
  asked = ask();
  return asked;
}

async function ask(): Promise<string | null> {
  const storage = globalThis.navigator?.storage;
  if (await storage?.persisted?.().catch(() => false)) return null;
  if (!storage?.persist) {
    // Workers cannot ask.
    return "The browser may delete the download when it needs room: the page can ask it not to, with navigator.storage.persist().";
  }
  return (await storage.persist().catch(() => false))
    ? "The browser keeps the download until you delete this site's data."
    : "The browser may delete the download when it needs room; it keeps those of sites that you bookmark or install.";
}
