/** Errors of reading and writing files, in words. */
import { UserError } from "./errors.ts";

/** The error in words, where it is one that a person can do something about. */
export function explain(error: unknown, verb: string, path: string): Error {
  const reasons: Record<string, string> = {
    ENOSPC: "the disk is full: free some space and resume",
    EDQUOT: "the disk quota is used up: free some space and resume",
    EACCES: "permission denied",
    EROFS: "the file system is read-only",
    EISDIR: "it is a folder",
    ERR_FS_FILE_TOO_LARGE: "it is larger than 2 GiB",
    ENOENT: "its folder cannot be made: is the file system read-only?", // what Node says of it
    ENOTDIR: "a part of the path is not a folder",
    EEXIST: "a part of the path is not a folder",
  };
  const reason = reasons[(error as NodeJS.ErrnoException).code ?? ""];
  return reason ? new UserError(`cannot ${verb} ${path}: ${reason}`, { cause: error }) : (error as Error);
}
