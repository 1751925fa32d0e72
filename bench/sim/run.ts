/**
 * `npm run sim`: how large a cluster can become, and what is full first: workers, the server's link, or its cores.
 *
 *   --measured FILE   what `node scripts/cluster-load.mjs --json FILE` has measured; default bench/sim/measured.json
 *   --steps 20        steps of each scenario
 *   --json FILE       every figure
 *   --write           writes docs/results/cluster.md as well
 */
import { readFileSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { learningOf, type Outcome, type Random, type Scenario, simulate, speedsOf } from "./cluster.ts";

const { values: options } = parseArgs({
  options: {
    measured: { type: "string", default: new URL("../../sim/measured.json", import.meta.url).pathname },
    steps: { type: "string", default: "20" },
    json: { type: "string" },
    write: { type: "boolean", default: false },
  },
});

const { philox } = (await import(new URL("../../../dist/runtime/rng.js", import.meta.url).href)) as {
  philox: (key0: number, key1: number, c0: number, c1: number, c2: number, c3: number) => Uint32Array;
};
const { planOf } = (await import(new URL("../../../dist/cluster/plan.js", import.meta.url).href)) as {
  planOf: (needs: {
    speeds: readonly number[];
    fetching: (workers: number) => number;
    tokens: number;
    jobTokens: number;
    learns: number | null;
  }) => { served: number };
};
const random: Random = (seed, a, b) => {
  const [u, v] = philox(seed, 0, a, b, 0, 0);
  return [(u + 0.5) / 2 ** 32, (v + 0.5) / 2 ** 32];
};

interface Row {
  connections: number;
  jobsPerSecond: number;
  latency: number[];
  serverMs: number;
  serverMB: number;
  trainerMs: number;
  trainerMB: number;
  idleMs: number;
}
const measured: { server: string; syncs: boolean; rows: Row[] }[] = JSON.parse(readFileSync(options.measured, "utf8"));
// What is reckoned with is the server that writes before it says so.
const { server, rows } = measured.find(({ syncs }) => syncs) ?? measured[0];
const [few, many] = [rows[0], rows.at(-1) as Row];
const perConnectionMB = (many.serverMB - few.serverMB) / (many.connections - few.connections);

const MBIT = 1e6 / 8;
const GBIT = 1e9 / 8;
const NEVER = Number.POSITIVE_INFINITY;

/** A model of 135M parameters in pages: what is assumed where nothing is measured. */
const assumed: Scenario = {
  workers: 100,
  workerTokens: 400,
  workerSpread: 0.8,
  workerLink: 50 * MBIT,
  stays: 600,
  served: NEVER,
  base: 270e6,
  version: 4.9e6,
  baseFrom: "elsewhere",
  link: GBIT,
  relays: 0,
  serverJob: many.serverMs / 1000,
  serverWaiting: many.idleMs / 1000 / many.connections,
  batch: 1024,
  perJob: 8,
  responseTokens: 256,
  promptTokens: 64,
  trainerTokens: 145_000,
  staleness: 4,
  order: "exact",
  lease: 30,
  steps: Number(options.steps),
  seed: 1,
};
const wires: Record<string, number> = {
  "all, f16": 270e6,
  "all, int8": 135e6,
  "LoRA f32": 19.6e6,
  "LoRA int8": 4.9e6,
  "LoRA q, v int8": 0.92e6,
};

const kept: { scenario: Partial<Scenario>; outcome: Outcome }[] = [];
function outcome(changes: Partial<Scenario>): Outcome {
  const found = simulate({ ...assumed, ...changes }, random);
  kept.push({ scenario: changes, outcome: found });
  return found;
}
/** How many of a scenario's workers webrlhf serves, once it has measured them. */
function planned(changes: Partial<Scenario>): number {
  const s = { ...assumed, ...changes };
  return planOf({
    speeds: speedsOf(s, random).sort((a, b) => b - a),
    fetching: (workers) => Math.max(s.version / s.workerLink, (workers * s.version) / s.link),
    tokens: s.batch * s.responseTokens,
    jobTokens: s.perJob * s.responseTokens,
    learns: s.staleness > 0 ? learningOf(s) : null,
  }).served;
}
const page: string[] = [];
function say(text: string): void {
  console.log(text);
  page.push(text);
}
function table(title: string, heads: readonly string[], rows: readonly (readonly (string | number)[])[]): void {
  say(`\n${title}\n`);
  say(`| ${heads.join(" | ")} |\n|${heads.map(() => "---").join("|")}|`);
  for (const row of rows) say(`| ${row.join(" | ")} |`);
}
const percent = (part: number) => (100 * part).toFixed(0);

say(`# How large a cluster can become

\`npm run sim -- --write\` writes this page, from what \`node scripts/cluster-load.mjs --json bench/sim/measured.json\` has measured and
from a simulation whose assumptions are beside it in bench/sim/run.ts.

## Measured

Server, trainer and workers on two cores of one machine; workers draw nothing, so that all the time is the cluster's own. A job is 4
prompts with 4 responses of 64 tokens each.`);
for (const { server, syncs, rows } of measured) {
  table(
    `${server}, ${syncs ? "which writes every message to the disk before it says so" : "which writes to the disk later"}`,
    [
      ...["workers", "jobs/s", "ms from asked to accepted: 50 %", "90 %", "99 %", "server MB", "trainer MB"],
      ...["server ms of CPU a job", "trainer ms of CPU a job", "server ms of CPU a second, nobody working"],
    ],
    rows.map((row) => [
      ...[row.connections, row.jobsPerSecond.toFixed(0), ...row.latency.map((ms) => ms.toFixed(0))],
      ...[row.serverMB, row.trainerMB, row.serverMs.toFixed(2), row.trainerMs.toFixed(2), row.idleMs.toFixed(0)],
    ]),
  );
}

say(`
## Simulated

A model of 135M parameters in pages that stay ten minutes: 400 tokens a second at the median (log-normal, 0.8), 50 Mbit/s; jobs of
${assumed.perJob} responses of ${assumed.responseTokens} tokens; a trainer that learns from 145,000 tokens a second, in steps of 1,024 responses; a server link of 1 Gbit/s.
The base (270 MB) is a page's own, or comes over a content network, where nothing else is said. Of ${server}: ${many.serverMs.toFixed(2)} ms of
a core for a job, ${((1000 * many.idleMs) / many.connections).toFixed(0)} microseconds a second and ${perConnectionMB.toFixed(2)} MB for a worker that waits.
All workers are served where a table does not say otherwise, so that it shows what choosing is good for: webrlhf itself serves only as
many of the fastest as it plans with.
`);

table(
  "Part of its time that the trainer learns, %, by what travels for a step (1 Gbit/s, staleness 4)",
  ["workers", ...Object.keys(wires)],
  [8, 30, 100, 300, 1000].map((workers) => [
    workers,
    ...Object.values(wires).map((version) => percent(outcome({ workers, version }).busy)),
  ]),
);

table(
  "The same where the base of 270 MB comes from the server, too, for LoRA int8, by how long a worker stays",
  ["workers", "10 minutes", "1 hour", "always"],
  [8, 30, 100, 300, 1000].map((workers) => [
    workers,
    ...[600, 3600, NEVER].map((stays) => percent(outcome({ workers, stays, baseFrom: "server" }).busy)),
  ]),
);

table(
  "1,000 workers, LoRA int8: only the fastest are given jobs; in the last row as many as webrlhf plans with",
  ["served", "trainer learns, %", "Gbit/s of weights", "MB a response", "drawn for nothing, %"],
  [1000, 500, 300, 200, 100, 50, planned({ workers: 1000 })].map((served) => {
    const { busy, egress, bytesPerResponse, wasted } = outcome({ workers: 1000, served });
    const cells = [percent(busy), (egress / GBIT).toFixed(2), (bytesPerResponse / 1e6).toFixed(2), percent(wasted)];
    return [served, ...cells];
  }),
);

table(
  "Order and staleness, 300 workers, LoRA int8: trainer learns, %",
  ["staleness", "exact, steps of 1,024", "any", "exact, steps of 16,384", "any"],
  [0, 1, 2, 4, 8].map((staleness) => [
    staleness,
    ...[1024, 16384].flatMap((batch) =>
      (["exact", "any"] as const).map((order) =>
        percent(outcome({ workers: 300, staleness, batch, order, steps: batch > 1024 ? 6 : assumed.steps }).busy),
      ),
    ),
  ]),
);

const passing: [string, number][] = [
  ["none", 0],
  ["4 relays", 4],
  ["16 relays", 16],
  ["content network", NEVER],
];
table(
  "Who passes weights on: 1,000 workers, all of them served, trainer learns, %",
  ["", ...Object.keys(wires)],
  passing.map(([name, relays]) => [
    name,
    ...Object.values(wires).map((version) => percent(outcome({ workers: 1000, version, relays }).busy)),
  ]),
);

/** What weights cost to send, USD a GB: an assumption. */
const PRICE = 0.05;
table(
  `As many as come, only as many of the fastest served as is best, LoRA int8, staleness 4; ${PRICE} USD a GB`,
  [
    ...["workers", "order", "served", "trainer learns, %", "responses/s", "Gbit/s of weights", "server's cores"],
    ...["its GB", "USD a million responses"],
  ],
  [100, 1000, 10_000, 100_000].flatMap((workers) =>
    (["exact", "any"] as const).map((order) => {
      const tried = [25, 50, 100, 200, 400, 800].filter((served) => served <= workers);
      const found = tried.map((served) => ({ served, ...outcome({ workers, served, order }) }));
      const { served, ...best } = found.reduce((a, b) => (b.busy > a.busy * 1.02 ? b : a));
      return [
        ...[workers, order, served, percent(best.busy), best.responsesPerSecond.toFixed(0)],
        ...[
          (best.egress / GBIT).toFixed(2),
          best.serverCores.toFixed(1),
          ((workers * perConnectionMB) / 1000).toFixed(1),
        ],
        (best.bytesPerResponse * PRICE * 1e-3).toFixed(1),
      ];
    }),
  ),
);
if (options.json) writeFileSync(options.json, `${JSON.stringify(kept, null, 2)}\n`);
if (options.write)
  writeFileSync(new URL("../../../docs/results/cluster.md", import.meta.url), `${page.join("\n").trim()}\n`);
