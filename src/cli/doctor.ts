/** `webrlhf doctor`: what this machine offers for training, and what is missing. */
import type { Command } from "commander";
import { UserError } from "../runtime/errors.ts";
import { examine, type Report } from "./doctor/examine.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

export function registerDoctor(program: Command): void {
  program
    .command("doctor")
    .summary("Show the runtime, the adapter and its speed, and what is missing")
    .description("Show the runtime, the adapter and its speed, and what is missing.")
    .option("--json", "One JSON object on stdout, for programs")
    .action(async ({ json }: { json?: boolean }) => {
      const terminal = processTerminal();
      const report = await examine();
      if (json) terminal.result(JSON.stringify(report, null, 2));
      else for (const line of describe(report, terminal)) terminal.result(line);
      if (!report.ok) throw new UserError("no WebGPU adapter works here");
    });
}

function describe({ machine, packages, adapters, adapter, matmul, advice }: Report, { style }: Terminal): string[] {
  const row = (name: string, value: string) => `${style("bold", name.padEnd(12))}${value}`;
  const lines = [
    row("Runtime", `${machine.runtime} on ${machine.platform}`),
    row("Machine", `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB`),
    row("GPUs seen", machine.gpus.join(", ") || "none"),
    row(
      "Packages",
      Object.entries(packages)
        .map(([name, version]) => `${name} ${version ?? "not installed"}`)
        .join(", "),
    ),
  ];
  for (const [i, name] of adapters.entries()) lines.push(row(i === 0 ? "Adapters" : "", name));
  if (adapter) {
    const mebibytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;
    const { subgroups, subgroupSize, subgroupSizeMax } = adapter;
    const sizes = subgroupSize === subgroupSizeMax ? `${subgroupSize}` : `${subgroupSize} to ${subgroupSizeMax}`;
    lines.push(
      row("In use", `${adapter.name} (${adapter.kind === "cpu" ? "software, on the CPU" : "hardware"})`),
      row(
        "Kernels",
        `subgroups ${subgroups ? `of ${sizes}` : "no"}, f16 ${yes(adapter.f16)}, immediates ${yes(adapter.immediates)}`,
      ),
      row(
        "Limits",
        `buffer ${mebibytes(adapter.maxBuffer)}, binding ${mebibytes(adapter.maxBinding)}, ` +
          `${adapter.maxInvocations} invocations, ${adapter.maxWorkgroupStorage / 1024} KiB workgroup memory`,
      ),
      row("Features", adapter.features.join(" ")),
      row("WGSL", adapter.languageFeatures.join(" ")),
    );
  }
  if (matmul) lines.push(row("Speed", `${matmul.gflops.toFixed(1)} GFLOP/s (f32 matrix product, ${matmul.size}³)`));
  for (const [i, text] of advice.entries()) lines.push(row(i === 0 ? "Advice" : "", text));
  return lines;
}

const yes = (value: boolean) => (value ? "yes" : "no");
