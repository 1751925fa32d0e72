import { readFileSync } from "node:fs";
import fs from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { promisify } from "node:util";
import zlib from "node:zlib";
import { cacheFolder, fillOnce } from "./cache.ts";
import { untar } from "./tar.ts";

// One npm package carries everything that a Linux machine without a GPU, drivers or root rights lacks:
// SwiftShader with a Vulkan loader (a WebGPU for Node and Deno) and a headless Chromium with its libraries.
export const EMBEDDED_PACKAGE = "@sparticuz/chromium";

const unbrotli = promisify(zlib.brotliDecompress);

/** Paths of the software Vulkan that comes with the embedded package, unpacked into the user's cache. */
export interface EmbeddedVulkan {
  /** The Vulkan loader, libvulkan.so.1. */
  loader: string;
  /** The manifest that makes the loader use SwiftShader. */
  icd: string;
  /** Folders for LD_LIBRARY_PATH. */
  libraryPath: string;
}

/** Unpacks the software Vulkan once per user; null where the package is not installed or not made for this machine. */
export async function embeddedVulkan(): Promise<EmbeddedVulkan | null> {
  const found = findPackage();
  if (!found) return null;
  const folder = await unpack(found, "vulkan", ["swiftshader", "al2023"]);
  return {
    loader: path.join(folder, "libvulkan.so.1"),
    icd: path.join(folder, "vk_swiftshader_icd.json"),
    libraryPath: `${folder}:${path.join(folder, "lib")}`,
  };
}

/** Unpacks the headless Chromium once per user: its executable and the environment it must be started with. */
export async function embeddedChromium(): Promise<{ executable: string; env: Record<string, string> } | null> {
  const found = findPackage();
  if (!found) return null;
  const folder = await unpack(found, "chromium", ["chromium", "swiftshader", "al2023", "fonts"]);
  return {
    executable: path.join(folder, "chromium"),
    env: {
      LD_LIBRARY_PATH: `${folder}:${path.join(folder, "lib")}`,
      FONTCONFIG_PATH: folder,
    },
  };
}

interface Package {
  bin: string;
  version: string;
}

function findPackage(): Package | null {
  if (process.platform !== "linux" || process.arch !== "x64") return null;
  // Beside this library, else beside the program that runs (a globally installed webrlhf used inside a project).
  for (const from of [import.meta.url, path.join(process.cwd(), "package.json")]) {
    try {
      const root = path.resolve(createRequire(from).resolve(EMBEDDED_PACKAGE), "../../..");
      const { version } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
      return { bin: path.join(root, "bin"), version };
    } catch {}
  }
  return null;
}

async function unpack(from: Package, name: string, archives: string[]): Promise<string> {
  const target = path.join(await cacheFolder(), `${name}-${from.version}`);
  return fillOnce(target, async (folder) => {
    for (const archive of archives) {
      const file = [`${archive}.tar.br`, `${archive}.br`].map((f) => path.join(from.bin, f));
      const packed = await fs.readFile(file[0]).catch(() => null);
      if (!packed) {
        await fs.writeFile(path.join(folder, archive), await unbrotli(await fs.readFile(file[1])), { mode: 0o755 });
        continue;
      }
      for (const entry of untar(await unbrotli(packed))) {
        const out = path.join(folder, entry.name);
        if (!out.startsWith(folder + path.sep)) throw new Error(`${file[0]}: entry ${entry.name} leaves the folder`);
        await fs.mkdir(path.dirname(out), { recursive: true });
        await fs.writeFile(out, entry.data, { mode: entry.mode & 0o777 });
      }
    }
    if (archives.includes("fonts")) await fs.writeFile(path.join(folder, "fonts.conf"), fontSettings(target));
  });
}

// The package's own settings name folders of another system.
const fontSettings = (folder: string) => `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>${folder}/fonts</dir><dir>/usr/share/fonts</dir><cachedir>${folder}/font-cache</cachedir></fontconfig>
`;
