/** What docs/results/site.md says, part by part. */
import path from "node:path";
import { Results } from "./results.mjs";

export const VISITS = "A visitor's way";
export const HELD = "How often the checks hold";
export const SEEDS = "Checks by seed";
export const WALKS = "Random clicks";
export const RESTARTS = "Restarts";

const sections = [
  {
    title: VISITS,
    text: `\`node scripts/site-trial.mjs --write\` (mouse) and \`--keyboard --write\`. The visitor answers the lesson's own questions, locks the
answers, starts the run and reads the checks. JavaScript is what the page loads before its worker, compressed; the load is all
bytes up to the first point of a curve; the longest task is the page thread's; axe looks before and after the run, with \`--looks\`
in light, dark and forced colours at 320, 390 and 1280 pixels.`,
    columns: [
      "lesson",
      "way",
      "JavaScript, kB",
      "load, kB",
      "first point after, s",
      "whole run, s",
      "longest task, ms",
      "axe violations",
      "predictions",
      "checks",
    ],
    keys: 2,
  },
  {
    title: HELD,
    text: "Counted over the seeds of the table below.",
    columns: ["lesson", "check", "holds"],
    keys: 2,
  },
  {
    title: SEEDS,
    text: "`node scripts/site-trial.mjs --seeds 1,2,3 --write`: what the page says at the end of each run.",
    columns: ["lesson", "seed", "check", "state", "what came out"],
    keys: 3,
  },
  {
    title: WALKS,
    text: `\`node scripts/site-trial.mjs --walks N --write\`: 200 clicks at random on everything that a lesson's page has for its run, then a whole
run, whose numbers are to be those of a run that nobody disturbed.`,
    columns: ["lesson", "walk", "clicks", "alerts", "numbers at the end"],
    keys: 2,
  },
  {
    title: RESTARTS,
    text: `\`node scripts/site-trial.mjs --restarts 50 --write LESSON\`: memory after so many whole runs in one page, in MB. Heaps are taken
after a garbage collection; processes are resident sizes.`,
    columns: ["lesson", "after run", "page's heap", "worker's heap", "page's process", "GPU process"],
    keys: 2,
  },
];

const heading = `# The lessons in a browser

Made by \`node scripts/site-trial.mjs\`, in Chromium on SwiftShader (a CPU), size S. Each run of it replaces the rows that it made anew.`;

/** The file with what stands in it. */
export const openResults = (root, slugs) =>
  new Results(path.join(root, "docs/results/site.md"), heading, sections, slugs).read();

/** Counts how often each check holds, over the seeds that were tried. */
export function count(results) {
  const seen = new Map();
  for (const [lesson, , check, state] of results.rows.get(SEEDS)) {
    const key = JSON.stringify([lesson, check]);
    const { held, all } = seen.get(key) ?? { held: 0, all: 0 };
    seen.set(key, { held: held + (state === "passed" ? 1 : 0), all: all + 1 });
  }
  results.put(
    HELD,
    [...seen].map(([key, { held, all }]) => [...JSON.parse(key), `${held} of ${all}`]),
  );
}
