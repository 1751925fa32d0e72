/** `webrlhf doctor`: what this machine offers for training, and what is missing. */
import type { Command } from "commander";
import { tunedCount } from "../../gpu/tuning.ts";
import { parts, size } from "../../open/estimate/fit.ts";
import { type Stage, stages } from "../../open/estimate/plan.ts";
import { estimateWith } from "../../open/estimate.ts";
import { UserError } from "../../runtime/errors.ts";
import { onCommandLine } from "../../settings/index.ts";
import { processTerminal, type Terminal } from "../terminal.ts";
import { examine, type Report } from "./doctor/examine.ts";
import { looseOptions } from "./doctor/loose-options.ts";
import { summaries } from "./summaries.ts";

interface Flags {
  json?: boolean;
  model?: string;
  trainer?: string;
  memory?: string;
  prompt_length?: string;
}

export function registerDoctor(program: Command): void {
  program
    .command("doctor")
    .summary(summaries.doctor)
    .description(
      "Show the runtime, the adapter and its speed, and what is missing. With --model and --trainer: about how much GPU " +
        "memory a training run takes, before any is taken, and what would make it fit; the trainer's own options follow.",
    )
    .option("--json", "One JSON object on stdout, for programs")
    .option("--model <path>", "Model or adapter folder to train")
    .option("--trainer <name>", `One of ${stages.join(", ")}`)
    .option("--memory <GiB>", "GPU memory there is; default: on CPU adapters this machine's")
    .option("--prompt_length <tokens>", "Length of rollouts' prompts", "64")
    .allowUnknownOption()
    .allowExcessArguments()
    .addHelpText(
      "after",
      "\nExamples:\n  webrlhf doctor\n" +
        "  webrlhf doctor --model out/sft --trainer ppo --per_device_train_batch_size 4 --use_peft --memory 8",
    )
    .action(async (flags: Flags, command: Command) => {
      const terminal = processTerminal();
      if (flags.model === undefined && command.args.length > 0) {
        throw new UserError(`unknown option ${command.args[0]}: a trainer's options need --model and --trainer`);
      }
      const report = await examine({ measure: flags.model === undefined });
      const memory =
        flags.model === undefined || !report.ok ? null : await memoryOf(flags, command.args, report, terminal);
      if (flags.json) terminal.result(JSON.stringify({ ...report, ...(memory && { memory }) }, null, 2));
      else {
        for (const line of memory ? memory.lines : describe(report, terminal)) terminal.result(line);
        if (!report.ok) for (const line of describe(report, terminal)) terminal.result(line);
      }
      if (!report.ok) throw new UserError("no WebGPU adapter works here");
    });
}

/** What `batchSize` counts where that is not sequences. */
const counted: Partial<Record<Stage, string>> = {
  ...Object.fromEntries(
    (["reward", "cost", "pairwise", "dpo", "orpo", "cpo", "iterate"] as const).map((s) => [s, "pairs"]),
  ),
  kto: "answers",
};

/** The estimate for a run, in words and numbers. */
async function memoryOf(
  { model, trainer, memory, prompt_length }: Flags,
  words: readonly string[],
  report: Report,
  terminal: Terminal,
) {
  const stage = stages.find((s) => s === trainer);
  if (!stage) throw new UserError(`--trainer must be one of ${stages.join(", ")}, not ${trainer ?? "empty"}`);
  const path = model as string;
  const own = report.adapter?.kind === "cpu" ? report.machine.memoryGiB : null;
  const limit = (memory === undefined ? (own ?? Number.POSITIVE_INFINITY) : numberOf(memory, "memory")) * 2 ** 30;
  const estimate = await estimateWith(stage, path, onCommandLine(looseOptions(words)), {
    say: (line) => terminal.line(line),
    promptLength: numberOf(prompt_length, "prompt_length"),
    memory: limit,
  });
  const { memory: taken, fits, remedy } = estimate;
  const room = memory === undefined ? "this machine's memory" : `${memory} GiB`;
  const what = `${stage} of ${path}, ${estimate.batchSize} ${counted[stage] ?? "sequences"} of ${estimate.length} tokens in a pass`;
  const lines = [
    taken.refused === null ? `${what}: about ${size(taken.total)} (${parts(taken)})` : `${what}: ${taken.refused}`,
  ];
  if (estimate.rewardModels > 0) {
    const as = estimate.shared ? "an adapter on the policy's base" : "as large as the policy";
    lines.push(`A reward model is taken to be ${as}.`);
  }
  if (estimate.download > 0) lines.push(`Not here yet: ${size(estimate.download)} would be downloaded.`);
  if (fits) {
    if (Number.isFinite(limit)) lines.push(`This fits into ${room}.`);
    else
      lines.push("WebGPU does not tell how much memory the GPU has: name it with --memory to learn whether this fits.");
  } else {
    const total = remedy && size(remedy.estimate.total);
    if (remedy) lines.push(`This does not fit into ${room}. It would with: ${remedy.flags} (${total})`);
    else if (taken.refused === null)
      lines.push(`This does not fit into ${room}, whatever the options: use a smaller model or shorter sequences.`);
  }
  const { parameters, trained, download } = estimate;
  return {
    ...taken,
    parameters,
    trained,
    download,
    fits,
    remedy: remedy && { flags: remedy.flags, ...remedy.estimate },
    lines,
  };
}

function numberOf(text: string | undefined, name: string): number {
  const value = Number(text);
  if (text !== undefined && text.trim() !== "" && value > 0) return value;
  throw new UserError(`--${name} must be a number above 0, not ${JSON.stringify(text)}`);
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
  for (const [i, name] of adapters.entries()) lines.push(row(i === 0 ? "Adapters" : "", `${i}  ${name}`));
  if (adapter) {
    const mebibytes = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;
    const { subgroups, subgroupSize, subgroupSizeMax } = adapter;
    const sizes = subgroupSize === subgroupSizeMax ? `${subgroupSize}` : `${subgroupSize} to ${subgroupSizeMax}`;
    lines.push(
      row("In use", `${adapter.name} (${adapter.kind === "cpu" ? "software, on the CPU" : "hardware"})`),
      ...(adapter.driver ? [row("Driver", adapter.driver)] : []),
      row(
        "Kernels",
        `subgroups ${subgroups ? `of ${sizes}` : "no"}, f16 ${yes(adapter.f16)}, immediates ${yes(adapter.immediates)}` +
          (tunedCount() > 0 ? `, ${tunedCount()} tuned products` : ""),
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
