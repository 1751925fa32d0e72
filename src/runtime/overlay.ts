/** Files above other files, which stay as they are. */
import { type Files, memoryFiles } from "./files.ts";
import { dirname } from "./paths.ts";

/**
 * Files that read through to a base and write above it, so that each of many runs can begin with the same models and write
 * where it likes. A deleted file or folder of the base is hidden for as long as this object lives.
 * @param base only read
 * @param top where writes go; default: fresh files in memory
 */
export function overlayFiles(base: Files, top: Files = memoryFiles()): Files {
  const hidden = new Set<string>();
  const copying = new Map<string, Promise<void>>();
  const isHidden = (path: string): boolean => hidden.has(path) || (dirname(path) !== path && isHidden(dirname(path)));
  const below = async <T>(path: string, find: () => Promise<T | null>) => (isHidden(plain(path)) ? null : find());
  /** A folder of the base whose files are all hidden one by one is hidden, too. */
  const shows = async (path: string): Promise<boolean> => {
    if (isHidden(plain(path))) return false;
    if (![...hidden].some((name) => name.startsWith(`${plain(path)}/`))) return true;
    for (const name of await base.list(path)) if (await shows(`${path}/${name}`)) return true;
    return false;
  };
  /** What is added to a file of the base is added to a copy of it. */
  const copyUp = async (path: string) => {
    const above = await top.open(path);
    if (above) return above.close();
    const content = await below(path, () => base.read(path));
    if (content) await top.writeFile(path, content);
  };
  return {
    ...(base.served && { served: true }),
    ...(top.sync && { sync: top.sync }),
    ...((top.real ?? base.real) && { real: top.real ?? base.real }),
    ...(top.claim && { claim: top.claim }),
    ...(top.holder && { holder: top.holder }),
    read: async (path) => (await top.read(path)) ?? below(path, () => base.read(path)),
    open: async (path) => (await top.open(path)) ?? below(path, () => base.open(path)),
    writeFile: (path, content) => top.writeFile(path, content),
    writeFiles: (path, files) => top.writeFiles(path, files),
    async writeFolder(path, files) {
      await top.writeFolder(path, files);
      hidden.add(plain(path));
    },
    async append(path, content) {
      const copied = copying.get(path) ?? copyUp(path);
      copying.set(path, copied);
      await copied.finally(() => copying.delete(path));
      await top.append(path, content);
    },
    async list(path) {
      const names = new Set(await top.list(path));
      for (const name of await base.list(path)) if (await shows(`${path}/${name}`)) names.add(name);
      return [...names].sort();
    },
    async remove(path) {
      await top.remove(path);
      hidden.add(plain(path));
    },
  };
}

/** One text for "./a", "a" and "a/". */
const plain = (path: string): string => path.replace(/^(\.\/)+/, "").replace(/(?<=.)\/+$/, "");
