/** Charts, tables and reports of runs, as SVG and HTML texts. */
export { type ChartSpec, chartStyle, describe, lineChart, type Point, type Series, smooth, thin } from "./chart.ts";
export { type Column, figure, table } from "./table.ts";
export { escapeXml, showNumber } from "./text.ts";
