/** A NATS server of a test's own: on a free port of this machine, with a store of its own, ended by its process id. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { diskFiles } from "webrlhf";
import { type ClusterConnection, connectCluster, runWorker, type WorkerOptions } from "webrlhf/cluster";
import { ClusterFolder, type ServerChoice } from "../../src/cluster/configuration.ts";
import { writeSecret } from "../../src/runtime/secrets.ts";

/** The server's program, or null where there is none. */
export const natsServer: string | null = (() => {
  const named = process.env.WEBRLHF_NATS_SERVER;
  const found = [named, "nats-server"].find((name) => name && spawnSync(name, ["--version"]).status === 0);
  if (named && found !== named) throw new Error(`WEBRLHF_NATS_SERVER=${named} does not run`);
  if (!found) {
    console.warn(
      "tests of the cluster are skipped: there is no nats-server. Get it with: apt-get install nats-server, brew install " +
        "nats-server, or go install github.com/nats-io/nats-server/v2@latest; or name it with WEBRLHF_NATS_SERVER",
    );
  }
  return found ?? null;
})();

const version = natsServer ? String(spawnSync(natsServer, ["--version"]).stdout) : "";
/** Whether the server knows of `sync_interval`. */
const syncs = !/v2\.[0-9]\./.test(version);

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

/** Starts a server by a folder's configuration, and waits until it listens. */
async function started(folder: string): Promise<ChildProcess> {
  const child = spawn(natsServer as string, ["-c", join(folder, "nats.conf")], { stdio: "pipe" });
  let said = "";
  child.stderr?.on("data", (text) => {
    said += text;
  });
  for (let i = 0; !/Server is ready/.test(said); i++) {
    if (child.exitCode !== null || i > 400) throw new Error(`nats-server does not start: ${said}`);
    await sleep(25);
  }
  return child;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return;
  child.kill("SIGKILL");
  await once(child, "exit");
}

/** Serves the cluster of a folder. */
export async function serveFolder(folder: string): Promise<{ close(): Promise<void> }> {
  const child = await started(folder);
  return { close: () => ended(child) };
}

export class TestCluster {
  readonly dir: string;
  readonly folder: ClusterFolder;
  readonly url: string;
  private process: ChildProcess | null = null;
  private readonly opened: (() => Promise<unknown>)[] = [];

  private constructor(dir: string, folder: ClusterFolder) {
    this.dir = dir;
    this.folder = folder;
    this.url = `nats://127.0.0.1:${folder.server.port}`;
  }

  /** Starts one. Call `close` in the end. */
  static async start(choice: Partial<ServerChoice> = {}): Promise<TestCluster> {
    const dir = await mkdtemp(join(tmpdir(), "webrlhf-cluster-"));
    const files = await diskFiles();
    const server = { host: "127.0.0.1", port: await freePort(), store: join(dir, "store"), syncs, ...choice };
    const folder = await ClusterFolder.create(files, join(dir, "cluster"), server, writeSecret);
    const cluster = new TestCluster(dir, folder);
    await cluster.up();
    return cluster;
  }

  /** Starts the server, and waits until it listens. */
  async up(): Promise<void> {
    this.process = await started(this.folder.path);
  }

  /** Ends the server at once, as a power cut would. */
  async kill(): Promise<void> {
    if (this.process) await ended(this.process);
    this.process = null;
  }

  /** Forgets everything that the server has stored; it is not running then. */
  async wipe(): Promise<void> {
    await rm(join(this.dir, "store"), { recursive: true, force: true });
  }

  creds = (name: string): string => join(this.folder.path, `${name}.creds`);

  /** Connects as a member. */
  async join(member: string): Promise<ClusterConnection> {
    const creds = await readFile(this.creds(member), "utf8");
    const connection = await connectCluster({ url: this.url, creds, file: `${member}.creds` }, "test");
    this.closing(() => connection.nc.close());
    return connection;
  }

  /** Starts a worker; gives what stops it, which gives the jobs that it did. */
  async worker(options: Partial<WorkerOptions> = {}, member = "worker"): Promise<() => Promise<number>> {
    const connection = await this.join(member);
    const stop = new AbortController();
    const done = runWorker(connection, { name: "worker", adapter: "test", signal: stop.signal, ...options });
    const end = async () => {
      stop.abort();
      return done.catch(() => 0);
    };
    this.closing(end);
    return end;
  }

  /** Ends something with the test that has opened it. */
  closing(end: () => Promise<unknown>): void {
    this.opened.push(end);
  }

  /** Ends what a test has opened, the last first. */
  async part(): Promise<void> {
    for (const end of this.opened.splice(0).reverse()) await end();
  }

  async close(): Promise<void> {
    await this.part();
    await this.kill();
    await rm(this.dir, { recursive: true, force: true });
  }
}
