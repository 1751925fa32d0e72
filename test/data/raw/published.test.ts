/**
 * Published files, where they are at hand: WEBRLHF_DATA names a folder with some of the files below.
 * Counts are those of the datasets' own pages.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadSamples } from "webrlhf/data";

const folder = process.env.WEBRLHF_DATA;
const published = [
  { name: "hh-rlhf/harmless-base/test", file: "hh-rlhf-harmless-base-test.jsonl.gz", rows: 2312, dropped: 0 },
  { name: "hh-rlhf/helpful-base/test", file: "hh-rlhf-helpful-base-test.jsonl.gz", rows: 2354 },
  { name: "alpaca", file: "alpaca_data.json", rows: 52002, dropped: 0 },
];

describe("published files", () => {
  for (const { name, file, rows, dropped } of published) {
    const path = folder && join(folder, file);
    const there = path !== undefined && existsSync(path);
    it.skipIf(!there)(
      `${name} has ${rows} rows${there ? "" : ` (not checked: no ${file} in WEBRLHF_DATA)`}`,
      async () => {
        let skipped = 0;
        const samples = await loadSamples(name, { path: path as string, onSkip: () => void skipped++ });
        expect(samples.length + skipped).toBe(rows);
        if (dropped !== undefined) expect(skipped).toBe(dropped);
        for (const { input, answer, other_answer: other } of samples) {
          expect([input].flat().length % 2).toBe(1);
          expect(typeof answer).toBe("string");
          expect(answer).not.toBe(other);
        }
      },
    );
  }
});
