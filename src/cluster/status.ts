/** What a cluster is doing: who trains, who works, what waits. */
import type { ClusterConnection } from "./connection.ts";
import { readHello, type SeenWorker } from "./hello.ts";
import { JOBS, ofRun, queues, RESULTS, RUNS } from "./names.ts";
import { whoIn } from "./owner.ts";
import { absent, streamsOf } from "./streams.ts";
import { trainersPackages } from "./trainers-packages.ts";

/** A cluster at one moment. */
export interface ClusterStatus {
  /** The server's version. */
  server: string;
  /** Runs with who trains them; of several learners, which one. */
  runs: { run: string; learner: number | null; who: string }[];
  /** Jobs that wait, and that workers have. */
  waiting: number;
  underWay: number;
  /** Results that the server keeps. */
  results: number;
  workers: SeenWorker[];
}

/**
 * Asks the server, and listens for a while to who says that it is there.
 * @param ms workers say so every 5 seconds
 */
export async function statusOf({ nc }: ClusterConnection, ms = 6000): Promise<ClusterStatus> {
  const workers = new Map<string, SeenWorker>();
  nc.subscribe("hello.*", {
    callback: (error, message) => {
      const hello = error ? null : readHello(message.subject, message.data);
      if (hello) workers.set(`${hello.member}/${hello.worker}`, hello);
    },
  });
  const { jsm } = await streamsOf(nc);
  const consumers = await Promise.all(queues.map((kind) => jsm.consumers.info(JOBS[kind], kind).catch(absent)));
  const results = await jsm.streams.info(RESULTS).catch(absent);
  const runs: ClusterStatus["runs"] = [];
  if (await jsm.streams.info(`KV_${RUNS}`).catch(absent)) {
    const { Kvm } = await trainersPackages.keyValue();
    const kv = await new Kvm(nc).open(RUNS);
    for await (const run of await kv.keys()) {
      const entry = await kv.get(run);
      if (entry?.operation === "PUT") runs.push({ ...ofRun(run), who: whoIn(entry.string()) });
    }
  }
  await new Promise((resolve) => setTimeout(resolve, ms));
  return {
    server: nc.info?.version ?? "unknown",
    runs,
    waiting: consumers.reduce((sum, one) => sum + (one?.num_pending ?? 0), 0),
    underWay: consumers.reduce((sum, one) => sum + (one?.num_ack_pending ?? 0), 0),
    results: results?.state.messages ?? 0,
    workers: [...workers.values()].sort((a, b) => (a.worker < b.worker ? -1 : 1)),
  };
}
