/**
 * Runs lessons over seeds, the right way and with the wrong knob, and tells how often each check holds:
 *   node demo/measure.mjs [--seeds 10] [--from 1] [--size S] [--write] [slug...]
 * With --write the table goes to docs/results/lessons/<slug>.md.
 */
import fs from "node:fs/promises";
import { parseArgs } from "node:util";
import { withLessons } from "./node.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seeds: { type: "string", default: "10" },
    from: { type: "string", default: "1" },
    size: { type: "string", default: "S" },
    write: { type: "boolean", default: false },
  },
});
const folder = new URL("../docs/results/lessons/", import.meta.url);
await withLessons(async ({ slugs, measured }) => {
  for (const slug of positionals.length > 0 ? positionals : slugs) {
    const seeds = Array.from({ length: Number(values.seeds) }, (_, i) => Number(values.from) + i);
    const table = await measured(slug, values.size, seeds, (line) => console.error(`${slug}: ${line}`));
    console.log(table);
    if (!values.write) continue;
    await fs.mkdir(folder, { recursive: true });
    await fs.writeFile(new URL(`${slug}.md`, folder), table);
  }
});
process.exit(0);
