/** Answers that are good or bad by themselves. */
import { mustBe } from "./readers.ts";
import type { DataRecord, Labelled } from "./records.ts";

/** The answers of a record with their labels: of a pair the chosen one is good and the rejected one bad. */
export function labelledRecords(record: DataRecord): Labelled[] {
  if (record.kind === "labelled") return [record];
  const { prompt, chosen, rejected, rendered, where, row } = mustBe(record, "preference");
  const side = (completion: string, label: boolean): Labelled => ({
    kind: "labelled",
    prompt,
    completion,
    label,
    ...(rendered && { rendered }),
    ...(where !== undefined && { where }),
    ...(row && { row }),
  });
  return [side(chosen, true), side(rejected, false)];
}
