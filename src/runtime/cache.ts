import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";

/**
 * The folder of this user where unpacked or downloaded files may be kept between runs: `$XDG_CACHE_HOME/webrlhf`,
 * else `~/.cache/webrlhf`, else (no writable home) a private folder below the system's temporary one. It is created.
 */
export async function cacheFolder(): Promise<string> {
  const base = process.env.XDG_CACHE_HOME || path.join(home(), ".cache");
  const user = process.getuid?.() ?? 0;
  for (const folder of [path.join(base, "webrlhf"), path.join(os.tmpdir(), `webrlhf-${user}`)]) {
    try {
      await fs.mkdir(folder, { recursive: true, mode: 0o700 });
      // In a shared temporary folder somebody else may have made this name first: never load libraries from there.
      const owner = (await fs.lstat(folder)).uid;
      if (process.getuid !== undefined && owner !== user) continue;
      await fs.access(folder, fs.constants.W_OK);
      return folder;
    } catch {}
  }
  throw new Error(`no cache folder is writable: tried ${path.join(base, "webrlhf")} and ${os.tmpdir()}`);
}

function home(): string {
  try {
    return os.homedir();
  } catch {
    return os.tmpdir(); // a user without an entry in /etc/passwd, as containers have them
  }
}

/**
 * Fills `folder` once: `fill` writes into a temporary neighbour that is then renamed, so that a reader sees either
 * nothing or everything, also when several processes start at the same time.
 */
export async function fillOnce(folder: string, fill: (temporary: string) => Promise<void>): Promise<string> {
  const exists = () =>
    fs.access(folder).then(
      () => true,
      () => false,
    );
  if (await exists()) return folder;
  await fs.mkdir(path.dirname(folder), { recursive: true });
  const temporary = await fs.mkdtemp(`${folder}.part-`);
  try {
    await fill(temporary);
    await fs.rename(temporary, folder);
  } catch (error) {
    await fs.rm(temporary, { recursive: true, force: true });
    if (!(await exists())) throw error; // else: another process finished first
  }
  return folder;
}
