/**
 * Makes what lesson 4 carries for pages without a GPU: the pairs to label, and features of their stories.
 *   node demo/labeller.mjs
 */
import fs from "node:fs/promises";
import { withModule } from "./node.mjs";

await withModule("/demo/src/lessons/labeller/features.ts", async ({ deckFiles }) => {
  for (const [name, content] of Object.entries(await deckFiles())) {
    const text = `${JSON.stringify(content)}\n`;
    await fs.writeFile(new URL(`src/lessons/labeller/${name}`, import.meta.url), text);
    console.error(`${name}: ${(text.length / 1000).toFixed(0)} kB`);
  }
});
process.exit(0);
