/** The page: shows a recorded run until the visitor starts one. */
import { knobsFromHash, knobsToHash, sameKnobs, smallKnobs } from "../knobs.ts";
import type { Command, Knobs, Reply } from "../protocol.ts";
import { chartSpecs } from "../specs.ts";
import { applyReply, emptyView, progress, type View } from "../view.ts";
import { activity, algorithmName, honestLabel, outcome } from "../words.ts";
import { Announcer } from "./announce.ts";
import { Controls } from "./controls.ts";
import { calm, el, setText } from "./dom.ts";
import { Figure } from "./figure.ts";
import { Samples } from "./samples.ts";
import { Strip } from "./strip.ts";
import { background, exhibitList, intro, noWebGpu } from "./texts.ts";

/** A run made earlier, as the worker reported it. */
export interface Recording {
  knobs: Knobs;
  replies: Reply[];
}

export class App {
  private view = emptyView();
  private recorded: { view: View; knobs: Knobs } | null = null;
  private worker: Worker | null = null;
  /** The knobs on the page, and those of the run. */
  private knobs: Knobs;
  private runKnobs: Knobs;
  private failure = "";
  private pausedByHiding = false;
  /** Resets that the worker has not confirmed; until then it speaks of the dropped run. */
  private resets = 0;
  private timer: ReturnType<typeof setTimeout> | null = null;

  private readonly root: HTMLElement;
  private readonly controls: Controls;
  private readonly panel: HTMLElement;
  private readonly status = el("p", { class: "status" });
  private readonly label = el("p", { class: "soft" });
  private readonly bar = el("progress", { max: 1, value: 0, "aria-label": "Progress of the run" });
  private readonly alert = el("p", { class: "notice", role: "alert", hidden: true });
  private readonly slow = el("p", { class: "notice", hidden: true });
  private readonly source = el("p", { class: "source", hidden: true });
  private readonly live = el("p", { class: "hidden", "aria-live": "polite" });
  private readonly announcer = new Announcer((text) => setText(this.live, text));
  private readonly strip = new Strip();
  private readonly figures = { accuracy: new Figure(), rewards: new Figure(), kl: new Figure() };
  private readonly samples = new Samples();

  constructor(root: HTMLElement) {
    this.root = root;
    this.knobs = knobsFromHash(location.hash);
    this.runKnobs = this.knobs;
    this.controls = new Controls(this.knobs, {
      go: () => this.go(),
      step: () => this.step(),
      reset: () => this.reset(),
      change: (knobs) => this.turn(knobs),
    });
    const { buttons, form } = this.controls;
    const small = el("button", { type: "button" }, "Use small values");
    small.addEventListener("click", () => this.turn({ ...smallKnobs, algorithm: this.knobs.algorithm }, true));
    this.slow.append("No GPU here: a step takes many seconds with these values. ", small);
    const machine = el("div", { class: "machine" }, buttons, this.status, this.bar, this.label);
    this.panel = el("section", { class: "panel", "aria-label": "Training" }, machine, this.slow, form);
    const { rewards, kl, accuracy } = this.figures;
    const charts = el("div", { class: "grid" }, rewards.element, kl.element, accuracy.element);
    root.append(
      intro(),
      this.alert,
      this.panel,
      this.source,
      el("section", { "aria-label": "Stages" }, this.strip.element),
      el("section", { "aria-label": "Curves" }, charts),
      el(
        "section",
        { "aria-labelledby": "samples" },
        el("h2", { id: "samples" }, "The same prompts, before and after"),
        this.samples.element,
      ),
      exhibitList(),
      background(),
      this.live,
    );
  }

  start(recording: Recording | null): void {
    if (recording) {
      this.recorded = { view: emptyView(), knobs: recording.knobs };
      for (const reply of recording.replies) applyReply(this.recorded.view, reply);
    }
    addEventListener("hashchange", () => this.turn(knobsFromHash(location.hash), true));
    document.addEventListener("visibilitychange", () => this.visibility());
    if ("gpu" in navigator) this.hire();
    else if (!isSecureContext)
      this.withoutWebGpu("The page came over an insecure connection, where browsers hide WebGPU.");
    else this.withoutWebGpu("It has no WebGPU.");
    this.render();
  }

  /** Starts a worker; it opens the device and says so. */
  private hire(): void {
    this.worker?.terminate();
    this.resets = 0;
    this.worker = new Worker(new URL("../worker.ts", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }: MessageEvent<Reply>) => this.hear(data);
    this.worker.onerror = (event) =>
      this.fail(`The training program broke off: ${event.message || "it did not load"}.`);
  }

