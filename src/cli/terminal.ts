import { styleText } from "node:util";

/** A style of words in a terminal. */
export type Tone = "bold" | "dim" | "green" | "red" | "yellow" | "cyan";

/** Where words for people go. stdout stays free for results. */
export interface Terminal {
  readonly tty: boolean;
  /** Width in characters. */
  readonly columns: number;
  write(text: string): void;
  line(text: string): void;
  style(tone: Tone, text: string): string;
  /** Results that programs read. */
  result(text: string): void;
}

/** The terminal of this process: words for people on stderr, results on stdout. */
export function processTerminal(): Terminal {
  const { stderr, stdout } = process;
  const tty = stderr.isTTY === true && process.env.TERM !== "dumb" && !process.env.CI;
  const colour = tty && !process.env.NO_COLOR;
  return {
    tty,
    get columns() {
      return stderr.columns ?? 80;
    },
    write: (text) => void stderr.write(text),
    line: (text) => void stderr.write(`${text}\n`),
    style: (tone, text) => (colour ? styleText(tone, text) : text),
    result: (text) => void stdout.write(`${text}\n`),
  };
}
