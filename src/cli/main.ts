#!/usr/bin/env node
import { writeSync } from "node:fs";
import { main } from "./program.ts";
import { hungUp } from "./signals.ts";

// A reader that has seen enough (`| head`) ends this program as it ends others: at once and without a word.
for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (hungUp() || (stream === process.stderr && error.code === "EIO")) return; // a run goes on to its checkpoint
    if (error.code === "EPIPE") process.exit(128 + 13);
    if (stream === process.stdout) writeSync(2, `error: cannot write the output: ${error.message}\n`);
    process.exit(1);
  });
}

process.exitCode = await main(process.argv.slice(2));
