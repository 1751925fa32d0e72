/** What scripts about a cluster start: a nats-server and programs of webrlhf, in a folder of their own, ended with the script. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const root = path.resolve(import.meta.dirname, "..");

/** A port of this machine that nobody listens at. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** The server's program and its version. Ends the script where there is none. */
export function natsServer() {
  const name = process.env.WEBRLHF_NATS_SERVER ?? "nats-server";
  const { status, stdout } = spawnSync(name, ["--version"], { encoding: "utf8" });
  if (status === 0) return { name, version: stdout.trim() };
  console.error(`${name} does not run: install it, or set WEBRLHF_NATS_SERVER`);
  return process.exit(1);
}

/**
 * Starts programs in a new folder. Ends the script where something is missing.
 * @param env variables that all of them have
 */
export function clusterPrograms({ program = path.join(root, "dist/cli/main.js"), env: shared = {} } = {}) {
  if (!existsSync(program)) {
    console.error(`${program} is missing: run "npm run build" first`);
    process.exit(1);
  }
  const nats = natsServer();
  const work = mkdtempSync(path.join(tmpdir(), "webrlhf-cluster-"));
  // webrlhf cluster init asks the server on the PATH what it knows.
  const PATH = [...(path.isAbsolute(nats.name) ? [path.dirname(nats.name)] : []), process.env.PATH].join(
    path.delimiter,
  );
  const children = new Set();
  process.on("exit", () => {
    for (const child of children) child.kill("SIGKILL");
  });
  /** Starts a program; `said` is all that it has said, `ended` its exit code. */
  const start = (command, words, env = {}) => {
    const child = spawn(command, words, {
      stdio: ["ignore", "pipe", "pipe"],
      cwd: work,
      env: { ...process.env, PATH, ...shared, ...env },
    });
    children.add(child);
    child.said = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (text) => {
        child.said += text;
      });
    }
    /** Waits until it says something. */
    child.says = async (what) => {
      while (!what.test(child.said)) {
        if (child.exitCode !== null || child.signalCode !== null)
          throw new Error(`it ended and did not say ${what}:\n${child.said}`);
        await sleep(25);
      }
    };
    child.ended = once(child, "exit").then(([code]) => {
      children.delete(child);
      return code;
    });
    return child;
  };
  const webrlhf = (...words) => start(process.execPath, [program, ...words]);
  return {
    program,
    work,
    at: (...names) => path.join(work, ...names),
    start,
    webrlhf,
    /** Runs a verb to its end. */
    async run(...words) {
      const child = webrlhf(...words);
      if ((await child.ended) !== 0) throw new Error(`webrlhf ${words.join(" ")}\n${child.said}`);
      return child;
    },
    /** Starts the server of a cluster's folder, and waits until it listens. */
    async serve(folder) {
      const server = start(nats.name, ["-c", path.join(folder, "nats.conf")]);
      await server.says(/Server is ready/);
      return server;
    },
    async endAll() {
      const all = [...children];
      for (const child of all) child.kill("SIGKILL");
      await Promise.all(all.map((child) => child.ended));
    },
  };
}
