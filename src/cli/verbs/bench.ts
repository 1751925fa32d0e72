/** `webrlhf bench`: how fast webrlhf's own kernels and steps run here. The side-by-side with others lives in bench/. */
import type { Command } from "commander";
import { adapterNote, caps, openDevice } from "../../gpu/device.ts";
import { UserError } from "../../runtime/errors.ts";
import { diskFiles } from "../../runtime/files.ts";
import { writeJson } from "../disk.ts";
import { processTerminal } from "../terminal.ts";
import { profileLines, runSuite } from "./bench/suite.ts";
import { profileStep } from "./bench/training.ts";

interface BenchOptions {
  only?: string;
  quick?: boolean;
  profile?: boolean;
  json?: string;
}

export function registerBench(program: Command): void {
  program
    .command("bench")
    .summary("Time matmul, attention, training steps and decoding on this machine")
    .description("Checks each kernel against a reference, times it, and prints the median of several samples.")
    .option("--only <text>", 'only cases whose name contains this, e.g. "matmul"')
    .option("--quick", "fewer and shorter samples")
    .option("--profile", "instead of all that: where the GPU's time goes in a training step, by kernel")
    .option("--json <file>", "also write every figure to this file")
    .action(async ({ only, quick, profile, json }: BenchOptions) => {
      const terminal = processTerminal();
      await openDevice();
      terminal.line(adapterNote());
      const print = (line: string) => terminal.result(line);
      if (profile && !caps().timestamps) throw new UserError("--profile needs an adapter that can take timestamps");
      const report = profile ? await profileStep(quick ? 5 : 50) : await runSuite({ only, quick, print });
      if (Array.isArray(report)) for (const line of profileLines(report)) print(line);
      if (json !== undefined) await writeJson(await diskFiles(), json, report);
    });
}
