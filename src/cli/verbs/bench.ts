/** `webrlhf bench`: how fast webrlhf's own kernels and steps run here. The side-by-side with others lives in bench/. */
import type { Command } from "commander";
import { adapterNote, openDevice } from "../../gpu/device.ts";
import { diskFiles } from "../../runtime/files.ts";
import { writeJson } from "../disk.ts";
import { processTerminal } from "../terminal.ts";
import { runSuite } from "./bench/suite.ts";

export function registerBench(program: Command): void {
  program
    .command("bench")
    .summary("Time matmul, attention, training steps and decoding on this machine")
    .description("Checks each kernel against a reference, times it, and prints the median of several samples.")
    .option("--only <text>", 'only cases whose name contains this, e.g. "matmul"')
    .option("--quick", "fewer and shorter samples")
    .option("--json <file>", "also write every figure to this file")
    .action(async ({ only, quick, json }: { only?: string; quick?: boolean; json?: string }) => {
      const terminal = processTerminal();
      await openDevice();
      terminal.line(adapterNote());
      const report = await runSuite({ only, quick, print: (line) => terminal.result(line) });
      if (json !== undefined) await writeJson(await diskFiles(), json, report);
    });
}
