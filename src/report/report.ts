import { comparedRuns, runTable } from "./compare.ts";
import type { ReportData } from "./data.ts";
import { page } from "./page.ts";
import { runSection } from "./runs.ts";
import { cards, comparison, header, overoptimisation, samples } from "./sections.ts";

/** A self-contained HTML page: no script, no outside resource; all text from the data is escaped. */
export function buildReport(data: ReportData): string {
  const body = [
    header(data),
    cards(data),
    comparison(data),
    overoptimisation(data),
    samples(data),
    runTable(data),
    ...comparedRuns(data),
    ...data.runs.map((run) => runSection(run, data)),
  ];
  return page(data.title, body.filter((part) => part !== "").join("\n"));
}
