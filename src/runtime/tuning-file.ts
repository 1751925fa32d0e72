/** Where Node keeps which kernels are fastest on an adapter: a file in this user's cache folder, or the one that is named. */
import fs from "node:fs/promises";
import { UserError } from "./errors.ts";
import { diskFiles } from "./files.ts";
import { fileAbout } from "./verdicts.ts";

/**
 * The file of an adapter with its driver; null where no folder is writable. `WEBRLHF_TUNING` names another one, and "off" none.
 * `read` gives null where there is no such file, and throws `UserError` where it is no JSON.
 */
export async function tuningFile(adapter: string, driver: string) {
  const chosen = process.env.WEBRLHF_TUNING;
  if (chosen === "off") return null;
  const file = chosen || (await fileAbout("tuning", [adapter, driver]).catch(() => null));
  if (file === null) return null;
  return {
    where: file,
    async read(): Promise<unknown> {
      const text = await fs.readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
        if (error.code === "ENOENT" && !chosen) return null;
        throw new UserError(`WEBRLHF_TUNING: ${file} cannot be read (${error.code})`);
      });
      if (text === null) return null;
      try {
        return JSON.parse(text);
      } catch {
        throw new UserError(`${file} is not JSON: run \`webrlhf tune\` again`);
      }
    },
    async write(tuning: object): Promise<void> {
      await (await diskFiles()).writeFile(file, `${JSON.stringify(tuning, null, 1)}\n`);
    },
  };
}
