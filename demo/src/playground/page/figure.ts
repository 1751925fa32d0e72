/** A chart with what it shows in words, and its numbers in a folded table. */
import { type ChartSpec, describe, lineChart, table } from "webrlhf/report";
import { el, setText } from "./dom.ts";

export class Figure {
  readonly element: HTMLElement;
  /** Hidden from screen readers: the figure's name and its caption say once what it shows. */
  private readonly plot = el("div", { class: "plot", "aria-hidden": "true" });
  private readonly words = el("figcaption");
  private readonly data = el("div", { class: "scroll", tabindex: 0, role: "region" });
  private readonly details: HTMLDetailsElement;
  private spec: ChartSpec | null = null;
  private width = 0;

  constructor() {
    this.details = el("details", {}, el("summary", {}, "Show the numbers"), this.data);
    this.details.addEventListener("toggle", () => this.fillTable());
    this.element = el("figure", {}, this.plot, this.words, this.details);
    // The chart is drawn for its real width, so that its text stays readable on a narrow screen.
    new ResizeObserver(() => {
      const width = Math.round(this.plot.clientWidth);
      if (width !== this.width && this.spec) this.draw(this.spec);
    }).observe(this.plot);
  }

  draw(spec: ChartSpec): void {
    this.spec = spec;
    this.width = Math.round(this.plot.clientWidth);
    const width = Math.min(960, Math.max(280, this.width || 640));
    this.plot.innerHTML = lineChart({ ...spec, width, height: width < 420 ? 260 : 300 });
    this.element.setAttribute("aria-label", spec.title);
    const nothing = spec.series.every((s) => s.faint || s.points.length === 0);
    setText(this.words, nothing ? "Nothing measured yet." : describe(spec));
    this.data.setAttribute("aria-label", `Numbers of “${spec.title}”`);
    this.fillTable();
  }

  private fillTable(): void {
    if (!this.details.open || !this.spec) return;
    const { xLabel } = this.spec;
    const series = this.spec.series.filter((s) => !s.faint);
    const rows = series[0].points.map((_, i) => i);
    this.data.innerHTML = table(
      [
        { title: xLabel, value: (i: number) => series[0].points[i][0], digits: 5 },
        ...series.map((s) => ({ title: s.name, value: (i: number) => s.points[i]?.[1] ?? null })),
      ],
      rows,
    );
  }
}
