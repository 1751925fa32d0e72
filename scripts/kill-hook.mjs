/**
 * Preloaded into a program by scripts/kill-everywhere.mjs: counts what the program does to files, and ends it at one of these
 * operations: before it, half-way through it, or after it.
 *
 *   KILL_AT=17 KILL_WHEN=before|half|after KILL_SIGNAL=SIGKILL KILL_LOSE=1 KILL_COUNT=file
 *
 * With KILL_LOSE what was written to files but not brought to the disk is cut off, as when the power goes. KILL_COUNT names a
 * file that gets the number of operations when the program ends by itself.
 */
import { createRequire, syncBuiltinESMExports } from "node:module";

const require = createRequire(import.meta.url);
const fs = require("node:fs");
const promises = require("node:fs/promises");
const at = Number(process.env.KILL_AT ?? 0);
const when = process.env.KILL_WHEN ?? "before";
const signal = process.env.KILL_SIGNAL ?? "SIGKILL";
const lose = process.env.KILL_LOSE === "1";
const root = process.env.KILL_ROOT ?? "";
let count = 0;

/** Bytes of each file that are on the disk, of those that got more since. */
const synced = new Map();
const sizeOf = (path) => {
  try {
    return fs.statSync(path).size;
  } catch {
    return 0;
  }
};
const touched = (path) => {
  if (lose && !synced.has(path)) synced.set(path, sizeOf(path));
};

function end() {
  if (lose) {
    for (const [path, size] of synced) {
      const now = sizeOf(path);
      if (now > size) fs.truncateSync(path, size + Math.floor((now - size) / 2)); // a part of it came to the disk
    }
  }
  process.kill(process.pid, signal);
}

const isOurs = (path) => root === "" || String(path).startsWith(root);

/**
 * Runs an operation with the kill before, in or after it. `half` does a part of it, and gives what does the rest, for a signal
 * that the program outlives: no write is done twice.
 */
async function counted(path, run, half) {
  if (!isOurs(path)) return run();
  count += 1;
  const mine = count === at;
  if (mine && when === "before") end();
  if (mine && when === "half") {
    const rest = await half?.();
    end();
    if (rest) return rest();
  }
  const result = await run();
  if (mine && when === "after") end();
  return result;
}

/** Does one half of some data, and gives what does the other. */
const halves = (data, write) => async () => {
  const middle = Math.floor(data.length / 2);
  await write(data.slice(0, middle));
  return () => write(data.slice(middle));
};

const { open, rename, rm, mkdir, appendFile, link, unlink, writeFile, rmdir } = promises;
Object.assign(promises, {
  rename: (from, to) =>
    counted(to, async () => {
      await rename(from, to);
      for (const [path, size] of [...synced]) {
        if (path !== from && !path.startsWith(`${from}/`)) continue;
        synced.delete(path);
        synced.set(to + path.slice(from.length), size);
      }
    }),
  // Of a folder half is deleted.
  rm: (path, options) =>
    counted(
      path,
      () => rm(path, options),
      async () => {
        const names = fs.existsSync(path) && fs.statSync(path).isDirectory() ? fs.readdirSync(path) : [];
        for (const name of names.slice(0, names.length / 2)) await rm(`${path}/${name}`, { recursive: true });
      },
    ),
  mkdir: (path, options) => counted(path, () => mkdir(path, options)),
  rmdir: (path) => counted(path, () => rmdir(path)),
  unlink: (path) => counted(path, () => unlink(path)),
  link: (from, to) => counted(to, () => link(from, to)),
  writeFile: (path, data, options) => {
    touched(path);
    const text = String(data);
    return counted(
      path,
      () => writeFile(path, data, options),
      async () => {
        await writeFile(path, text.slice(0, text.length / 2), options);
        return () => appendFile(path, text.slice(text.length / 2));
      },
    );
  },
  appendFile: (path, data, options) => {
    touched(path);
    return counted(
      path,
      () => appendFile(path, data, options),
      halves(String(data), (part) => appendFile(path, part, options)),
    );
  },
  async open(path, flags, ...rest) {
    const handle = await open(path, flags, ...rest);
    if (!/[wa+]/.test(String(flags ?? "r"))) return handle;
    touched(path);
    const { writeFile: write, sync } = handle;
    handle.writeFile = (data, ...more) =>
      counted(
        path,
        () => write.call(handle, data, ...more),
        halves(data, (part) => write.call(handle, part, ...more)),
      );
    handle.sync = () =>
      counted(path, async () => {
        await sync.call(handle);
        synced.set(path, sizeOf(path));
      });
    return handle;
  },
});
syncBuiltinESMExports();

if (process.env.KILL_COUNT) process.on("exit", () => fs.writeFileSync(process.env.KILL_COUNT, String(count)));
