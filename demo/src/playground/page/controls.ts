/** The knobs and buttons. */
import { fitKnob, type NumberKnob, numberSpecs } from "../knobs.ts";
import type { Knobs, Phase } from "../protocol.ts";
import { el, setText } from "./dom.ts";

export interface Actions {
  /** The first button: starts, pauses or resumes, by phase. */
  go(): void;
  step(): void;
  reset(): void;
  /** A knob was turned. */
  change(knobs: Knobs): void;
}

export class Controls {
  readonly buttons: HTMLElement;
  readonly form: HTMLFormElement;
  private readonly go = el("button", { type: "button", class: "primary" }, "Start");
  private readonly step = el("button", { type: "button" }, "Step");
  private readonly reset = el("button", { type: "button" }, "Reset");
  /** Says that the knobs are not yet those of the run. */
  readonly hint = el("p", { class: "hint", role: "status" });
  private readonly numbers = new Map<NumberKnob, HTMLInputElement>();
  private readonly algorithms: HTMLInputElement[];
  private knobs: Knobs;

  constructor(knobs: Knobs, actions: Actions) {
    this.knobs = knobs;
    this.go.addEventListener("click", () => actions.go());
    this.step.addEventListener("click", () => actions.step());
    this.reset.addEventListener("click", () => actions.reset());
    this.buttons = el("div", { class: "buttons", role: "group", "aria-label": "Run" }, this.go, this.step, this.reset);
    const turned = (next: Knobs) => {
      this.show(next);
      actions.change(next);
    };
    this.algorithms = (["ppo", "raft"] as const).map((value) => {
      const input = el("input", { type: "radio", name: "algorithm", value, id: `algorithm-${value}` });
      input.addEventListener("change", () => turned({ ...this.knobs, algorithm: value }));
      return input;
    });
    const choice = el(
      "fieldset",
      {},
      el("legend", {}, "Algorithm"),
      ...this.algorithms.map((input) => el("label", {}, input, ` ${input.value.toUpperCase()}`)),
    );
    const fields = numberSpecs.map((spec) => {
      const id = `knob-${spec.param}`;
      const { min, max, whole, help } = spec;
      const input = el("input", {
        type: "number",
        inputmode: whole ? "numeric" : "decimal",
        id,
        min,
        max,
        step: "any", // any value may be typed; the arrows are set below
        "aria-describedby": `${id}-help`,
      });
      if (whole) input.step = "1";
      input.addEventListener("keydown", (event) => arrow(event, input, spec.step));
      input.addEventListener("change", () => {
        turned({ ...this.knobs, [spec.key]: fitKnob(spec, input.valueAsNumber, this.knobs[spec.key]) });
      });
      this.numbers.set(spec.key, input);
      return el(
        "div",
        { class: "field" },
        el("label", { for: id }, spec.label),
        input,
        el("span", { class: "soft", id: `${id}-help` }, help),
      );
    });
    this.form = el("form", { "aria-label": "Knobs" }, choice, ...fields);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      actions.go();
    });
    this.show(knobs);
  }

  /** Puts values into the inputs. */
  show(knobs: Knobs): void {
    this.knobs = knobs;
    for (const input of this.algorithms) input.checked = input.value === knobs.algorithm;
    for (const [key, input] of this.numbers) {
      const text = String(knobs[key]);
      if (input.value !== text) input.value = text;
    }
    (this.numbers.get("klCoef") as HTMLInputElement).disabled = knobs.algorithm === "raft";
  }

  /** @param stale the knobs differ from those of the run on the page */
  update(phase: Phase, ready: boolean, stale: boolean): void {
    const again = "Start again";
    const label = { idle: "Start", running: "Pause", pausing: "Resume", paused: "Resume", done: again, broken: again }[
      phase
    ];
    setText(this.go, label);
    this.go.disabled = !ready;
    this.step.disabled = !ready;
    this.reset.disabled = !ready;
    setText(this.hint, staleHint(phase, stale));
  }
}

function staleHint(phase: Phase, stale: boolean): string {
  if (!stale) return "";
  if (phase === "done" || phase === "broken") return "The next run will have these values.";
  return "The run goes on with its old values. Reset it to use these.";
}

/** The arrow keys move by the knob's own step, on round values. */
function arrow(event: KeyboardEvent, input: HTMLInputElement, step: number): void {
  const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
  if (!direction || !Number.isFinite(input.valueAsNumber)) return;
  event.preventDefault();
  const moved = (Math.round(input.valueAsNumber / step) + direction) * step;
  const value = Math.min(Number(input.max), Math.max(Number(input.min), Number(moved.toPrecision(6))));
  input.value = String(value);
  input.dispatchEvent(new Event("change"));
}
