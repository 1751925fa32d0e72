/** Charts, tables and reports of runs, as SVG and HTML texts. */

export { lineOf, linesOf, type Row, type RunLines } from "../rlhf/run-lines.ts";
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
export { type Metrics, synonyms } from "./data.ts";
export type { Diagnosis, Evidence, Finding, SeenResponse } from "./diagnoses/evidence.ts";
export { diagnose, diagnoses } from "./diagnoses/index.ts";
export { RECORDING, readRun, recordFolder } from "./record-runs.ts";
export {
  metricsOf,
  RECORDING_FORMAT,
  type RecordedMetrics,
  type RecordedRun,
  type RecordedSample,
  type Recording,
  type RunTables,
  readRecording,
  recordingLimits,
  recordingOf,
  recordingText,
  sampleOf,
} from "./recording.ts";
export { figure, type TableColumn, table } from "./table.ts";
export { escapeXml, showNumber } from "./text.ts";
