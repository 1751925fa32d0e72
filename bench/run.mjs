#!/usr/bin/env node
// webrlhf's own bench with the other libraries beside it, all in this process and on the same adapter.
import { existsSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: "" },
    quick: { type: "boolean", default: false },
    json: { type: "string" },
    peers: { type: "string", default: "jaxjs,tfjs,blas" },
  },
});

const dist = new URL("../dist/", import.meta.url);
if (!existsSync(dist)) {
  console.error("Build webrlhf first: npm run build in the folder above.");
  process.exit(1);
}
const { adapterNote, openDevice } = await import(new URL("gpu/device.js", dist));
const { gpuArm } = await import(new URL("cli/verbs/bench/harness.js", dist));
const { runSuite } = await import(new URL("cli/verbs/bench/suite.js", dist));

// webrlhf opens its adapter first: where it brings the driver itself, the others then find the same one.
await openDevice();
console.log(adapterNote());

const openers = {
  jaxjs: async () => (await import("./peers/jaxjs.mjs")).openJaxjs({ gpuArm }),
  tfjs: async () => (await import("./peers/tfjs.mjs")).openTfjs({ gpuArm }),
  blas: async () => (await import("./peers/blas.mjs")).openBlas(),
};
const peers = [];
for (const name of options.peers.split(",").filter(Boolean)) {
  try {
    const peer = await openers[name]();
    peers.push(peer);
    console.log(`beside it: ${peer.name} (${peer.version})`);
  } catch (error) {
    console.log(`skipped: ${name}, ${error.message.split("\n")[0]}`);
  }
}

const report = await runSuite({ only: options.only, quick: options.quick, peers, print: (line) => console.log(line) });
if (options.json) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
for (const peer of peers) peer.close?.();
// The peers' devices would keep the process alive.
process.exit(report.cases.some((test) => test.arms.some((arm) => arm.failed)) ? 1 : 0);
