/** Runs lessons outside of the page, with the very programs that its worker runs, on this machine's adapter. */
import { fileURLToPath } from "node:url";
import { fromSource } from "../scripts/source.mjs";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const alias = [
  { find: /^webrlhf$/, replacement: path("../src/index.ts") },
  { find: /^webrlhf\/(\w+)$/, replacement: path("../src/$1/index.ts") },
];

/** Gives `work` what a module of the repository exports. */
export const withModule = (module, work) =>
  fromSource(async (load) => work(await load(module)), {
    root: path(".."),
    configFile: false,
    resolve: { alias },
  });

/** Gives `work` what demo/src/lib/lesson/in-node.ts exports. */
export const withLessons = (work) => withModule("/demo/src/lib/lesson/in-node.ts", work);
