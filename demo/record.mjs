/**
 * Makes the recorded runs of lessons, demo/src/lessons/<slug>/recordings.json, and with the slug "playground" those of the
 * playground, demo/src/playground/recordings.json:
 *   node demo/record.mjs [slug...]
 */
import fs from "node:fs/promises";
import { withLessons } from "./node.mjs";

await withLessons(async ({ slugs, folderOf, recorded }) => {
  const asked = process.argv.slice(2);
  for (const slug of asked.length > 0 ? asked : slugs) {
    const runs = await recorded(slug, (line) => console.error(`${slug}: ${line}`));
    const text = `${JSON.stringify(runs)}\n`;
    await fs.writeFile(new URL(`src/${folderOf(slug)}/recordings.json`, import.meta.url), text);
    console.error(`${slug}: ${runs.length} runs, ${(text.length / 1000).toFixed(0)} kB`);
  }
});
process.exit(0);
