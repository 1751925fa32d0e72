/** The program: every verb put together, and what happens when one fails. */
import { Command, CommanderError, Option as Flag } from "commander";
import { isUserError, UserError } from "../runtime/errors.ts";
import { systemError } from "../runtime/system-errors.ts";
import { VERSION } from "../runtime/version.ts";
import { commandOf, normaliseFlags } from "./flags.ts";
import { helpLayout } from "./help.ts";
import { interruptible, stopListening, stoppedCode } from "./signals.ts";
import { processTerminal, type Terminal } from "./terminal.ts";
import { defineVerb, Interrupted } from "./verb.ts";
import { loadVerb, optionOwners, registerVerb, verbGroups } from "./verbs/index.ts";
import { summaries } from "./verbs/summaries.ts";

/**
 * The program, with the verb that the words call for; for lists, every verb's name and summary.
 * @param words as `normaliseFlags` leaves them
 */
async function makeProgram(words: readonly string[], terminal: Terminal): Promise<Command> {
  const program = new Command("webrlhf")
    .description("Train language models from human preferences on WebGPU.")
    .version(VERSION)
    .option("--debug", "Show stack traces")
    .addOption(new Flag("--plugin <module>", "Load a module of your own first, which registers what it brings"))
    .configureOutput({ writeOut: (text) => terminal.result(text.trimEnd()), writeErr: (text) => terminal.write(text) })
    .configureHelp(helpLayout(process.stdout.columns))
    .addHelpText(
      "after",
      "\nStart here:\n  webrlhf run quickstart     a whole RLHF run on the built-in world, with a report",
    );
  if (words[0] === "--version") return program;
  const asked = words[0] === "help" ? words[1] : words[0];
  const found = asked !== undefined && (await addCommand(program, asked, terminal));
  if (found && asked === words[0]) return program;
  for (const [title, group] of Object.entries(found ? {} : verbGroups())) {
    program.commandsGroup(`${title}:`);
    for (const [name, { summary }] of Object.entries(group)) program.command(name).summary(summary);
  }
  program.commandsGroup("Recipes, this machine, help:").helpCommand("help [verb]", "Show a verb's options");
  if (!found) for (const name of ["run", "doctor"] as const) program.command(name).summary(summaries[name]);
  return program;
}

/** Loads a command and adds it; false for a name that is none. */
async function addCommand(program: Command, name: string, terminal: Terminal): Promise<boolean> {
  if (name === "run") {
    (await import("./verbs/run.ts")).registerRun(program, (label) => interruptible(terminal, label));
    return true;
  }
  if (name === "doctor") {
    (await import("./verbs/doctor.ts")).registerDoctor(program);
    return true;
  }
  const verb = await loadVerb(name);
  if (!verb) return false;
  const context = () => interruptible(terminal, verb.name, verb.interruptNote, verb.endsAtOnce);
  const command = commandOf(verb, context, optionOwners);
  program.addCommand(command.copyInheritedSettings(program).allowExcessArguments());
  return true;
}

/** Takes `--plugin <module>` out of the words, wherever it stands; it may come several times. */
function takePlugins(argv: readonly string[]): { plugins: string[]; words: string[] } {
  const plugins: string[] = [];
  const words: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const cut = argv[i].startsWith("--plugin=");
    if (!cut && argv[i] !== "--plugin") words.push(argv[i]);
    else {
      const path = cut ? argv[i].slice("--plugin=".length) : argv[++i];
      if (!path) throw new UserError("--plugin needs the path of a module: --plugin ./mine.ts");
      plugins.push(path);
    }
  }
  return { plugins, words };
}

/** One clear line, or the stack for those who asked. */
function explain(error: unknown, debug: boolean): string {
  if (debug && error instanceof Error) return error.stack ?? error.message;
  const message = error instanceof Error ? error.message : String(error);
  if (isUserError(error)) return message;
  const system = systemError(error);
  if (system) return system.message;
  return `${message}\nThis looks like a defect of webrlhf; --debug shows where it happened.`;
}

/** Runs the program on the given words; resolves to the exit code. */
export async function main(argv: readonly string[], terminal: Terminal = processTerminal()): Promise<number> {
  const debug = argv.includes("--debug");
  try {
    const { plugins, words: given } = takePlugins(argv.filter((word) => word !== "--debug"));
    if (plugins.length > 0) {
      await (await import("../open/plugins.ts")).loadPlugins(plugins, { defineVerb, registerVerb });
    }
    const words = normaliseFlags(given);
    const program = (await makeProgram(words, terminal)).exitOverride();
    for (const command of program.commands) command.exitOverride();
    await program.parseAsync(words, { from: "user" });
    return 0;
  } catch (error) {
    // Commander has printed its own message already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 1;
    if (error instanceof Interrupted) {
      terminal.line(error.message);
      return stoppedCode();
    }
    if ((error as Error).name === "AbortError") {
      terminal.line("stopped"); // while something was loaded
      return stoppedCode();
    }
    terminal.line(`${terminal.style("red", "error:")} ${explain(error, debug)}`);
    return 1;
  } finally {
    stopListening();
  }
}