  private tell(command: Command): void {
    this.worker?.postMessage(command);
  }

  private hear(reply: Reply): void {
    if (reply.type === "error") {
      if (reply.about === "webgpu") this.withoutWebGpu(reply.message);
      else this.fail(`The run broke off: ${reply.message}`);
    } else if (reply.type === "renewed") {
      this.failure = reply.message;
    } else {
      if (this.resets === 0 || reply.type === "ready") applyReply(this.view, reply);
      else if (reply.type === "state" && reply.phase === "idle") this.resets--;
    }
    this.schedule();
  }

  private fail(message: string): void {
    this.failure = message;
    this.view = { ...this.view, phase: "done" };
    this.hire(); // a device that failed is of no further use
    this.schedule();
  }

  private withoutWebGpu(reason: string): void {
    this.worker?.terminate();
    this.worker = null;
    this.panel.replaceWith(noWebGpu(reason));
    this.schedule();
  }

  private begin(mode: "run" | "step"): void {
    this.failure = "";
    this.runKnobs = this.knobs;
    this.view = { ...emptyView(this.view.device), phase: "running" };
    this.tell({ type: "start", knobs: this.knobs, mode });
    this.render();
  }

  private go(): void {
    const { phase } = this.view;
    this.pausedByHiding = false;
    if (phase === "idle" || phase === "done") this.begin("run");
    else this.tell({ type: phase === "running" ? "pause" : "resume" });
  }

  private step(): void {
    const { phase } = this.view;
    if (phase === "idle" || phase === "done") this.begin("step");
    else this.tell({ type: "step" });
  }

  private reset(): void {
    this.failure = "";
    this.runKnobs = this.knobs;
    this.view = emptyView(this.view.device);
    this.resets++;
    this.tell({ type: "reset" });
    this.render();
  }

  /** @param show also put the values into the inputs */
  private turn(knobs: Knobs, show = false): void {
    this.knobs = knobs;
    if (show) this.controls.show(knobs);
    history.replaceState(null, "", knobsToHash(knobs));
    if (this.view.phase === "idle") this.runKnobs = knobs;
    this.render();
  }

  /** A hidden tab does not train: nobody watches, and the machine may be on battery. */
  private visibility(): void {
    if (document.hidden && this.view.phase === "running") {
      this.pausedByHiding = true;
      this.tell({ type: "pause" });
    } else if (!document.hidden && this.pausedByHiding) {
      this.pausedByHiding = false;
      this.tell({ type: "resume" });
    }
  }

  private schedule(): void {
    this.timer ??= setTimeout(() => this.render(), calm() ? 2000 : 250);
  }

  private render(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const { view, runKnobs } = this;
    const live = view.phase !== "idle" || !this.recorded;
    const shown = live ? { view, knobs: runKnobs } : (this.recorded as { view: View; knobs: Knobs });
    this.root.dataset.phase = view.phase;

    const ready = view.device !== null && this.worker !== null;
    this.controls.update(view.phase, ready, view.phase !== "idle" && !sameKnobs(this.knobs, runKnobs));
    const doing = activity(view, runKnobs);
    setText(this.status, this.pausedByHiding ? `${doing} It pauses while this tab is hidden.` : doing);
    setText(this.label, honestLabel(view));
    this.bar.value = progress(view);
    this.alert.hidden = this.failure === "";
    setText(this.alert, this.failure);
    this.slow.hidden = view.device?.kind !== "cpu" || this.knobs.rolloutSize <= smallKnobs.rolloutSize;

    this.source.hidden = live;
    setText(this.source, live ? "" : sourceOf(shown.view, shown.knobs, ready));
    this.strip.draw(shown.view, shown.knobs);
    const specs = chartSpecs(shown.view, shown.knobs);
    for (const id of ["accuracy", "rewards", "kl"] as const) this.figures[id].draw(specs[id]);
    this.samples.draw(shown.view);
    if (live) this.announcer.say(this.failure || `${doing} ${view.phase === "done" ? "" : outcome(view)}`);
  }
}

function sourceOf({ device }: View, knobs: Knobs, ready: boolean): string {
  const what = `A recorded run: ${algorithmName(knobs.algorithm)}, ${knobs.steps} steps, seed ${knobs.seed}`;
  return `${what}${device ? `, made on ${device.name}` : ""}.${ready ? " Press Start to train here." : ""}`;
}
