/** Charts, tables and reports of runs, as SVG and HTML texts. */
export {
  type ChartBand,
  type ChartPoint,
  type ChartSeries,
  type ChartSpec,
  chartStyle,
  describe,
  lineChart,
  smooth,
  thin,
} from "./chart.ts";
export { figure, type TableColumn, table } from "./table.ts";
export { escapeXml, showNumber } from "./text.ts";
