/** A worker of a cluster: draws responses, and scores answers, for whoever asks. */
import { hostname } from "node:os";
import { clusterAccess } from "../../cluster/access.ts";
import { connectCluster } from "../../cluster/connection.ts";
import { ClusterError } from "../../cluster/errors.ts";
import { HELLO_MS } from "../../cluster/hello.ts";
import { type KindName, kinds, tokenOf } from "../../cluster/names.ts";
import type { WorkerState } from "../../cluster/work.ts";
import { runWorker } from "../../cluster/worker.ts";
import { adapterNote } from "../../gpu/device.ts";
import { UserError } from "../../runtime/errors.ts";
import { group, settings } from "../../settings/index.ts";
import { clusterSettings, network } from "../cluster-settings.ts";
import { openGpu } from "../gpu.ts";
import { defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

const { cluster, creds } = clusterSettings("ask for work");

const workerSettings = settings("worker", {
  cluster: { ...cluster, required: true },
  creds: { ...creds, required: true },
  adapter: group("Engine").int(
    null,
    "Number of the adapter to compute on, as webrlhf doctor lists them; default: the fastest. One worker for each GPU",
    { min: 0 },
  ),
  roles: network.list(null, `Kinds of jobs that it takes: ${kinds.join(", ")}; default: all`),
  workerName: network.text(null, "Name that others see; default: this machine's, with the process's number"),
});

/** Between tries to reach a server that is not there yet. */
const RETRY_MS = 2000;

export const workerVerb = defineVerb({
  name: "worker",
  summary: summaries.worker,
  settings: workerSettings,
  examples: [
    "webrlhf worker --cluster nats://trainer:4222 --creds worker.creds",
    "webrlhf worker --cluster nats://trainer:4222 --creds worker.creds --adapter 1",
  ],
  interruptNote: "\ngiving back what is under way; Ctrl-C again stops at once",
  async run(o, { terminal, signal }) {
    const access = await clusterAccess(o.cluster as string, o.creds as string);
    const name = tokenOf(o.workerName ?? `${hostname()}-${process.pid}`);
    const roles = (o.roles ?? kinds) as KindName[];
    const unknown = roles.find((role) => !kinds.includes(role));
    if (unknown !== undefined || roles.length === 0) {
      throw new UserError(`--roles must be of ${kinds.join(", ")}, not ${JSON.stringify(unknown ?? "")}`);
    }
    await openGpu(terminal, o.adapter);
    const say = (line: string) => terminal.line(line);
    let stoodBy = false;
    const watch = ({ standBy }: WorkerState) => {
      if (standBy && !stoodBy) {
        say(`standing by: ${standBy.enough} faster workers are enough; asks again in ${HELLO_MS / 1000} s`);
      } else if (!standBy && stoodBy) say("needed again");
      stoodBy = standBy !== null;
    };
    let said = false;
    for (;;) {
      try {
        const connection = await connectCluster(access, `webrlhf worker ${name}`);
        say(`${name} works for ${o.cluster}`);
        const done = await runWorker(connection, { name, adapter: adapterNote(), roles, signal, say, watch });
        await connection.nc.close();
        say(`stopped after ${done} ${done === 1 ? "job" : "jobs"}`);
        return;
      } catch (error) {
        if (!(error instanceof ClusterError) || error.absence !== "unreachable") throw error;
        if (signal.aborted) return;
        if (!said) say(`${error.message}; waiting for it`);
        said = true;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  },
});
