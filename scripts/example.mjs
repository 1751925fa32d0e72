#!/usr/bin/env node
/** Runs a program of examples/ in Node, from the source: `npm run example grad-101`. */
import fs from "node:fs";
import path from "node:path";
import { fromSource } from "./source.mjs";

const root = path.resolve(import.meta.dirname, "..");
const names = fs
  .readdirSync(path.join(root, "examples"))
  .filter((file) => file.endsWith(".ts") && !file.startsWith("vite."))
  .map((file) => file.slice(0, -".ts".length));
const name = process.argv[2];
if (!names.includes(name)) {
  console.error(`which example? npm run example NAME, with one of ${names.join(", ")}`);
  process.exit(1);
}
await fromSource(async (load) => (await load(`/${name}.ts`)).main(), {
  configFile: path.join(root, "examples", "vite.config.ts"),
});
process.exit(0); // the device would keep the process
