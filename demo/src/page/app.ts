/** The page: shows a recorded run until the visitor starts one. */
import { knobsFromHash, knobsToHash, sameKnobs, smaller } from "../knobs.ts";
import type { Knobs, Reply, Report } from "../protocol.ts";
import { type Hire, Session } from "../session.ts";
import { chartSpecs } from "../specs.ts";
import { applyReply, emptyView, progress, type View } from "../view.ts";
import { activity, algorithmName, honestLabel, outcome } from "../words.ts";
import { Announcer } from "./announce.ts";
import { Controls } from "./controls.ts";
import { calm, el, setText } from "./dom.ts";
import { Figure } from "./figure.ts";
import { Samples } from "./samples.ts";
import { Share } from "./share.ts";
import { Strip } from "./strip.ts";
import { background, exhibitList, intro, noWebGpu } from "./texts.ts";

/** A run made earlier, as the worker reported it. */
export interface Recording {
  knobs: Knobs;
  replies: Reply[];
}

const hire: Hire = (hear, broken) => {
  const worker = new Worker(new URL("../worker.ts", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }: MessageEvent<Report>) => hear(data);
  worker.onerror = ({ message }) => broken(message || "it did not load. Load the page again.");
  return worker;
};

export class App {
  private recorded: { view: View; knobs: Knobs } | null = null;
  private timer: ReturnType<typeof setTimeout> | null = null;

  private readonly root: HTMLElement;
  private readonly session: Session;
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
  private readonly share: Share;

  constructor(root: HTMLElement) {
    this.root = root;
    this.session = new Session(knobsFromHash(location.hash), hire, () => this.schedule());
    const { session } = this;
    this.controls = new Controls(session.inputs, {
      go: () => this.act(() => session.go()),
      step: () => this.act(() => session.step()),
      reset: () => this.act(() => session.reset()),
      change: (knobs) => this.act(() => session.turn(knobs)),
    });
    this.share = new Share(session);
    const { buttons, form } = this.controls;
    const small = el("button", { type: "button" }, "Use small values");
    small.addEventListener("click", () => this.act(() => session.turn(smaller(session.inputs))));
    this.slow.append("No GPU here: a step takes many seconds with these values. ", small);
    const machine = el("div", { class: "machine" }, buttons, this.status, this.bar, this.label, this.share.element);
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
    addEventListener("hashchange", () => this.act(() => this.session.turn(knobsFromHash(location.hash))));
    document.addEventListener("visibilitychange", () => this.session.hide(document.hidden));
    if ("gpu" in navigator) this.session.connect();
    else if (!isSecureContext)
      this.session.forgo("The page came over an insecure connection, where browsers hide WebGPU.");
    else this.session.forgo("It has no WebGPU.");
    this.render();
  }

  /** Does what the visitor wants; then the address names what the page shows, and the inputs what was set. */
  private act(what: () => void): void {
    what();
    this.controls.show(this.session.inputs);
    history.replaceState(null, "", knobsToHash(this.session.knobs));
    this.render();
  }

  private schedule(): void {
    this.timer ??= setTimeout(() => this.render(), calm() ? 2000 : 250);
  }

  private render(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const { session } = this;
    const { view, knobs, ready, failure } = session;
    const live = !session.idle || !this.recorded;
    const shown = live ? { view, knobs } : (this.recorded as { view: View; knobs: Knobs });
    this.root.dataset.phase = view.phase;

    if (session.lacking && this.panel.isConnected) this.panel.replaceWith(noWebGpu(session.lacking));
    this.controls.update(view.phase, ready, session.stale);
    this.share.update();
    const doing = session.idle && failure ? "" : activity(view, knobs);
    setText(this.status, session.pausedByHiding ? `${doing} It pauses while this tab is hidden.` : doing);
    setText(this.label, honestLabel(view));
    this.bar.value = progress(view);
    this.alert.hidden = failure === "";
    setText(this.alert, failure);
    const { inputs } = session;
    this.slow.hidden = view.device?.kind !== "cpu" || sameKnobs(inputs, smaller(inputs));

    this.source.hidden = live;
    setText(this.source, live ? "" : sourceOf(shown.view, shown.knobs, ready));
    this.strip.draw(shown.view, shown.knobs);
    const specs = chartSpecs(shown.view, shown.knobs);
    for (const id of ["accuracy", "rewards", "kl"] as const) this.figures[id].draw(specs[id]);
    this.samples.draw(shown.view);
    if (live) this.announcer.say(failure || `${doing} ${view.phase === "done" ? "" : outcome(view)}`);
  }
}

function sourceOf({ device }: View, knobs: Knobs, ready: boolean): string {
  const what = `A recorded run: ${algorithmName(knobs.algorithm)}, ${knobs.steps} steps, seed ${knobs.seed}`;
  return `${what}${device ? `, made on ${device.name}` : ""}.${ready ? " Press Start to train here." : ""}`;
}
