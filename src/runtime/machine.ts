import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";

export interface Machine {
  /** "Node 20.20.2", "Deno 2.9.6". */
  runtime: string;
  /** "linux-x64". */
  platform: string;
  cpu: string;
  cores: number;
  memoryGiB: number;
  /** Makers of the GPUs that the operating system sees (Linux only), whether or not a driver works. */
  gpus: string[];
}

const makers: Record<string, string> = { "0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel" };

/** What this program runs on. */
export function machine(): Machine {
  const deno = (globalThis as { Deno?: { version: { deno: string } } }).Deno;
  const cpus = os.cpus();
  return {
    runtime: deno ? `Deno ${deno.version.deno}` : `Node ${process.versions.node}`,
    platform: `${process.platform}-${process.arch}`,
    cpu: cpus[0]?.model.trim() || "unknown",
    cores: os.availableParallelism?.() ?? cpus.length,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    gpus: gpusOfLinux(),
  };
}

function gpusOfLinux(): string[] {
  const found = new Set<string>();
  const folder = "/sys/class/drm";
  for (const card of listing(folder).filter((name) => /^card\d+$/.test(name))) {
    const maker = makers[readText(path.join(folder, card, "device/vendor")).trim()];
    if (maker) found.add(maker);
  }
  // Containers often hide /sys/class/drm and show only this.
  if (listing("/proc/driver/nvidia").length > 0 || listing("/dev").includes("nvidiactl")) found.add("NVIDIA");
  return [...found].sort();
}

/** Version of an installed npm package, or null. */
export function packageVersion(name: string): string | null {
  const folders = createRequire(import.meta.url).resolve.paths(name) ?? [];
  for (const folder of [...folders, path.join(process.cwd(), "node_modules")]) {
    const text = readText(path.join(folder, name, "package.json"));
    if (text) return (JSON.parse(text) as { version: string }).version;
  }
  return null;
}

function listing(folder: string): string[] {
  try {
    return fs.readdirSync(folder);
  } catch {
    return [];
  }
}

function readText(file: string): string {
  try {
    return fs.readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
