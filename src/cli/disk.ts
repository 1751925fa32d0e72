import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import type { Files } from "../runtime/files.ts";

/** The text of a file, or null where there is none. */
export async function readText(files: Files, path: string): Promise<string | null> {
  const bytes = await files.read(path);
  return bytes === null ? null : new TextDecoder().decode(bytes);
}

export const writeJson = (files: Files, path: string, value: unknown): Promise<void> =>
  files.writeFile(path, `${JSON.stringify(value, null, 2)}\n`);

/** The value of a JSON file, or null where there is none or it is damaged. */
export async function readJson<T>(files: Files, path: string): Promise<T | null> {
  const text = await readText(files, path);
  try {
    return text === null ? null : (JSON.parse(text) as T);
  } catch {
    return null;
  }
}

/** The rows of a JSON-lines file, up to a line that a kill cut short. Empty where there is no file. */
export async function readJsonLines<T>(files: Files, path: string): Promise<T[]> {
  const rows: T[] = [];
  for (const line of ((await readText(files, path)) ?? "").split("\n")) {
    if (line === "") continue;
    try {
      rows.push(JSON.parse(line) as T);
    } catch {
      break;
    }
  }
  return rows;
}

/** SHA-256 of a file's bytes as hex, without holding them in memory. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  return hash.digest("hex");
}
