/** Runs TypeScript modules in Node as they stand, without a build. */
import path from "node:path";
import { createServer } from "vite";

const root = path.resolve(import.meta.dirname, "..");

/**
 * Gives `work` a loader of modules by their paths below the root: `load("/src/index.ts")`.
 * @param config of Vite besides; default: none
 */
export async function fromSource(work, config = { root, configFile: false }) {
  const vite = await createServer({
    ...config,
    server: { middlewareMode: true, ws: false, watch: null },
    logLevel: "error",
    appType: "custom",
    optimizeDeps: { noDiscovery: true },
  });
  try {
    return await work((module) => vite.ssrLoadModule(module));
  } finally {
    await vite.close();
  }
}
