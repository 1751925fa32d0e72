import fs from "node:fs";
import os from "node:os";
import path from "node:path";

/**
 * Runs `action`, whose native code may write to the standard error stream, and shows of that only the lines that are
 * not `noise`. Does something on a Linux terminal only: elsewhere the stream's other owners could lose their place.
 */
export async function withoutNoise<R>(noise: RegExp, action: () => Promise<R>): Promise<R> {
  if (process.platform !== "linux" || !process.stderr.isTTY || "Deno" in globalThis) return action();
  let terminal: number;
  let file: string;
  try {
    file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "webrlhf-stderr-")), "log");
    fs.writeFileSync(file, "");
    terminal = fs.openSync("/proc/self/fd/2", "r+");
  } catch {
    return action();
  }
  // An opened file gets the lowest free number, which is the one just closed.
  const redirect = (to: string) => {
    fs.closeSync(2);
    return fs.openSync(to, "r+");
  };
  redirect(file);
  try {
    return await action();
  } finally {
    redirect(`/proc/self/fd/${terminal}`);
    fs.closeSync(terminal);
    const lines = fs.readFileSync(file, "utf8").split("\n");
    const rest = lines.filter((line) => line !== "" && !noise.test(line));
    if (rest.length > 0) fs.writeSync(2, `${rest.join("\n")}\n`);
    fs.rmSync(path.dirname(file), { recursive: true, force: true });
  }
}
