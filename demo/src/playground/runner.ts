/** Carries out the page's commands: one run at a time, held at a gate. */
import { memoryFiles } from "webrlhf";
import { Patience } from "webrlhf/open";
import type { Start } from "../lib/lesson/types.ts";
import { Gate } from "./gate.ts";
import { type LessonReply, lesson } from "./lesson.ts";
import type { Knobs, Order, Phase, Reply, Report, Stage } from "./protocol.ts";

interface Run {
  readonly number: number;
  readonly knobs: Knobs;
  readonly gate: Gate;
  readonly abort: AbortController;
  phase: Phase;
  stage: Stage;
}

export class Runner {
  /** The run commanded last, which may have to wait until an earlier one has ended. */
  private run: Run | null = null;
  /** When every run commanded so far has ended and freed its memory. */
  private ended: Promise<void> = Promise.resolve();
  private readonly open: () => Promise<Start>;
  private readonly post: (report: Report) => void;

  /** @param open fetches the model that runs start from */
  constructor(open: () => Promise<Start>, post: (report: Report) => void) {
    this.open = open;
    this.post = post;
  }

  /** Resolves when the command has taken effect. Starts and resets wait for the runs before them. */
  handle({ run: number, command }: Order): Promise<void> {
    const { run, ended } = this;
    if (command.type === "start" || command.type === "reset") {
      run?.abort.abort(); // at once, also where it has not begun
      run?.gate.resume();
      if (command.type === "reset") {
        this.run = null;
        return ended.then(() => this.post({ run: number, reply: { type: "state", phase: "idle", stage: "load" } }));
      }
      const { knobs, mode } = command;
      const next: Run = {
        number,
        knobs,
        gate: new Gate(mode),
        abort: new AbortController(),
        phase: "running",
        stage: "load",
      };
      this.run = next;
      this.ended = ended.then(() => this.drive(next));
      return ended;
    }
    if (run?.number !== number || run.phase === "done" || run.phase === "broken") return Promise.resolve();
    if (command.type === "pause") {
      run.gate.pause();
      if (!run.gate.waiting) this.say(run, "pausing");
    } else {
      run.gate[command.type]();
      this.say(run, "running");
    }
    return Promise.resolve();
  }

  private async drive(run: Run): Promise<void> {
    const { number, gate } = run;
    const { signal } = run.abort;
    if (signal.aborted) return; // dropped before it began
    this.say(run, run.phase);
    try {
      for await (const reply of this.surviving(run)) {
        if (signal.aborted) continue; // to the lesson's own end, where it frees its models
        if (reply.type === "enter") {
          run.stage = reply.stage;
          this.say(run, run.phase);
          continue;
        }
        this.post({ run: number, reply });
        await gate.pass(endsStep(reply), () => this.say(run, "paused"));
      }
      if (!signal.aborted) this.say(run, "done");
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      run.phase = "broken";
      this.post({ run: number, reply: { type: "error", about: "run", message } });
    }
  }

  /** A lesson that goes on from its last state when its device is lost; nothing is told twice. */
  private async *surviving({ number, knobs, abort: { signal } }: Run): AsyncGenerator<LessonReply> {
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
        if (signal.aborted) return;
        const message = `The graphics card stopped (${what}). The run goes on from its last state on a new device.`;
        this.post({ run: number, reply: { type: "renewed", message } });
      }
    }
  }

  private say(run: Run, phase: Phase): void {
    run.phase = phase;
    this.post({ run: run.number, reply: { type: "state", phase, stage: run.stage } });
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
