/** The curves: the present stage's first, alone, the others further down. */
import type { Knobs } from "../protocol.ts";
import type { Recorded } from "../recording.ts";
import { type ChartId, chartSpecs } from "../specs.ts";
import type { View } from "../view.ts";
import { el } from "./dom.ts";
import { Figure } from "./figure.ts";

const ids: readonly ChartId[] = ["rewards", "kl", "accuracy"];

export class Charts {
  readonly first = el("section", { "aria-label": "What happens now", class: "first" });
  readonly others = el("section", { "aria-label": "More curves", class: "grid" });
  private readonly figures = { accuracy: new Figure(), rewards: new Figure(), kl: new Figure() };
  private place: ChartId | null = null;

  draw(view: View, knobs: Knobs, behind: Recorded | null): void {
    this.arrange(chartOf(view));
    const specs = chartSpecs(view, knobs, behind);
    for (const id of ids) this.figures[id].draw(specs[id]);
  }

  /** Moves only when the stage changes, and takes the focus along. */
  private arrange(first: ChartId): void {
    if (first === this.place) return;
    this.place = first;
    const focused = document.activeElement;
    this.first.replaceChildren(this.figures[first].element);
    this.others.replaceChildren(...ids.filter((id) => id !== first).map((id) => this.figures[id].element));
    if (focused instanceof HTMLElement && focused !== document.activeElement) focused.focus({ preventScroll: true });
  }
}

/** The chart that moves in this stage; where no run goes on, the one with the result. */
const chartOf = ({ phase, stage }: View): ChartId =>
  phase !== "idle" && phase !== "done" && (stage === "load" || stage === "reward" || stage === "before")
    ? "accuracy"
    : "rewards";
