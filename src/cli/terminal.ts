import { randomUUID } from "node:crypto";
import { styleText } from "node:util";
import { printable, withoutPassword } from "../runtime/printable.ts";

/** A style of words in a terminal. */
export type Tone = "bold" | "dim" | "green" | "red" | "yellow" | "cyan";

/** Where words for people go. stdout stays free for results. What a terminal would obey in a text is written out. */
export interface Terminal {
  readonly tty: boolean;
  /** Width in characters. */
  readonly columns: number;
  /** At the beginning of a text for `write`, it takes back the line that is there. */
  readonly erase: string;
  write(text: string): void;
  line(text: string): void;
  style(tone: Tone, text: string): string;
  /** Results that programs read. */
  result(text: string): void;
}

/** Stands for an escape character of this program's own, until all others are written out: nobody else can know it. */
const ESCAPE = `\ue000${randomUUID()}\ue000`;
const RETURN = `\ue001${randomUUID()}\ue001`;

/** A text as a terminal may see it. */
const shown = (text: string): string =>
  printable(withoutPassword(text)).replaceAll(ESCAPE, "\x1b").replaceAll(RETURN, "\r");

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
    erase: `${RETURN}${ESCAPE}[2K`,
    write: (text) => void stderr.write(shown(text)),
    line: (text) => void stderr.write(`${shown(text)}\n`),
    style(tone, text) {
      if (!colour) return text;
      const [begin, end] = styleText(tone, "|", { validateStream: false }).replaceAll("\x1b", ESCAPE).split("|");
      return `${begin}${text}${end}`;
    },
    result: (text) => void stdout.write(`${shown(text)}\n`),
  };
}
