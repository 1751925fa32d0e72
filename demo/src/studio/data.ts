/** Reads a visitor's rows: what stands in them, and in which line something is wrong. */
import { readEntries, textsOf } from "webrlhf/data";
import type { DataFile, DataSummary } from "./protocol.ts";

/** Rows that are shown. */
const SHOWN = 3;
const MOST_SKIPPED = 5;

/** @throws UserError naming the file and line that is wrong */
export async function summary({ name, bytes }: DataFile, signal: AbortSignal): Promise<DataSummary> {
  const found: DataSummary = { name, records: 0, kinds: {}, skipped: [], first: [] };
  const source = { name, stream: () => new Blob([bytes as Uint8Array<ArrayBuffer>]).stream() };
  const onSkip = (where: string, reason: string) => {
    if (found.skipped.length < MOST_SKIPPED) found.skipped.push({ where, reason });
  };
  for await (const { record } of readEntries([source], { onSkip })) {
    signal.throwIfAborted();
    found.records += 1;
    found.kinds[record.kind] = (found.kinds[record.kind] ?? 0) + 1;
    if (found.first.length >= SHOWN) continue;
    const texts = textsOf(record);
    found.first.push({
      prompt: texts.prompt ?? "",
      chosen: texts.chosen ?? texts.completion ?? texts.text ?? "",
      rejected: texts.rejected ?? "",
    });
  }
  return found;
}
