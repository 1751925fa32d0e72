/** Errors of a browser's storage, in words. */
import { UserError } from "./errors.ts";

const reasons: Readonly<Record<string, string>> = {
  NotAllowedError: "the page has no permission for this folder, or has it no more: choose the folder again",
  SecurityError: "the browser lets this page keep no files: is it a private window, or is site data blocked?",
  NoModificationAllowedError: "it is in use, perhaps by another tab of this page: close that one and try again",
  InvalidStateError: "it is in use, or the browser's storage was just cleared: reload the page and try again",
  NotReadableError: "it was changed after it was opened, or the browser may not read it: try again",
  NotFoundError: "it is not there any more: was it deleted meanwhile?",
  TypeMismatchError: "a part of the path is a file where a folder should be, or a folder where a file should be",
  UnknownError: "the browser's storage failed: is the disk full? Reload the page and try again",
  TypeError: "the browser takes no such name for a file",
};

/**
 * An error of the browser's storage as one for the person before it; any other error as it is.
 * @param verb what was tried
 * @param needed bytes that were to be written, where that is known
 */
export async function explainInBrowser(
  error: unknown,
  verb: "read" | "write" | "delete",
  path: string,
  needed?: number,
): Promise<unknown> {
  const { name, message } = (error ?? {}) as Error;
  if (name === "QuotaExceededError") {
    return new UserError(`cannot write ${path}: ${await fullness(needed)}`, { cause: error });
  }
  const reason = reasons[name];
  if (!(error instanceof Error) || !reason || (name === "TypeError" && !/name is (not allowed|invalid)/i.test(message)))
    return error;
  return new UserError(`cannot ${verb} ${path}: ${reason}`, { cause: error });
}

/** Bytes that the browser still gives this origin, or null where it does not say. */
export async function roomLeft(): Promise<number | null> {
  const estimate = await globalThis.navigator?.storage?.estimate?.().catch(() => null);
  return estimate?.quota === undefined ? null : Math.max(0, estimate.quota - (estimate.usage ?? 0));
}

/** Why there is no room, with figures where the browser gives them. */
export async function fullness(needed?: number): Promise<string> {
  const left = await roomLeft();
  const wanted = needed === undefined ? "" : `, and ${size(needed)} are needed`;
  const room = left === null ? `more room${wanted}` : `more room: ${size(left)} are left${wanted}`;
  return `the browser gives this page no ${room}. Delete what you no longer need, or free some of the disk`;
}

const size = (bytes: number): string =>
  bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
