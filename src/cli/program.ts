/** The program: every verb put together, and what happens when one fails. */
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { isUserError } from "../runtime/errors.ts";
import { commandOf, normaliseFlags } from "./command.ts";
import { helpLayout } from "./help.ts";
import { processTerminal, type Terminal } from "./terminal.ts";
import { type Context, Interrupted } from "./verb.ts";
import { registerDoctor } from "./verbs/doctor.ts";
import { verbGroups, verbs } from "./verbs/index.ts";
import { registerRun } from "./verbs/run.ts";

const CHECKPOINT_NOTE = "\nstopping after a checkpoint; Ctrl-C again stops at once";

/** The first Ctrl-C asks for a clean end, the second one gets a rough one. */
function interruptible(terminal: Terminal, label: string, note: string | null = CHECKPOINT_NOTE): Context {
  const controller = new AbortController();
  process.on("SIGINT", () => {
    if (controller.signal.aborted) process.exit(130);
    if (note !== null) terminal.line(note);
    controller.abort();
  });
  return { terminal, signal: controller.signal, label, resume: false };
}

function makeProgram(terminal: Terminal): Command {
  const context = (label: string) => interruptible(terminal, label);
  const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
    version: string;
  };
  const program = new Command("webrlhf")
    .description("Train language models from human preferences on WebGPU.")
    .version(version)
    .option("--debug", "Show stack traces")
    .configureOutput({ writeOut: (text) => terminal.result(text.trimEnd()), writeErr: (text) => terminal.write(text) })
    .configureHelp(helpLayout(process.stdout.columns))
    .addHelpText(
      "after",
      "\nStart here:\n  webrlhf run quickstart     a whole RLHF run on the built-in world, with a report",
    );
  for (const [title, group] of Object.entries(verbGroups)) {
    program.commandsGroup(`${title}:`);
    for (const verb of group) {
      const command = commandOf(verb, () => interruptible(terminal, verb.name, verb.interruptNote));
      program.addCommand(command.copyInheritedSettings(program));
    }
  }
  program.commandsGroup("Recipes, this machine, help:").helpCommand("help [verb]", "Show a verb's options");
  registerRun(program, verbs, context);
  registerDoctor(program);
  return program;
}

/** One clear line, or the stack for those who asked. */
function explain(error: unknown, debug: boolean): string {
  if (debug && error instanceof Error) return error.stack ?? error.message;
  const message = error instanceof Error ? error.message : String(error);
  if (isUserError(error)) return message;
  return `${message}\nThis looks like a defect of webrlhf; --debug shows where it happened.`;
}

/** Runs the program on the given words; resolves to the exit code. */
export async function main(argv: readonly string[], terminal: Terminal = processTerminal()): Promise<number> {
  const debug = argv.includes("--debug");
  const words = normaliseFlags(argv.filter((word) => word !== "--debug"));
  const program = makeProgram(terminal).exitOverride();
  for (const command of program.commands) command.exitOverride();
  try {
    await program.parseAsync(words, { from: "user" });
    return 0;
  } catch (error) {
    // Commander has printed its own message already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 1;
    if (error instanceof Interrupted) {
      terminal.line(error.message);
      return 130;
    }
    terminal.line(`${terminal.style("red", "error:")} ${explain(error, debug)}`);
    return 1;
  }
}
