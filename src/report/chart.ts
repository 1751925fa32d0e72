/**
 * Line charts as SVG text: data in, string out, no DOM. Series differ by colour, dash and marker together; every chart
 * carries a title and a description in words. Colours come from CSS variables with fallbacks that read on white and on
 * black, text takes the page's colour.
 */
import {
  area,
  line,
  symbol,
  symbolCircle,
  symbolCross,
  symbolDiamond,
  symbolSquare,
  symbolStar,
  symbolTriangle,
} from "d3-shape";
import { linearScale, type Scale, wholeNumbers } from "./scale.ts";
import { escapeXml, showNumber } from "./text.ts";

/** A point of a series; where a number is not finite it is not drawn. */
export type ChartPoint = readonly [x: number, y: number];

/** The lower and upper edge of a band at one place. */
export type ChartBand = readonly [x: number, low: number, high: number];

/** A named line or cloud of points in a chart. */
export interface ChartSeries {
  readonly name: string;
  readonly points: readonly ChartPoint[];
  /**
   * Place in the list of looks, 36 in all; default: the series' place in the chart. Give it to keep a look across charts.
   * Looks that are 6 apart have one colour and differ in dash and marker.
   */
  readonly look?: number;
  /** Overrides the look's own dash: false draws a solid line, true a dashed one. */
  readonly dashed?: boolean;
  /** Thin and pale behind a smoothed line: no marker, not in the legend. */
  readonly faint?: boolean;
  /** Points only, without a line between them. */
  readonly scatter?: boolean;
  /** A pale area behind the line, e.g. where other runs lay; points whose numbers are not all finite are left out. */
  readonly band?: readonly ChartBand[];
  /** An upright bar at each place, e.g. of standard errors; those whose numbers are not all finite are left out. */
  readonly bars?: readonly ChartBand[];
}

/** A line chart: its words, its series, its size. */
export interface ChartSpec {
  /** Unique in the page; letters, digits, hyphens. */
  readonly id: string;
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly series: readonly ChartSeries[];
  /** Horizontal dashed lines with a name, e.g. a ceiling. */
  readonly references?: readonly { readonly name: string; readonly y: number }[];
  /** In words, for those who cannot see it; default: first, best and last value of each series. */
  readonly summary?: string;
  /** In CSS pixels of the view box; the chart scales to its container. Default 640 x 320. */
  readonly width?: number;
  readonly height?: number;
  /** Include zero on the y axis. */
  readonly zero?: boolean;
  /** The y axis shows no more than this: what lies beyond is drawn on its edge, and the chart says so. */
  readonly within?: readonly [low: number, high: number];
}

/** Dark enough for white (4.5:1) by default; `chartStyle` brightens them on dark pages. */
const light = ["#0060a8", "#b34700", "#00724f", "#a3307e", "#4f5b66", "#7a5c00"];
const dark = ["#6cb6ff", "#ff9e5e", "#4fd1a1", "#f08acb", "#b9c4cf", "#e3c34a"];
const dashes = ["", "7 4", "2 3", "10 3 2 3", "5 2", "1 4"];
const markers = [symbolCircle, symbolSquare, symbolTriangle, symbolDiamond, symbolCross, symbolStar];
const markerCount = 16;

/** CSS for the page that holds charts: the colours for light and dark. */
export const chartStyle: string = [
  `:root{${light.map((c, i) => `--chart-${i}:${c}`).join(";")};--chart-halo:#fff}`,
  `@media (prefers-color-scheme:dark){:root{${dark.map((c, i) => `--chart-${i}:${c}`).join(";")};--chart-halo:#14181d}}`,
].join("\n");

/**
 * A look for each name: names that differ only after their last comma ("offline, seed 1" and "offline, seed 2") have one
 * colour, as long as there are enough colours.
 */
export function looksOf(names: readonly string[]): number[] {
  const kinds = names.map((name) => /^(.*),/s.exec(name)?.[1] ?? `${name},`);
  const groups = [...new Set(kinds)];
  if (groups.length > light.length) return names.map((_, i) => i);
  return kinds.map((kind, i) => {
    const before = kinds.slice(0, i).filter((other) => other === kind).length;
    return groups.indexOf(kind) + light.length * before;
  });
}

