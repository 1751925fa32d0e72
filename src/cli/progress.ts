import { type Quantity, synonyms } from "../report/data.ts";
import { clock } from "../report/text.ts";
import type { DataSummary, TrainEvent } from "../rlhf/events.ts";
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

/** Steps whose speed counts for what is still to come. */
const WINDOW = 20;

/** A plain line each `every` steps; on a terminal one that is redrawn below them, too. */
export class Progress {
  readonly #terminal: Terminal;
  readonly #label: string;
  readonly #every: number;
  readonly #now: () => number;
  #started = 0;
  /** The last steps' own seconds and tokens, but the first step's: it alone compiles shaders. */
  #timed: { seconds: number; tokens: number }[] = [];
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
        const from = event.step > 0 ? `, going on after step ${event.step}` : "";
        this.print(`${parametersOf(event)}, ${event.maxSteps} steps${from}`);
        if (event.step < event.maxSteps) this.print(this.#terminal.style("dim", "compiling shaders ..."));
        return;
      }
      case "step": {
        const first = this.#last === null;
        this.#last = event;
        if (!first) this.#timed = [...this.#timed, event].slice(-WINDOW);
        if (first || event.step % this.#every === 0 || event.step >= event.maxSteps) this.print(this.#plain(event));
        else if (this.#terminal.tty) this.#draw(event);
        return;
      }
      case "eval":
        this.print(`eval at step ${event.step}: ${pairs(event.metrics)}`);
        return;
      case "data":
        for (const line of dataLines(event)) this.print(line);
        return;
      case "change":
        this.print(`from step ${event.step} on ${event.setting} is ${event.to}; it was ${event.from}`);
        return;
      case "note":
        this.print(event.text);
        return;
      case "warning":
        this.print(`${this.#terminal.style("yellow", "warning")} at step ${event.step}: ${event.text}`);
        return;
      case "end":
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

  /** Of the kernels that the first step waits for, so many are compiled. */
  compiling(done: number, begun: number): void {
    if (this.#terminal.tty && done < begun) this.#show(`compiling shaders: ${done} of ${begun}`);
  }

  /** Takes the redrawn line away. */
  clear(): void {
    if (this.#lineOpen) this.#terminal.write(this.#terminal.erase);
    this.#lineOpen = false;
  }

  /** Steps and tokens per second, and the seconds left, once a step beside the first has been timed. */
  #speed({ step, maxSteps }: TrainEvent & { type: "step" }): string | null {
    if (this.#timed.length === 0) return null;
    const seconds = Math.max(1e-9, sum(this.#timed.map((t) => t.seconds)));
    const perSecond = this.#timed.length / seconds;
    const tokens = sum(this.#timed.map((t) => t.tokens)) / seconds;
    const rate = perSecond >= 1 ? `${short(perSecond)} steps/s` : `${short(1 / perSecond)} s/step`;
    const left = step < maxSteps ? [`eta ${clock((maxSteps - step) / perSecond)}`] : [];
    return [rate, ...(tokens > 0 ? [`${short(tokens)} tokens/s`] : []), ...left].join("  ");
  }

  #plain(event: TrainEvent & { type: "step" }): string {
    const { step, maxSteps, seconds } = event;
    const speed = this.#speed(event) ?? `${short(seconds)} s`;
    const took = step >= maxSteps ? `  ${clock(this.#now() - this.#started)}` : "";
    return `step ${step}/${maxSteps}  ${headline(event.metrics)}  ${speed}${took}`;
  }

  #draw(event: TrainEvent & { type: "step" }): void {
    const now = this.#now();
    // Ten redraws a second are enough for eyes, and cost nothing beside the steps.
    if (this.#lineOpen && now - this.#drawn < 0.1 && event.step < event.maxSteps) return;
    this.#drawn = now;
    const done = Math.min(1, event.step / Math.max(1, event.maxSteps));
    const cells = Math.round(done * 12);
    this.#show(`${"█".repeat(cells)}${"░".repeat(12 - cells)} ${this.#plain(event)}`);
  }

  #show(words: string): void {
    const text = `${this.#label} ${words}`.slice(0, Math.max(20, this.#terminal.columns - 1));
    this.#terminal.write(`${this.#terminal.erase}${text}`);
    this.#lineOpen = true;
  }
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

/** What became of the rows of a part of the data, and how long its examples are. */
export function dataLines({ part, rows, used, dropped, truncated, limit, lengths }: DataSummary & { part: string }) {
  const n = (count: number) => count.toLocaleString("en");
  const left = Object.entries(dropped).map(([reason, count]) => `${reason} (${n(count)})`);
  const first = [
    `${part === "train" ? "data" : "held-out data"}: ${n(rows)} rows, ${n(used)} examples`,
    ...(left.length > 0 ? [`left out: ${left.join(", ")}`] : []),
    ...(truncated > 0 ? [`${n(truncated)} cut at ${limit} tokens`] : []),
  ].join("; ");
  if (!lengths) return [first];
  const { min, median, p95, max, bars } = lengths;
  const most = Math.max(...bars);
  const drawn = bars.map((bar) => (bar === 0 ? " " : "▁▂▃▄▅▆▇█"[Math.ceil((8 * bar) / most) - 1])).join("");
  return [first, `tokens: min ${min}  median ${median}  p95 ${p95}  max ${max}  |${drawn}|`];
}

/** How many parameters are trained, and of how many. */
function parametersOf({ parameters, totalParameters = parameters }: TrainEvent & { type: "start" }): string {
  const [trained, all] = [parameters, totalParameters].map((n) => n.toLocaleString("en"));
  return totalParameters === parameters ? `${all} parameters` : `${trained} of ${all} parameters trained`;
}

/** All metrics in a line. */
export function pairs(metrics: Record<string, number>): string {
  return Object.entries(metrics)
    .map(([name, value]) => `${name.replace(/^eval_/, "")} ${short(value)}`)
    .join("  ");
}
