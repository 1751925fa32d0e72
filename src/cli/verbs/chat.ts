import { createInterface, type Interface } from "node:readline";
import { printable } from "../../runtime/printable.ts";
import { contextLength, openTextModel } from "../../serve/open.ts";
import { chatSettings } from "../generation-settings.ts";
import { openGpu } from "../gpu.ts";
import { samplingParams, stopStrings } from "../sampling.ts";
import { surroundings } from "../surroundings.ts";
import type { Terminal } from "../terminal.ts";
import { defineVerb } from "../verb.ts";
import { CHAT_HELP, ChatSession, parseCommand } from "./chat-session.ts";
import { summaries } from "./summaries.ts";

export const chatVerb = defineVerb({
  name: "chat",
  summary: summaries.chat,
  settings: chatSettings,
  examples: [
    "webrlhf chat --model_name_or_path out/ppo --temperature 0.7",
    'echo "Tell me a story" | webrlhf chat --model_name_or_path out/ppo',
  ],
  interruptNote: null,
  async run(o, context) {
    const { terminal, signal } = context;
    await openGpu(terminal);
    const { model, close } = await openTextModel(
      o.modelNameOrPath as string,
      { ...o, ...surroundings(context) },
      (most) => ({
        slots: 1,
        capacity: contextLength(most, o.maxModelLen),
      }),
    );
    try {
      const session = new ChatSession(model, samplingParams(o), stopStrings(o.stopStrings), o.system);
      await converse(session, terminal, signal);
    } finally {
      await close();
    }
  },
});

/** Reads lines until the input ends; each is a turn or a command. */
async function converse(session: ChatSession, terminal: Terminal, signal: AbortSignal): Promise<void> {
  const interactive = process.stdin.isTTY === true;
  const lines = createInterface({ input: process.stdin, ...(interactive && { output: process.stderr }), prompt: "> " });
  if (interactive) terminal.line(terminal.style("dim", "/help lists commands; Ctrl-C stops an answer, twice leaves"));
  const stopper = new Stopper(lines, terminal, signal);
  if (interactive) lines.prompt();
  for await (const line of lines) {
    const command = parseCommand(line);
    stopper.calm();
    if (command.kind === "exit") break;
    if (command.kind === "help") terminal.line(CHAT_HELP);
    else if (command.kind === "unknown") terminal.line(`there is no /${command.name}; /help lists what there is`);
    else if (command.kind === "reset") session.reset();
    else if (command.kind === "system") session.reset(command.text || null);
    else if (command.kind === "say") {
      await answer(session, command.text, stopper.begin(), terminal);
      stopper.end();
    }
    if (stopper.left) break;
    if (interactive) lines.prompt();
  }
  lines.close();
}

async function answer(session: ChatSession, text: string, signal: AbortSignal, terminal: Terminal): Promise<void> {
  const forgot = (turns: number) => terminal.line(terminal.style("dim", `(the first ${turns} messages are forgotten)`));
  try {
    for await (const part of session.say(text, signal, forgot)) {
      // A reader that is slower than the model is waited for.
      if (!process.stdout.write(printable(part))) await new Promise((resolve) => process.stdout.once("drain", resolve));
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  process.stdout.write("\n");
}

/** Ctrl-C: the first one stops the answer, one more without an answer under way leaves. */
class Stopper {
  left = false;
  private current: AbortController | null = null;
  private warned = false;
  private readonly lines: Interface;
  private readonly terminal: Terminal;

  constructor(lines: Interface, terminal: Terminal, signal: AbortSignal) {
    this.lines = lines;
    this.terminal = terminal;
    lines.on("SIGINT", () => this.pressed());
    signal.addEventListener("abort", () => this.leave()); // where the input is no terminal
  }

  /** An answer begins; the signal fires when it is to stop. */
  begin(): AbortSignal {
    this.current = new AbortController();
    return this.current.signal;
  }

  end(): void {
    this.current = null;
  }

  /** Another line has come. */
  calm(): void {
    this.warned = false;
  }

  private pressed(): void {
    if (this.current && !this.current.signal.aborted) {
      this.current.abort();
      this.current = null;
      this.warned = true;
    } else if (this.warned) this.leave();
    else {
      this.warned = true;
      this.terminal.line("\n(Ctrl-C again leaves)");
      this.lines.prompt();
    }
  }

  private leave(): void {
    this.left = true;
    this.current?.abort();
    this.lines.close();
  }
}
