/**
 * Makes demo/src/playground/recorded.json, the runs that the page shows before one is started, one for each question:
 *   node demo/src/playground/record.mjs [model folder]
 * The same program as in the page's worker, on this machine's adapter.
 */
import fs from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { createServer } from "vite";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const own = [
  { find: /^webrlhf$/, replacement: path("../../../src/index.ts") },
  { find: /^webrlhf\/(\w+)$/, replacement: path("../../../src/$1/index.ts") },
];
const options = {
  configFile: false,
  root: path("../../.."),
  logLevel: "warn",
  optimizeDeps: { noDiscovery: true },
  resolve: { alias: own },
};
const server = await createServer({ ...options, server: { middlewareMode: true, hmr: false, ws: false, watch: null } });
const { record } = await server.ssrLoadModule("/demo/src/playground/record.ts");
const runs = await record(process.argv[2] ?? path("../../../models/world-sft"), console.error);
await fs.writeFile(path("recorded.json"), `${JSON.stringify(runs)}\n`);
process.exit(0);
