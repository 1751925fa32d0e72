import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

/** The Deno executable inside npm's platform package (the `deno` package itself wants an install script), or null. */
export function denoExecutable() {
  const file = process.platform === "win32" ? "deno.exe" : "deno";
  const require = createRequire(import.meta.url);
  const from = createRequire(require.resolve("deno/package.json"));
  for (const suffix of ["-glibc", ""]) {
    try {
      const folder = path.dirname(from.resolve(`@deno/${process.platform}-${process.arch}${suffix}/package.json`));
      if (existsSync(path.join(folder, file))) return path.join(folder, file);
    } catch {}
  }
  return null;
}
