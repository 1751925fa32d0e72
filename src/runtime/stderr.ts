import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { isMainThread } from "node:worker_threads";

const { O_APPEND, O_NONBLOCK, O_RDWR, O_WRONLY } = fs.constants;

let busy = false;

/**
 * Runs `action`, whose native code may write to the standard error stream, and shows of that only the lines that are
 * not `noise`. Does something on Linux only, and only where the stream can be opened a second time: a terminal, a pipe, a
 * file that is appended to. In other files whoever writes there too would lose its place.
 */
export async function withoutNoise<R>(noise: RegExp, action: () => Promise<R>): Promise<R> {
  // One at a time: another one would take the file of the first for the stream.
  if (process.platform !== "linux" || "Deno" in globalThis || !isMainThread || busy) return action();
  const how = reopening();
  if (how === null) return action();
  let stream: number;
  let file: string;
  try {
    file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "webrlhf-stderr-")), "log");
    fs.writeFileSync(file, "");
    stream = fs.openSync("/proc/self/fd/2", how);
  } catch {
    return action();
  }
  // An opened file gets the lowest free number, which is the one just closed.
  const redirect = (to: string, flags: number) => {
    fs.closeSync(2);
    return fs.openSync(to, flags);
  };
  const restore = () => {
    process.off("exit", restore);
    try {
      redirect(`/proc/self/fd/${stream}`, how);
    } catch {
      fs.openSync("/dev/null", O_WRONLY); // the pipe's reader has gone
    }
    fs.closeSync(stream);
    const lines = fs.readFileSync(file, "utf8").split("\n");
    fs.rmSync(path.dirname(file), { recursive: true, force: true });
    busy = false;
    const rest = lines.filter((line) => line !== "" && !noise.test(line));
    if (rest.length > 0) process.stderr.write(`${rest.join("\n")}\n`);
  };
  busy = true;
  process.once("exit", restore);
  redirect(file, O_RDWR | O_APPEND);
  try {
    return await action();
  } finally {
    restore();
  }
}

/** How the standard error stream is opened a second time, or null where that would not be the same stream. */
function reopening(): number | null {
  if (process.stderr.isTTY) return O_RDWR;
  try {
    const stat = fs.fstatSync(2);
    if (stat.isFIFO()) return O_WRONLY | O_NONBLOCK; // does not wait where its reader has gone
    const [, flags] = /^flags:\s*(\d+)$/m.exec(fs.readFileSync("/proc/self/fdinfo/2", "utf8")) ?? [];
    return stat.isFile() && Number.parseInt(flags, 8) & O_APPEND ? O_WRONLY | O_APPEND : null;
  } catch {
    return null; // closed
  }
}
