/** Paths inside of one folder, which they must not leave. */
import { UserError } from "./errors.ts";

/**
 * The parts of a path inside of a folder: "runs/a" is ["runs", "a"], "." and "" are the folder itself.
 * @throws UserError for an absolute path, "..", an empty part, and what no file system takes for a name
 */
export function innerPath(path: string): string[] {
  const refuse = (why: string): never => {
    throw new UserError(`${JSON.stringify(path)} ${why}`);
  };
  if (/^[/\\]|^[a-z]:[/\\]/i.test(path))
    refuse('is not inside of the folder: write it without what is above, as "run/a"');
  const parts = path.replace(/\/$/, "").split("/");
  if (parts.length === 1 && parts[0] === "") return [];
  for (const part of parts) {
    if (part === "") refuse("has an empty part");
    if (part === "..") refuse('leads out of the folder: ".." is not allowed');
    if (part.includes("\\") || part.includes("\0")) refuse("has a character that names of files cannot have");
  }
  return parts.filter((part) => part !== ".");
}
