/** Carries out the page's commands: one run at a time, held at a gate. */
import { memoryFiles } from "webrlhf";
import { Patience } from "webrlhf/open";
import { Gate } from "./gate.ts";
import { type LessonReply, lesson, type Start } from "./lesson.ts";
import type { Command, Knobs, Phase, Reply, Stage } from "./protocol.ts";

interface Run {
  gate: Gate;
  abort: AbortController;
  ended: Promise<void>;
}

export class Runner {
  private run: Run | null = null;
  private phase: Phase = "idle";
  private stage: Stage = "load";
  private queue: Promise<void> = Promise.resolve();
  private readonly open: () => Promise<Start>;
  private readonly post: (reply: Reply) => void;

  /** @param open fetches the model that runs start from */
  constructor(open: () => Promise<Start>, post: (reply: Reply) => void) {
    this.open = open;
    this.post = post;
  }

  /** Resolves when the command has taken effect. Start and reset wait for each other. */
  handle(command: Command): Promise<void> {
    const gate = this.run?.gate;
    if (command.type === "start" || command.type === "reset") {
      this.run?.abort.abort(); // at once, also while an earlier reset still waits
      gate?.resume();
      this.queue = this.queue.then(() => (command.type === "start" ? this.start(command) : this.reset()));
      return this.queue;
    }
    if (!gate || this.phase === "done") return Promise.resolve();
    if (command.type === "pause") {
      gate.pause();
      if (!gate.waiting) this.say("pausing");
    } else {
      gate[command.type]();
      this.say("running");
    }
    return Promise.resolve();
  }

  private async start({ knobs, mode }: { knobs: Knobs; mode: "run" | "step" }): Promise<void> {
    await this.run?.ended;
    const run: Run = { gate: new Gate(mode), abort: new AbortController(), ended: Promise.resolve() };
    this.run = run;
    this.stage = "load";
    this.say("running");
    run.ended = this.drive(run, knobs);
  }

  private async reset(): Promise<void> {
    await this.run?.ended;
    this.run = null;
    this.stage = "load";
    this.say("idle");
  }

  private async drive({ gate, abort }: Run, knobs: Knobs): Promise<void> {
    const { signal } = abort;
    try {
      for await (const reply of this.surviving(knobs, signal)) {
        if (signal.aborted) continue; // to the lesson's own end, where it frees its models
        if (reply.type === "enter") {
          this.stage = reply.stage;
          this.say(this.phase);
          continue;
        }
        this.post(reply);
        await gate.pass(endsStep(reply), () => this.say("paused"));
      }
      if (!signal.aborted) this.say("done");
    } catch (error) {
      this.post({ type: "error", about: "run", message: error instanceof Error ? error.message : String(error) });
    }
  }

  /** A lesson that goes on from its last state when its device is lost; nothing is told twice. */
  private async *surviving(knobs: Knobs, signal: AbortSignal): AsyncGenerator<LessonReply> {
    const made = memoryFiles();
    const patience = new Patience();
    const told = new Set<string>();
    for (;;) {
      const times: Record<string, number> = {};
      try {
        for await (const reply of lesson(await this.open(), knobs, signal, made)) {
          const key = keyOf(reply);
          times[key] = (times[key] ?? 0) + 1;
          const name = `${key} ${times[key]}`;
          if (reply.type !== "enter" && told.has(name)) continue;
          told.add(name);
          if (reply.type === "event" && reply.event.type === "step") patience.progress();
          yield reply;
        }
        return;
      } catch (error) {
        const what = await patience.renew(error, () => {});
        const message = `The graphics card stopped (${what}). The run goes on from its last state on a new device.`;
        this.post({ type: "renewed", message });
      }
    }
  }

  private say(phase: Phase): void {
    this.phase = phase;
    this.post({ type: "state", phase, stage: this.stage });
  }
}

/** Names a reply among those of a run, up to how often it was said. */
const keyOf = (reply: LessonReply): string => {
  if (reply.type === "enter") return `enter ${reply.stage}`;
  if (reply.type === "samples") return `samples ${reply.when} ${reply.step}`;
  const { stage, event } = reply;
  // A run that goes on starts at another step.
  return `${stage} ${event.type} ${event.type === "start" ? "" : event.step}`;
};

const endsStep = (reply: Reply) => reply.type === "event" && reply.event.type === "step";
