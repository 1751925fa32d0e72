/** A worker of a cluster: draws responses for whichever trainer asks. */
import { hostname } from "node:os";
import { clusterAccess } from "../../cluster/access.ts";
import { connectCluster } from "../../cluster/connection.ts";
import { ClusterError } from "../../cluster/errors.ts";
import { tokenOf } from "../../cluster/names.ts";
import { runWorker } from "../../cluster/worker.ts";
import { adapterNote } from "../../gpu/device.ts";
import { settings } from "../../settings/index.ts";
import { clusterSettings, network } from "../cluster-settings.ts";
import { openGpu } from "../gpu.ts";
import { defineVerb } from "../verb.ts";
import { summaries } from "./summaries.ts";

const workerSettings = settings("worker", {
  cluster: { ...clusterSettings.cluster, required: true },
  creds: { ...clusterSettings.creds, required: true },
  workerName: network.text(null, "Name that others see; default: this machine's, with the process's number"),
});

/** Between tries to reach a server that is not there yet. */
const RETRY_MS = 2000;

export const workerVerb = defineVerb({
  name: "worker",
  summary: summaries.worker,
  settings: workerSettings,
  examples: ["webrlhf worker --cluster nats://trainer:4222 --creds worker.creds"],
  interruptNote: "\ngiving back what is under way; Ctrl-C again stops at once",
  async run(o, { terminal, signal }) {
    const access = await clusterAccess(o.cluster as string, o.creds as string);
    const name = tokenOf(o.workerName ?? `${hostname()}-${process.pid}`);
    await openGpu(terminal);
    const say = (line: string) => terminal.line(line);
    let said = false;
    for (;;) {
      try {
        const connection = await connectCluster(access, `webrlhf worker ${name}`);
        say(`${name} works for ${o.cluster}`);
        const done = await runWorker(connection, { name, adapter: adapterNote(), signal, say });
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