/** Of a look's dash or marker: the next one whenever the colours begin anew, so that no two looks share all three. */
const partOf = <T>(parts: readonly T[], look: number): T =>
  parts[(look + Math.floor(look / light.length)) % parts.length];

const colour = (look: number) => `var(--chart-${look % light.length},${light[look % light.length]})`;

/** The chart as SVG text, an `<svg>` element to put into a page that has `chartStyle`. */
export function lineChart(spec: ChartSpec): string {
  const { width = 640, height = 320 } = spec;
  const series = spec.series.map((s, i) => ({
    ...s,
    look: s.look ?? i,
    points: s.points.filter((point) => point.every(isDrawable)),
    band: (s.band ?? []).filter((place) => place.every(isDrawable)),
    bars: (s.bars ?? []).filter((place) => place.every(isDrawable)),
  }));
  const named = series.filter((s) => !s.faint);
  const title = wrapped(spec.title, (width - 80) / 7.8); // of a letter in this size
  const below = (title.length - 1) * 18;
  const legend = layOutLegend(named, width, below);
  const edges = { right: width - 16, top: 40 + below + legend.rows * 18, bottom: height - 44 };
  const all = series.flatMap((s) => [
    ...s.points,
    ...[...s.band, ...s.bars].flatMap(([at, ...ends]) => ends.map((y) => [at, y])),
  ]);
  const references = (spec.references ?? []).filter((r) => isDrawable(r.y));
  const ys = [...all.map((p) => p[1]), ...references.map((r) => r.y), ...(spec.zero ? [0] : [])];
  const { within: [least, most] = [-Infinity, Infinity] } = spec;
  const seen = ys.map((value) => Math.min(most, Math.max(least, value)));
  const y = linearScale(padded(extent(seen)), [edges.bottom, edges.top], 5);
  const beyond = ys.some((value, i) => value !== seen[i]);
  // The axis' name stands left of the longest tick label.
  const longest = Math.max(
    ...y
      .ticks(5)
      .map(y.tickFormat(5))
      .map((name) => name.length),
  );
  const box = { ...edges, left: Math.max(56, 30 + longest * 7) };
  const x = linearScale(padded(extent(all.map((p) => p[0]))), [box.left, box.right]);
  const label = `${spec.id}-title`;
  const description = `${spec.id}-desc`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="100%" role="img"`,
    ` aria-labelledby="${label} ${description}" font-family="system-ui,sans-serif" font-size="12" fill="currentColor">`,
    `<title id="${label}">${escapeXml(spec.title)}</title>`,
    `<desc id="${description}">${escapeXml(spec.summary ?? describe(spec))}</desc>`,
    ...title.map(
      (text, i) =>
        `<text x="${box.left}" y="${18 + 18 * i}" font-size="14" font-weight="600">${escapeXml(text)}</text>`,
    ),
    legend.svg,
    axes(spec, x, y, box),
    ...references.map((reference, i) => {
      const close = references.slice(0, i).some((other) => Math.abs(y(other.y) - y(reference.y)) < 16);
      return referenceLine(reference, y, box, close ? "left" : "right");
    }),
    ...series.map((s) => drawBand(s, x, y)),
    ...series.map((s) => drawBars(s, x, y)),
    ...series.filter((s) => s.faint).map((s) => drawSeries(s, x, y)),
    ...named.map((s) => drawSeries(s, x, y)),
    all.length === 0
      ? `<text x="${(box.left + box.right) / 2}" y="${(box.top + box.bottom) / 2}" text-anchor="middle">no data</text>`
      : "",
    beyond
      ? `<text x="${box.right}" y="${box.bottom - 6}" text-anchor="end" font-style="italic">on the edge: beyond ${[
          least,
          most,
        ]
          .filter(Number.isFinite)
          .map((end) => showNumber(end))
          .join(" and ")}</text>`
      : "",
    "</svg>",
  ].join("");
}

/** "reward: 0.1 at step 1, highest 0.9 at step 40, 0.8 at step 60." for each named series. */
export function describe(spec: Pick<ChartSpec, "series" | "xLabel" | "references">): string {
  const sentences = spec.series
    .filter((s) => !s.faint)
    .map(({ name, points }) => {
      const real = points.filter(([, y]) => Number.isFinite(y));
      if (real.length === 0) return `${name}: no data.`;
      const at = ([px, py]: ChartPoint) => `${showNumber(py)} at ${spec.xLabel} ${showNumber(px)}`;
      if (real.length === 1) return `${name}: ${at(real[0])}.`;
      const high = real.reduce((best, point) => (point[1] > best[1] ? point : best));
      const low = real.reduce((best, point) => (point[1] < best[1] ? point : best));
      const turns = [high, low].filter((point) => point !== real[0] && point !== real.at(-1));
      const middle = turns.map((point) => `${point === high ? "highest" : "lowest"} ${at(point)}`);
      return `${name}: from ${[at(real[0]), ...middle].join(", ")} to ${at(real.at(-1)!)}.`;
    });
  for (const reference of spec.references ?? []) sentences.push(`${reference.name}: ${showNumber(reference.y)}.`);
  return sentences.join(" ");
}

interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}
type Drawn = ChartSeries & { readonly look: number };

function axes(spec: ChartSpec, x: Scale, y: Scale, box: Box): string {
  const parts: string[] = [];
  const whole = spec.series.every((s) => s.points.every(([px]) => Number.isInteger(px)));
  const xFormat = whole ? wholeNumbers : x.tickFormat(7);
  const yFormat = y.tickFormat(5);
  for (const tick of y.ticks(5)) {
    const at = round(y(tick));
    parts.push(`<path d="M${box.left} ${at}H${box.right}" stroke="currentColor" stroke-opacity=".15"/>`);
    parts.push(`<text x="${box.left - 6}" y="${at + 4}" text-anchor="end">${escapeXml(yFormat(tick))}</text>`);
  }
  // Between steps there is nothing to see.
  for (const tick of x.ticks(7).filter((tick) => !whole || Number.isInteger(tick))) {
    const at = round(x(tick));
    parts.push(`<path d="M${at} ${box.bottom}v4" stroke="currentColor" stroke-opacity=".6"/>`);
    parts.push(`<text x="${at}" y="${box.bottom + 17}" text-anchor="middle">${escapeXml(xFormat(tick))}</text>`);
  }
  parts.push(`<path d="M${box.left} ${box.bottom}H${box.right}" stroke="currentColor" stroke-opacity=".6"/>`);
  const middle = (box.top + box.bottom) / 2;
  parts.push(
    `<text x="${(box.left + box.right) / 2}" y="${box.bottom + 35}" text-anchor="middle">${escapeXml(spec.xLabel)}</text>`,
  );
  parts.push(
    `<text transform="translate(14 ${middle}) rotate(-90)" text-anchor="middle">${escapeXml(spec.yLabel)}</text>`,
  );
  return parts.join("");
}

/** The name stands at the right end, or at the left one where another line is too close. */
function referenceLine(
  { name, y: value }: { name: string; y: number },
  y: Scale,
  box: Box,
  side: "left" | "right",
): string {
  const at = round(y(value));
  // Below the line when there is no room above it.
  const textAt = at - box.top < 16 ? at + 14 : at - 5;
  return (
    `<path d="M${box.left} ${at}H${box.right}" stroke="currentColor" stroke-dasharray="4 4" stroke-opacity=".7"/>` +
    `<text x="${box[side]}" y="${textAt}" text-anchor="${side === "left" ? "start" : "end"}" font-style="italic">${escapeXml(name)} ${showNumber(value)}</text>`
  );
}

function drawBand({ band, look }: Drawn & { band: readonly ChartBand[] }, x: Scale, y: Scale): string {
  if (band.length < 2) return "";
  const shape = area<ChartBand>()
    .x((p) => round(x(p[0])))
    .y0((p) => round(y(p[1])))
    .y1((p) => round(y(p[2])))(band);
  return `<path d="${shape ?? ""}" fill="${colour(look)}" fill-opacity=".14"/>`;
}

function drawBars({ bars, look }: Drawn & { bars: readonly ChartBand[] }, x: Scale, y: Scale): string {
  if (bars.length === 0) return "";
  const shape = bars.map(([at, low, high]) => `M${round(x(at))} ${round(y(low))}V${round(y(high))}`).join("");
  return `<path d="${shape}" fill="none" stroke="${colour(look)}" stroke-opacity=".6"/>`;
}

function drawSeries(s: Drawn, x: Scale, y: Scale): string {
  const stroke = colour(s.look);
  const path = line<ChartPoint>()
    .x((p) => round(x(p[0])))
    .y((p) => round(y(p[1])))(s.points);
  if (s.faint) return `<path d="${path ?? ""}" fill="none" stroke="${stroke}" stroke-opacity=".3"/>`;
  const dash = dashOf(s);
  const drawn = s.scatter
    ? ""
    : `<path d="${path ?? ""}" fill="none" stroke="${stroke}" stroke-width="2" stroke-linejoin="round"${dash && ` stroke-dasharray="${dash}"`}/>`;
  const shown = s.scatter ? s.points : thin(s.points, markerCount);
  const marks = shown.map(([px, py]) => mark(s.look, round(x(px)), round(y(py)))).join("");
  return drawn + marks;
}

const dashOf = (s: Drawn) => (s.dashed === undefined ? partOf(dashes, s.look) : s.dashed ? "6 4" : "");

function mark(look: number, x: number, y: number): string {
  const shape = symbol(partOf(markers, look), 42)();
  return `<path d="${rounded(shape)}" transform="translate(${x} ${y})" fill="${colour(look)}" stroke="var(--chart-halo,#fff)" stroke-width="1"/>`;
}

/** Lines of at most so many letters, where words allow it. */
function wrapped(text: string, letters: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const longer = lines.length > 0 ? `${lines.at(-1)} ${word}` : word;
    if (lines.length > 0 && longer.length <= letters) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

function layOutLegend(series: readonly Drawn[], width: number, top: number): { svg: string; rows: number } {
  // A single series is named by the axis.
  if (series.length < 2) return { svg: "", rows: 0 };
  const parts: string[] = [];
  let x = 56;
  let row = 0;
  for (const s of series) {
    const space = 44 + s.name.length * 6.6 + 14;
    if (x + space > width && x > 56) {
      x = 56;
      row++;
    }
    const y = 36 + top + row * 18;
    const dash = dashOf(s);
    if (!s.scatter) {
      parts.push(
        `<path d="M${round(x)} ${y}h32" stroke="${colour(s.look)}" stroke-width="2"${dash && ` stroke-dasharray="${dash}"`}/>`,
      );
    }
    parts.push(mark(s.look, round(x + 16), y));
    parts.push(`<text x="${round(x + 38)}" y="${y + 4}">${escapeXml(s.name)}</text>`);
    x += space;
  }
  return { svg: parts.join(""), rows: row + 1 };
}

/** Smallest and largest value; [0, 1] where there is none. */
function extent(values: readonly number[]): [number, number] {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 1];
}

/** Finite, and so far from the largest number that differences are finite, too. */
const isDrawable = (value: number) => Math.abs(value) < 1e150;

/** A flat line still gets an axis, and so does one that is flat but for rounding. */
function padded([low, high]: [number, number]): [number, number] {
  const size = Math.max(Math.abs(low), Math.abs(high));
  if (high - low > size * 1e-9 && high - low > 1e-150) return [low, high];
  const room = size > 1e-150 ? size * 0.1 : 1;
  return [low - room, high + room];
}

/** At most `count` items at equal distances, the first and last among them. */
export function thin<T>(items: readonly T[], count: number): T[] {
  if (items.length <= count) return [...items];
  return Array.from({ length: count }, (_, i) => items[Math.round((i * (items.length - 1)) / (count - 1))]);
}

/** Exponential moving average with the given half-life in points, without the bias of the first ones. */
export function smooth(points: readonly ChartPoint[], halfLife: number): ChartPoint[] {
  const decay = 0.5 ** (1 / Math.max(1e-9, halfLife));
  let sum = 0;
  let weight = 0;
  return points.map(([x, y]) => {
    if (Number.isFinite(y)) {
      sum = sum * decay + y * (1 - decay);
      weight = weight * decay + (1 - decay);
    }
    return [x, weight > 0 ? sum / weight : Number.NaN];
  });
}

const round = (value: number) => Math.round(value * 10) / 10;
const rounded = (path: string | null) =>
  (path ?? "").replace(/-?\d+\.\d+/g, (n) => String(Math.round(Number(n) * 100) / 100));
