/**
 * Makes demo/src/playground/recorded.json, the runs that the page shows before one is started, one for each question:
 *   node demo/src/playground/record.mjs [question...]
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
const asked = process.argv.slice(2);
const made = await record(path("../../../models/world-sft"), console.error, asked.length > 0 ? asked : undefined);
// Those that were not asked for stay as they are, in their order.
const before = asked.length > 0 ? JSON.parse(await fs.readFile(path("recorded.json"), "utf8")) : made;
const isSame = (a, b) => JSON.stringify(a.knobs) === JSON.stringify(b.knobs);
const runs = before.map((run) => made.find((other) => isSame(run, other)) ?? run);
await fs.writeFile(path("recorded.json"), `${JSON.stringify(runs)}\n`);
process.exit(0);
