/** Texts and JSON in files, which may be missing or cut short. */
import type { Files } from "./files.ts";

/** The text of a file, or null where there is none. */
export async function readText(files: Files, path: string): Promise<string | null> {
  const bytes = await files.read(path);
  return bytes === null ? null : new TextDecoder().decode(bytes);
}

/** Writes a value as JSON that people can read. */
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
