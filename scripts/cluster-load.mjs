#!/usr/bin/env node
/**
 * How many jobs a cluster's server and its trainer carry on this machine, by the number of connected workers.
 *
 *   npm run build
 *   node scripts/cluster-load.mjs
 *   --connections 10,100,1000   workers, each with a connection of its own
 *   --jobs 64 --steps 20        jobs of a step, and how many steps are measured
 *   --work 0                    milliseconds that a worker takes for a job: it draws nothing, the time is only waited for
 *   --json FILE                 keeps the figures, beside those of other servers: bench/sim/measured.json is taken by `npm run sim`
 *
 * A nats-server is taken from WEBRLHF_NATS_SERVER or the PATH, and listens at 127.0.0.1. Everything but the drawing is the real thing: the
 * configuration of `webrlhf cluster init`, credentials, streams, encoded jobs and results (4 prompts with 4 responses of 64 tokens each),
 * acknowledgements, the trainer's checks and its record on the disk. Workers, server and trainer share the machine's cores, so that
 * figures of a cluster whose workers are elsewhere are better.
 */
import { fork } from "node:child_process";
import { once, setMaxListeners } from "node:events";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { clusterPrograms, freePort, natsServer } from "./cluster-programs.mjs";

const root = path.resolve(import.meta.dirname, "..");
const built = (name) => import(path.join(root, "dist", name));

if (process.send) await workers();
else await load();

/** A part of the workers, in a process of their own. */
async function workers() {
  const { signal } = new AbortController();
  setMaxListeners(0, signal);
  const [{ connectCluster }, { streamsOf }, { Intake }, messages, { helloSubject, resultSubject }] = await Promise.all(
    ["connection", "streams", "intake", "messages", "names"].map((name) => built(`cluster/${name}.js`)),
  );
  const [access, count, first, work] = JSON.parse(process.argv[2]);
  const responses = Array.from({ length: 16 }, (_, i) => ({
    ids: Uint32Array.from({ length: 64 }, (_, t) => 3 + ((7 * i + t) % 60)),
    logProbs: new Float32Array(64).fill(-1.5),
    ended: false,
  }));
  const hello = (worker) => ({ worker, adapter: "none", webrlhf: "", done: 0, tokensPerSecond: 0, busy: false });
  const one = async (name, { nc, user }) => {
    const streams = await streamsOf(nc);
    setInterval(() => nc.publish(helloSubject(user), JSON.stringify(hello(name))), 5000);
    const intake = new Intake(streams, ["sample"]);
    for (;;) {
      const taken = await intake.next(signal);
      if (!taken) continue;
      const { message } = taken;
      const { job } = messages.decodeJob(message.data);
      if (work > 0) await sleep(work);
      const [, , run, key] = message.subject.split(".");
      const result = { id: job.id, version: job.version, responses };
      const bytes = messages.encodeResult(key, { worker: name, adapter: "none", seconds: work / 1000 }, result);
      try {
        await streams.js.publish(resultSubject(user, run, key), bytes);
        await message.ackAck();
      } catch {
        message.nak(1000); // as a worker does where the server has no time
      }
    }
  };
  process.on("disconnect", () => process.exit(0));
  const all = [];
  for (let i = 0; i < count; i++) {
    const name = `load-${first + i}`;
    all.push(one(name, await connectCluster(access, name))); // one after the other: the first would wait for the last
  }
  process.send("started");
  await Promise.all(all);
}

async function load() {
  const { values: flags } = parseArgs({
    options: {
      connections: { type: "string", default: "10,100,1000" },
      jobs: { type: "string", default: "64" },
      steps: { type: "string", default: "20" },
      work: { type: "string", default: "0" },
      json: { type: "string" },
    },
  });
  const { version } = natsServer();
  const syncs = !/v2\.[0-9]\./.test(version);
  console.log(`${version}, ${syncs ? "every message on the disk before it is acknowledged" : "no sync_interval"}`);
  console.log(
    `${availableParallelism()} cores for server, trainer and workers; ${flags.jobs} jobs a step, ${flags.steps} steps`,
  );
  console.log(
    "| connections | jobs/s | ms from asked to accepted: 50 % | 90 % | 99 % | server MB | trainer MB | server CPU ms a job | trainer CPU ms a job | server CPU ms a second, nobody working |",
  );
  console.log(`|${"---|".repeat(10)}`);
  const rows = [];
  for (const connections of flags.connections.split(",").map(Number)) {
    const row = await measured({ ...flags, connections });
    rows.push(row);
    const { jobsPerSecond, latency, serverMB, trainerMB, serverMs, trainerMs, idleMs } = row;
    const cells = [connections, jobsPerSecond.toFixed(0), ...latency.map((ms) => ms.toFixed(0)), serverMB, trainerMB];
    console.log(`| ${[...cells, serverMs.toFixed(2), trainerMs.toFixed(2), idleMs.toFixed(1)].join(" | ")} |`);
  }
  if (!flags.json) return;
  // One file for several versions of the server.
  const kept = existsSync(flags.json) ? JSON.parse(readFileSync(flags.json, "utf8")) : [];
  const others = kept.filter(({ server }) => server !== version);
  writeFileSync(flags.json, `${JSON.stringify([...others, { server: version, syncs, rows }], null, 2)}\n`);
}

