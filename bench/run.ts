/** `npm run bench`: how fast webrlhf's own kernels and steps run here, and beside it other libraries where they are installed. */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { adapterNote, caps, openDevice } from "webrlhf";
import { gpuArm } from "./harness.ts";
import { type Peer, profileLines, runSuite } from "./suite.ts";
import { profileStep } from "./training.ts";

const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: "" },
    quick: { type: "boolean", default: false },
    profile: { type: "boolean", default: false },
    json: { type: "string" },
    peers: { type: "string", default: "" },
  },
});
const { only, quick, json } = options;
const print = (line: string) => console.log(line);

/** A peer closes its device at the end: it would keep the process alive. */
type OpenPeer = Peer & { close?(): void };

const openers: Record<string, string> = { jaxjs: "openJaxjs", tfjs: "openTfjs", blas: "openBlas" };

/** How webrlhf waits for the adapter at hand: the others wait in the same way. */
async function waiting(): Promise<<R>(call: () => R) => R> {
  if (caps().kind !== "cpu") return (call) => call();
  return (await import(new URL("../../dist/gpu/ticks.js", import.meta.url).href)).calmly;
}

async function openPeers(names: readonly string[]): Promise<OpenPeer[]> {
  const peers: OpenPeer[] = [];
  for (const name of names) {
    try {
      const opener = openers[name];
      if (!opener) throw new Error(`known are ${Object.keys(openers).join(", ")}`);
      const module = await import(new URL(`../peers/${name}.mjs`, import.meta.url).href);
      const peer: OpenPeer = await module[opener]({ gpuArm, calmly: await waiting() });
      peers.push(peer);
      print(`beside it: ${peer.name} (${peer.version})`);
    } catch (error) {
      print(`skipped: ${name}, ${(error as Error).message.split("\n")[0]}`);
    }
  }
  return peers;
}

// webrlhf opens its adapter first: where it brings the driver itself, the others then find the same one.
await openDevice();
print(adapterNote());
const peers = options.profile ? [] : await openPeers(options.peers.split(",").filter(Boolean));
let failed = false;
let report: unknown;
if (options.profile) {
  if (!caps().timestamps) throw new Error("--profile needs an adapter that can take timestamps");
  const times = await profileStep(quick ? 5 : 50);
  for (const line of profileLines(times)) print(line);
  report = times;
} else {
  const figures = await runSuite({ only, quick, peers, print });
  failed = figures.cases.some((test) => test.arms.some((arm) => arm.failed));
  report = figures;
}
if (json !== undefined) writeFileSync(json, `${JSON.stringify(report, null, 2)}\n`);
for (const peer of peers) peer.close?.();
process.exit(failed ? 1 : 0);
