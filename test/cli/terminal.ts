import type { Terminal } from "webrlhf/cli";

export interface RecordedTerminal extends Terminal {
  readonly written: string[];
  readonly results: string[];
}

/** Keeps what is written to it. */
export function silentTerminal(tty = false): RecordedTerminal {
  const written: string[] = [];
  const results: string[] = [];
  return {
    tty,
    columns: 80,
    erase: "\r\x1b[2K",
    written,
    results,
    write: (text) => void written.push(text),
    line: (text) => void written.push(`${text}\n`),
    style: (_tone, text) => text,
    result: (text) => void results.push(text),
  };
}