async function measured({ connections, ...flags }) {
  const { work, at, run, serve, endAll } = clusterPrograms();
  const [{ connectCluster }, { sampling }, { ClusterTrainer }, { diskFiles }, { jobsOf }] = await Promise.all(
    ["cluster/connection", "cluster/kinds", "cluster/trainer", "runtime/files", "rlhf/jobs"].map((name) =>
      built(`${name}.js`),
    ),
  );
  const port = await freePort();
  await run("cluster", "init", "--cluster_dir", at("cluster"), "--port", String(port));
  const access = (member) => {
    const file = at("cluster", `${member}.creds`);
    return { url: `nats://127.0.0.1:${port}`, creds: readFileSync(file, "utf8"), file };
  };
  const parts = [];
  try {
    const server = await serve(at("cluster"));
    const trainer = await ClusterTrainer.open(await connectCluster(access("trainer"), "load"), sampling, {
      run: "load",
      who: "load",
      kept: { files: await diskFiles(), folder: at("results") },
      say: () => {},
    });
    const each = 250;
    for (let first = 0; first < connections; first += each) {
      const args = [access("worker"), Math.min(each, connections - first), first, Number(flags.work)];
      const part = fork(import.meta.filename, [JSON.stringify(args)]);
      parts.push(part);
      await once(part, "message");
    }
    const policy = { ref: { base: [{ name: "none", sha256: "0".repeat(64), size: 0 }], adapter: null }, files: [] };
    const drawn = {
      policy: { ...policy, put: async () => {}, get: async () => new Uint8Array() },
      vocabSize: 64,
      endIds: [2],
    };
    const latency = [];
    const step = async (number, count) => {
      const prompts = Array.from({ length: 4 * count }, () => Uint32Array.from({ length: 64 }, (_, t) => 3 + (t % 60)));
      const options = { iteration: number, samples: 4, seed: 1, maxNewTokens: 64, temperature: 1, promptsPerJob: 4 };
      const jobs = jobsOf(
        prompts,
        prompts.map((_, i) => i),
        options,
      );
      const asked = performance.now();
      await trainer.request(number, jobs, drawn, async () => latency.push(performance.now() - asked));
      await trainer.take(number, null);
    };
    for (let i = 0; i < 3; i++) await step(i, Math.max(Number(flags.jobs), connections)); // everybody is connected then
    latency.length = 0;
    const before = [cpuMs(server.pid), process.cpuUsage()];
    const began = performance.now();
    for (let i = 0; i < Number(flags.steps); i++) await step(3 + i, Number(flags.jobs));
    const seconds = (performance.now() - began) / 1000;
    const own = process.cpuUsage(before[1]);
    const count = latency.length;
    const row = {
      connections,
      jobsPerSecond: count / seconds,
      latency: [0.5, 0.9, 0.99].map((part) => latency.sort((a, b) => a - b)[Math.floor(part * (count - 1))]),
      serverMB: Math.round(residentMB(server.pid)),
      trainerMB: Math.round(process.memoryUsage.rss() / 2 ** 20),
      serverMs: (cpuMs(server.pid) - before[0]) / count,
      trainerMs: (own.user + own.system) / 1000 / count,
    };
    // What those cost that wait.
    const idle = cpuMs(server.pid);
    await sleep(10_000);
    row.idleMs = (cpuMs(server.pid) - idle) / 10;
    await trainer.close();
    return row;
  } finally {
    for (const part of parts) part.disconnect();
    await Promise.all(parts.map((part) => once(part, "exit")));
    await endAll();
    rmSync(work, { recursive: true, force: true });
  }
}

function residentMB(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) / 1024;
}

/** CPU time of a process, milliseconds. */
function cpuMs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/.*\) /, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
