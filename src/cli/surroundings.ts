/** How the library's work is shown in a terminal. */
import type { RunSurroundings } from "../open/method.ts";
import type { Surroundings } from "../open/surroundings.ts";
import { short } from "./progress.ts";
import type { Terminal } from "./terminal.ts";
import type { Context } from "./verb.ts";

/** What the library is told of this program: where words go, and when to stop. */
export const surroundings = ({ terminal, signal }: Pick<Context, "terminal" | "signal">): Surroundings => ({
  say: (line) => terminal.line(line),
  progress: loadingLine(terminal),
  signal,
});

/** A line for every tenth of longer work. */
export function tenths({ terminal, label }: Pick<Context, "terminal" | "label">): NonNullable<RunSurroundings["work"]> {
  let told = "";
  return (what, done, total) => {
    const mark = `${what} ${Math.floor((10 * done) / total)}`;
    if (mark === told) return;
    told = mark;
    terminal.line(`${terminal.style("cyan", label)}: ${what}: ${done} of ${total}`);
  };
}

/** One line that is written anew in a terminal; elsewhere a line per large file. */
function loadingLine(terminal: Terminal): NonNullable<Surroundings["progress"]> {
  let last = 0;
  let announced = "";
  return (file, received, total) => {
    const done = received >= total;
    if (!terminal.tty) {
      if (file !== announced && total > 10e6) terminal.line(`loading ${file} (${size(total)})`);
      announced = file;
      return;
    }
    const now = performance.now();
    if (!done && now - last < 100) return;
    last = now;
    const text = `loading ${file}: ${size(received)} of ${size(total)}`.slice(0, terminal.columns - 1);
    terminal.write(`${terminal.erase}${done ? "" : text}`);
  };
}

function size(bytes: number): string {
  const [unit, name] = bytes >= 1e9 ? [1e9, "GB"] : bytes >= 1e6 ? [1e6, "MB"] : [1e3, "kB"];
  return `${short(bytes / (unit as number))} ${name}`;
}
