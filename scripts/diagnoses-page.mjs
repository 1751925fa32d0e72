#!/usr/bin/env node
/** Writes docs/diagnoses.md from the diagnoses themselves, which are its only source: node scripts/diagnoses-page.mjs */
import fs from "node:fs";
import path from "node:path";
import { fromSource } from "./source.mjs";

const head = `# Diagnoses

What \`webrlhf watch\` and \`webrlhf report\` say of a run where a known trap shows in its numbers. \`diagnose\` of
\`webrlhf/report\` is the same for programs: a run's lines and settings in, findings out. Nothing is said of what a run did not log.

A mean over "the last fifth" is one over a fifth of the run's steps, and over three at least. Thresholds are where the field's healthy
runs do not come; ten small healthy runs (\`scripts/healthy-runs.mjs\`) are the test that they are silent there. A finding is a reason
to look, not a verdict.

This page is written by \`scripts/diagnoses-page.mjs\`.
`;

await fromSource(async (load) => {
  const { diagnoses } = await load("/src/report/diagnoses/index.ts");
  const parts = diagnoses.map(
    ({ id, title, when, advice }) => `\n## ${id}\n\n**${title}.** ${when}\n\nWhat to do: ${advice}\n`,
  );
  fs.writeFileSync(path.resolve(import.meta.dirname, "../docs/diagnoses.md"), head + parts.join(""));
});
