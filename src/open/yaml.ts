/** YAML mappings, with the lines of their keys for messages. */
import { UserError } from "../runtime/errors.ts";

/** A YAML mapping and the line of each of its keys. */
export interface Yaml {
  values: Record<string, unknown>;
  lines: Record<string, number>;
}

/** Reads what nests without end, or multiplies without end by its aliases, as a mistake of the file. */
function unlessEndless<R>(path: string, read: () => R): R {
  try {
    return read();
  } catch (cause) {
    const why = cause instanceof RangeError ? "it is nested too deeply" : (cause as Error).message;
    throw new UserError(`${path}: cannot be read: ${why}`, { cause });
  }
}

/**
 * Reads the text of a YAML mapping; a mistake in it is reported with file and line.
 * @param path the file, for messages
 */
export async function parseYaml(text: string, path: string): Promise<Yaml> {
  const { LineCounter, parseDocument } = await import("yaml");
  const lineCounter = new LineCounter();
  const document = unlessEndless(path, () => parseDocument(text, { lineCounter, prettyErrors: false, merge: true }));
  const mistake = document.errors[0];
  if (mistake) {
    const { line, col } = lineCounter.linePos(mistake.pos[0]);
    throw new UserError(`${path}:${line}:${col}: ${mistake.message.split("\n")[0]}`);
  }
  const value = unlessEndless<unknown>(path, () => document.toJS()) ?? {};
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UserError(`${path}: must hold "key: value" lines`);
  }
  const items =
    (document.contents as { items?: { key?: { value?: unknown; range?: [number] } }[] } | null)?.items ?? [];
  const lines = items.flatMap(({ key }) =>
    key?.range ? [[String(key.value), lineCounter.linePos(key.range[0]).line] as const] : [],
  );
  return { values: value as Record<string, unknown>, lines: Object.fromEntries(lines) };
}
