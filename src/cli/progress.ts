import { type Quantity, synonyms } from "../report/data.ts";
import { clock } from "../report/text.ts";
import type { TrainEvent } from "../rlhf/events.ts";
import type { Terminal } from "./terminal.ts";

/** The metrics worth a place in a line of 80 characters, most telling first; a trainer has the ones it has. */
const headlines: readonly (readonly [short: string, quantity: Quantity])[] = [
  ["reward", "reward"],
  ["gold", "gold"],
  ["kl", "kl"],
  ["loss", "loss"],
  ["value", "valueLoss"],
  ["acc", "accuracy"],
  ["margin", "margin"],
  ["len", "length"],
  ["lr", "learningRate"],
];

/** At most four significant digits: 0.01234, 12.3, 1.2e-5. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(1).replace("e+", "e");
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 3);
}

export function headline(metrics: Record<string, number>, limit = 5): string {
  const parts: string[] = [];
  for (const [label, quantity] of headlines) {
    const name = synonyms[quantity].find((n) => metrics[n] !== undefined);
    if (name !== undefined && parts.length < limit) parts.push(`${label} ${short(metrics[name])}`);
  }
  return parts.join("  ");
}

/** One redrawn line on a terminal, one plain line each `every` steps where the output is a file or a pipe. */
export class Progress {
  readonly #terminal: Terminal;
  readonly #label: string;
  readonly #every: number;
  readonly #now: () => number;
  #started = 0;
  #firstStep = 0;
  /** When the first step was done: it alone compiles shaders, so it says nothing about the others' speed. */
  #warm: { step: number; at: number } | null = null;
  #drawn = 0;
  #lineOpen = false;
  #last: (TrainEvent & { type: "step" }) | null = null;

  constructor(terminal: Terminal, label: string, every: number, now: () => number = () => performance.now() / 1000) {
    this.#terminal = terminal;
    this.#label = label;
    this.#every = Math.max(1, every);
    this.#now = now;
  }

  add(event: TrainEvent): void {
    switch (event.type) {
      case "start": {
        this.#started = this.#now();
        this.#firstStep = event.step;
        const from = event.step > 0 ? `, going on after step ${event.step}` : "";
        this.print(`${event.parameters.toLocaleString("en")} parameters, ${event.maxSteps} steps${from}`);
        return;
      }
      case "step": {
        const first = this.#last === null;
        this.#last = event;
        this.#warm ??= { step: event.step, at: this.#now() };
        if (this.#terminal.tty) this.#draw(event);
        else if (first || event.step % this.#every === 0 || event.step >= event.maxSteps)
          this.print(this.#plain(event));
        return;
      }
      case "eval":
        this.print(`eval at step ${event.step}: ${pairs(event.metrics)}`);
        return;
      case "note":
        this.print(event.text);
        return;
      case "warning":
        this.print(`${this.#terminal.style("yellow", "warning")} at step ${event.step}: ${event.text}`);
        return;
      case "end":
        if (this.#last && this.#terminal.tty) this.print(this.#plain(this.#last));
        this.clear();
        this.print(`done in ${clock(this.#now() - this.#started)}`);
        return;
      default:
        return;
    }
  }

  /** A line of its own, above the redrawn one. */
  print(text: string): void {
    this.clear();
    this.#terminal.line(`${this.#terminal.style("cyan", this.#label)}: ${text}`);
  }

  /** Takes the redrawn line away. */
  clear(): void {
    if (this.#lineOpen) this.#terminal.write(this.#terminal.erase);
    this.#lineOpen = false;
  }

  /** Steps per second, and the seconds left once more than the first step has been timed. */
  #rate(event: TrainEvent & { type: "step" }): { perSecond: number; left: number | null } {
    const warm = this.#warm !== null && event.step > this.#warm.step ? this.#warm : null;
    const since = warm ?? { step: this.#firstStep, at: this.#started };
    const perSecond = (event.step - since.step) / Math.max(1e-9, this.#now() - since.at);
    return { perSecond, left: warm && (event.maxSteps - event.step) / perSecond };
  }

  #plain(event: TrainEvent & { type: "step" }): string {
    const { perSecond, left } = this.#rate(event);
    const speed = perSecond >= 1 ? `${short(perSecond)} steps/s` : `${short(1 / perSecond)} s/step`;
    const eta =
      event.step >= event.maxSteps
        ? `  ${clock(this.#now() - this.#started)}`
        : left === null
          ? ""
          : `  eta ${clock(left)}`;
    return `step ${event.step}/${event.maxSteps}  ${headline(event.metrics)}  ${speed}${eta}`;
  }

  #draw(event: TrainEvent & { type: "step" }): void {
    const now = this.#now();
    // Ten redraws a second are enough for eyes, and cost nothing beside the steps.
    if (this.#lineOpen && now - this.#drawn < 0.1 && event.step < event.maxSteps) return;
    this.#drawn = now;
    const done = Math.min(1, event.step / Math.max(1, event.maxSteps));
    const cells = Math.round(done * 12);
    const text = `${this.#label} ${"█".repeat(cells)}${"░".repeat(12 - cells)} ${this.#plain(event)}`;
    this.#terminal.write(`${this.#terminal.erase}${text.slice(0, Math.max(20, this.#terminal.columns - 1))}`);
    this.#lineOpen = true;
  }
}

/** All metrics in a line. */
export function pairs(metrics: Record<string, number>): string {
  return Object.entries(metrics)
    .map(([name, value]) => `${name.replace(/^eval_/, "")} ${short(value)}`)
    .join("  ");
}
