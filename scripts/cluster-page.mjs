#!/usr/bin/env node
/**
 * Types the lines of docs/cluster.md as they stand, on three machines: network namespaces of this one, with a switch between them.
 *
 *   npm run build && node scripts/cluster-page.mjs      as root, on Linux, with ip(8) and nats-server
 *
 * The first block of "Three machines in five minutes" is typed on A, whose server stays; then worker.creds is copied, the second block is
 * typed on B and C, and the third on A. The model that A trains is one that this script has trained before, of a few thousand
 * parameters. In the end the run must have the bytes of one without a cluster, with jobs of the same size, and both workers must have drawn.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { contents, differences } from "./tiny-trainers.mjs";

const root = path.resolve(import.meta.dirname, "..");
const work = mkdtempSync(path.join(tmpdir(), "webrlhf-page-"));
const machines = ["A", "B", "C"];
const tag = `wr${process.pid}`;
const namespace = (name) => `${tag}${name}`;
const bridge = `${tag}s`;
const address = (name) => `10.87.43.${1 + machines.indexOf(name)}`;

/** The lines of the shell blocks under a heading. */
function blocksUnder(heading) {
  const page = readFileSync(path.join(root, "docs/cluster.md"), "utf8");
  const part = page.split(/^## /m).find((text) => text.startsWith(heading));
  return [...part.matchAll(/^```sh\n(.*?)^```/gms)].map(([, block]) => block.trim().split("\n"));
}

function ip(...words) {
  const { status, stderr } = spawnSync("ip", words, { encoding: "utf8" });
  if (status !== 0) throw new Error(`ip ${words.join(" ")}: ${stderr} (this script needs root, and Linux)`);
}

function wire() {
  ip("link", "add", bridge, "type", "bridge");
  ip("link", "set", bridge, "up");
  const hosts = machines.map((name) => `${address(name)} ${name}`).join("\n");
  for (const [i, name] of machines.entries()) {
    const [inside, outside] = [`${tag}i${i}`, `${tag}o${i}`];
    mkdirSync(`/etc/netns/${namespace(name)}`, { recursive: true });
    writeFileSync(`/etc/netns/${namespace(name)}/hosts`, `127.0.0.1 localhost\n${hosts}\n`);
    ip("netns", "add", namespace(name));
    ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", namespace(name));
    ip("link", "set", outside, "master", bridge, "up");
    ip("-n", namespace(name), "addr", "add", `${address(name)}/24`, "dev", inside);
    ip("-n", namespace(name), "link", "set", inside, "up");
    ip("-n", namespace(name), "link", "set", "lo", "up");
    mkdirSync(path.join(work, name));
  }
}

function unwire() {
  for (const name of machines) {
    spawnSync("ip", ["netns", "del", namespace(name)]);
    rmSync(`/etc/netns/${namespace(name)}`, { recursive: true, force: true });
  }
  spawnSync("ip", ["link", "del", bridge]);
}

const children = new Set();
/** Types a line on a machine. */
function type(name, line) {
  console.log(`${name}$ ${line}`);
  const child = spawn("ip", ["netns", "exec", namespace(name), "bash", "-c", line], {
    cwd: path.join(work, name),
    env: { ...process.env, PATH: `${path.join(work, "bin")}:${process.env.PATH}` },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  children.add(child);
  child.said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (child.said += text));
  child.ended = once(child, "exit").then(([code]) => {
    children.delete(child);
    return code;
  });
  return child;
}
async function done(name, line) {
  const child = type(name, line);
  const code = await child.ended;
  if (code !== 0) throw new Error(`exit ${code}\n${child.said}`);
  return child.said;
}
async function says(child, what) {
  for (let i = 0; !what.test(child.said); i++) {
    if (i > 1200) throw new Error(`"${what}" does not come:\n${child.said}`);
    await sleep(50);
  }
}

let failed = true;
try {
  mkdirSync(path.join(work, "bin"));
  const program = path.join(work, "bin", "webrlhf");
  writeFileSync(program, `#!/bin/sh\nexec ${process.execPath} ${path.join(root, "dist/cli/main.js")} "$@"\n`);
  chmodSync(program, 0o755);
  wire();
  const shape = "--hidden_size 32 --num_hidden_layers 2 --num_attention_heads 2 --max_position_embeddings 96";
  const few = "--dataset_name builtin:world --max_train_samples 64 --per_device_train_batch_size 8 --max_steps 8";
  await done("A", `webrlhf sft ${shape} ${few} --output_dir out/sft`);
  await done("A", `webrlhf reward --model_name_or_path out/sft ${few} --output_dir out/reward`);

  const [[init, serve], [join], [train, status]] = blocksUnder("Three machines in five minutes");
  await done("A", init);
  const server = type("A", serve);
  await says(server, /Server is ready/);
  const workers = [];
  for (const name of ["B", "C"]) {
    copyFileSync(path.join(work, "A/cluster/worker.creds"), path.join(work, name, "worker.creds"));
    const worker = type(name, join);
    await says(worker, /works for/);
    workers.push(worker);
  }
  const began = Date.now();
  await done("A", train);
  console.log(`trained in ${((Date.now() - began) / 1000).toFixed(1)} s`);
  console.log(await done("A", status));
  for (const worker of workers) process.kill(-worker.pid, "SIGTERM");
  const drew = [];
  for (const worker of workers) {
    await worker.ended;
    drew.push(Number(/stopped after (\d+)/.exec(worker.said)?.[1] ?? 0));
  }
  const alone = train.replace(/ --cluster \S+ --creds \S+/, "").replace("out/grpo", "out/alone");
  if (alone === train) throw new Error("the page's line names no cluster");
  const aloneBegan = Date.now();
  await done("A", `${alone} --prompts_per_job 4`);
  console.log(`alone in ${((Date.now() - aloneBegan) / 1000).toFixed(1)} s`);
  // All but the record of the commands, which are two, and the card, which has settings of them.
  const ofCommands = ["run.json", "README.md"];
  const written = (folder) =>
    new Map([...contents(path.join(work, "A", folder))].filter(([name]) => !ofCommands.includes(name)));
  const differing = differences(written("out/alone"), written("out/grpo"));
  console.log(
    `jobs drawn: B ${drew[0]}, C ${drew[1]}; files that differ from a run without a cluster: ${differing.length}`,
  );
  if (differing.length > 0) console.log(differing.join("\n"));
  failed = differing.length > 0 || drew.some((jobs) => jobs === 0);
} finally {
  for (const child of children) process.kill(-child.pid, "SIGKILL");
  await sleep(200);
  unwire();
  rmSync(work, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
