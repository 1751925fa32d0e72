#!/usr/bin/env node
/**
 * Builds the program after `npm install` in a clone, so that `npx webrlhf` works there. Does nothing where there is nothing
 * to build or to build with, where the build is newer than every source, and with WEBRLHF_NO_BUILD=1.
 */
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

const root = path.resolve(import.meta.dirname, "..");
const compiler = path.join(root, "node_modules/typescript/bin/tsc");
const program = path.join(root, "dist/cli/main.js");
const built = fs.statSync(program, { throwIfNoEntry: false })?.mtimeMs ?? 0;
const sources = path.join(root, "src");

const newer = () =>
  fs
    .readdirSync(sources, { recursive: true })
    .some((name) => name.endsWith(".ts") && fs.statSync(path.join(sources, name)).mtimeMs > built);

if (!process.env.WEBRLHF_NO_BUILD && fs.existsSync(sources) && fs.existsSync(compiler) && newer()) {
  const { status } = spawnSync(process.execPath, [compiler, "-p", "tsconfig.build.json"], {
    cwd: root,
    stdio: "inherit",
  });
  // An installation does not fail because somebody is in the middle of a change.
  if (status !== 0) console.error("webrlhf: the build has errors; npm run build shows them");
  else fs.utimesSync(program, new Date(), new Date()); // of an output that has not changed the compiler leaves the time
}
