/** An item of the day in a process of its own: what it tells is kept, however it ends. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Facts, Figure } from "../../../day/index.ts";

/** A line of an item's process. */
export type Told = { readonly figure: Figure } | { readonly facts: Facts };

/** How an item's process ended; null: as it should. */
export type Ending = string | null;

const LAST_WORDS = 2000;

/**
 * Runs a program and hands on each line that it tells.
 * @param seconds after which it is killed
 */
export async function launch(
  command: readonly string[],
  seconds: number,
  hear: (told: Told) => void,
  signal?: AbortSignal,
): Promise<Ending> {
  const [program, ...words] = command;
  const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"] });
  let late = false;
  let said = "";
  const timer = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, seconds * 1000);
  const stop = () => child.kill("SIGKILL");
  signal?.addEventListener("abort", stop);
  child.stderr.on("data", (bytes) => {
    said = (said + bytes).slice(-LAST_WORDS);
  });
  const ended = new Promise<Ending>((resolve) => {
    child.on("error", (error) => resolve(`it did not start: ${error.message}`));
    child.on("close", (code, by) => {
      if (late) resolve(`it was ended after ${seconds.toFixed(0)} s`);
      else if (by) resolve(`its process was ended by ${by}${after(said)}`);
      else resolve(code === 0 ? null : `its process ended with ${code}${after(said)}`);
    });
  });
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      const told = readLine(line);
      if (told) hear(told);
    }
    return await ended;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

/** What it said in the end, for people: its error, or its last line. */
function after(words: string): string {
  const lines = words.trim().split("\n");
  const last = lines.find((line) => line.startsWith("error: ")) ?? lines[lines.length - 1];
  return last === "" ? "" : `: ${last}`;
}

/** What a line tells; null where it is somebody else's. */
function readLine(line: string): Told | null {
  if (!line.startsWith('{"figure":') && !line.startsWith('{"facts":')) return null;
  try {
    return JSON.parse(line) as Told;
  } catch {
    return null; // a process that was killed in the middle of a line
  }
}
