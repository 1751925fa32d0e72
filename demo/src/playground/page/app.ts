/** The page: shows a recorded run until the visitor starts one. */

import { Announcer } from "../../lib/announce.ts";
import { exhibitOf } from "../exhibits.ts";
import { knobsFromHash, knobsToHash, sameKnobs, smaller } from "../knobs.ts";
import type { Knobs, Report } from "../protocol.ts";
import { opened, type Recorded, type Recording, recordingFor } from "../recording.ts";
import { type Hire, Session } from "../session.ts";
import { progress } from "../view.ts";
import { activity, algorithmName, honestLabel, outcome } from "../words.ts";
import { Charts } from "./charts.ts";
import { Controls } from "./controls.ts";
import { calm, el, setText } from "./dom.ts";
import { Question } from "./question.ts";
import { Samples } from "./samples.ts";
import { Share } from "./share.ts";
import { Strip } from "./strip.ts";
import { background, intro, noWebGpu } from "./texts.ts";

const hire: Hire = (hear, broken) => {
  const worker = new Worker(new URL("../worker.ts", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }: MessageEvent<Report>) => hear(data);
  worker.onerror = ({ message }) => broken(message || "it did not load. Load the page again.");
  return worker;
};

export class App {
  private recordings: Recorded[] = [];
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
  private readonly question = new Question((knobs) => this.act(() => this.session.turn(knobs)));
  private readonly values: HTMLElement;
  private readonly charts = new Charts();
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
    const { buttons, form, hint } = this.controls;
    const small = el("button", { type: "button" }, "Use small values");
    small.addEventListener("click", () => this.act(() => session.turn(smaller(session.inputs))));
    this.slow.append("No GPU here: a step takes many seconds with these values. ", small);
    const machine = el("div", { class: "machine" }, buttons, this.status, this.bar, hint, this.label);
    this.panel = el("section", { class: "panel", "aria-label": "Training" }, machine, this.slow);
    this.values = el("section", { class: "panel", "aria-label": "Values" }, form, this.share.element);
    root.append(
      intro(),
      this.question.heading,
      this.alert,
      this.panel,
      this.charts.first,
      this.source,
      this.values,
      el("section", { "aria-label": "Stages" }, this.strip.element),
      this.charts.others,
      el(
        "section",
        { "aria-labelledby": "samples" },
        el("h2", { id: "samples" }, "The same prompts, before and after"),
        this.samples.element,
      ),
      this.question.list,
      background(),
      this.live,
    );
  }

  /** @param recordings runs made earlier: each answers a question until the visitor starts a run, and stands behind it then */
  start(recordings: readonly Recording[]): void {
    this.recordings = recordings.map(opened);
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
    this.render();
    const hash = knobsToHash(this.session.knobs);
    if (hash !== location.hash) history.replaceState(null, "", hash); // browsers allow only so many in a minute
  }

  private schedule(): void {
    this.timer ??= setTimeout(() => this.render(), calm() ? 2000 : 250);
  }

  private render(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const { session } = this;
    const { view, knobs, ready, failure } = session;
    const behind = recordingFor(knobs, this.recordings);
    const live = !session.idle || !behind;
    const shown = live ? { view, knobs } : behind;
    this.root.dataset.phase = view.phase;

    if (session.lacking && this.panel.isConnected) {
      this.panel.replaceWith(noWebGpu(session.lacking));
      this.values.remove();
    }
    this.controls.update(view.phase, ready, session.stale);
    this.share.update();
    const doing = session.idle && failure ? "" : activity(view, knobs);
    setText(this.status, session.pausedByHiding ? `${doing} It pauses while this tab is hidden.` : doing);
    setText(this.label, honestLabel(view));
    this.bar.value = progress(view);
    this.alert.hidden = failure === "";
    setText(this.alert, failure);
    const { inputs } = session;
    const busy = view.phase === "running" || view.phase === "pausing" || view.phase === "paused"; // too late for advice
    this.slow.hidden = busy || view.device?.kind !== "cpu" || sameKnobs(inputs, smaller(inputs));

    this.question.draw(inputs);
    this.source.hidden = !behind;
    setText(this.source, behind ? sourceOf(behind, knobs, live, ready) : "");
    this.strip.draw(shown.view, shown.knobs);
    this.charts.draw(shown.view, shown.knobs, behind);
    this.samples.draw(shown.view);
    if (live) this.announcer.say(failure || `${doing} ${view.phase === "done" ? "" : outcome(view)}`);
  }
}

/** Which run was recorded, and what of it is seen. */
function sourceOf({ view, knobs, others }: Recorded, asked: Knobs, live: boolean, ready: boolean): string {
  const exhibit = exhibitOf(knobs);
  const run = `${algorithmName(knobs.algorithm)}, ${knobs.steps} steps, seed ${knobs.seed}`;
  const where = view.device ? `, made on ${view.device.name}` : "";
  const which = `recorded run of “${exhibit?.name ?? "values of its own"}”: ${run}${where}.`;
  const parts = [`${live ? "Pale lines: a" : "A"} ${which}`];
  if (exhibitOf(asked) !== exhibit) parts.push("These values themselves were not recorded.");
  if (others.length > 0) parts.push(`Pale areas: where ${others.length + 1} recorded seeds lay.`);
  if (!live && ready) parts.push("Press Start to train here.");
  return parts.join(" ");
}
