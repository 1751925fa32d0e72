/** The operating system's errors in words: they are nobody's defect, and say what to do. */
import { UserError } from "./errors.ts";

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or folder",
  ENOSPC: "the disk is full: free some space and try again",
  EDQUOT: "the disk quota is used up: free some space and try again",
  EFBIG: "the file would be larger than the file system allows",
  EACCES: "permission denied",
  EPERM: "the operation is not permitted",
  EROFS: "the file system is read-only",
  EISDIR: "it is a folder",
  ENOTDIR: "a part of the path is not a folder",
  EEXIST: "a part of the path is not a folder",
  ENOTEMPTY: "the folder is not empty",
  ENAMETOOLONG: "the name is too long",
  ELOOP: "links lead in a circle",
  EMFILE: "this process has too many files open; raise the limit with ulimit -n",
  ENFILE: "the system has too many files open",
  EIO: "the disk reports an error",
  EBUSY: "it is in use",
  ETXTBSY: "it is in use",
  ESTALE: "the network file system has lost it",
  ENODEV: "the device is gone",
  ENXIO: "the device is gone",
  EINVAL: "the file system does not take such a name or file",
  EADDRINUSE: "the port is taken: choose another one, or 0 for any free one",
  EADDRNOTAVAIL: "this machine has no such address",
  ERR_FS_FILE_TOO_LARGE: "it is larger than 2 GiB",
  ERR_STRING_TOO_LONG: "it is too large to be read at once",
};

/**
 * An error of the operating system as one for the person at the keyboard; null for any other error.
 * @param what was tried, "write", and with what; default: what the error says
 * @param more reasons that take the place of the usual ones
 */
export function systemError(
  error: unknown,
  what?: { verb: string; path: string },
  more: Readonly<Record<string, string>> = {},
): UserError | null {
  const { code = "", path, syscall } = (error ?? {}) as NodeJS.ErrnoException;
  const reason = more[code] ?? reasons[code];
  if (!(error instanceof Error) || reason === undefined) return null;
  const tried = what ? `cannot ${what.verb} ${what.path}` : `cannot ${syscall ?? "use"}${path ? ` ${path}` : ""}`;
  return new UserError(`${tried}: ${reason}`, { cause: error });
}
