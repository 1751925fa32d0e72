/** Errors of reading and writing files, in words. */
import { systemError } from "./system-errors.ts";

/** What Node says where a folder cannot be made. */
const writing = { ENOENT: "its folder cannot be made: is the file system read-only?" };

/** The error in words, where it is one that a person can do something about. */
export const explain = (error: unknown, verb: "read" | "write", path: string): Error =>
  systemError(error, { verb, path }, verb === "write" ? writing : {}) ?? (error as Error);
