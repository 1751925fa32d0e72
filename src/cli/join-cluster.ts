/** A training run that lets a cluster's workers draw its responses. */
import { createHash } from "node:crypto";
import { hostname } from "node:os";
import { clusterAccess } from "../cluster/access.ts";
import { ClusterFolder } from "../cluster/configuration.ts";
import { connectCluster, tellServer } from "../cluster/connection.ts";
import { tokenOf } from "../cluster/names.ts";
import { clusterSource } from "../cluster/source.ts";
import { ClusterTrainer } from "../cluster/trainer.ts";
import { probability } from "../rlhf/settings.ts";
import type { RolloutSource } from "../rlhf/source.ts";
import { isUserError, UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { absolute, basename, dirname, join } from "../runtime/paths.ts";
import { writeSecret } from "../runtime/secrets.ts";
import { effective, needs } from "../settings/index.ts";
import { clusterSettings, network } from "./cluster-settings.ts";
import type { Terminal } from "./terminal.ts";

/** Methods whose policy draws responses. */
const online: readonly string[] = ["ppo", "grpo", "rloo", "reinforce", "raft", "iterate"];

/** The settings of a method's cluster: none where it draws nothing. */
export const clusterSettingsOf = (method: string) =>
  online.includes(method)
    ? {
        cluster: clusterSettings.cluster,
        ...effective(needs("cluster"), {
          creds: clusterSettings.creds,
          check: network.float(
            0,
            "Part of the workers' results that are drawn again here, beside each worker's first one; 0 trusts all workers",
            probability,
          ),
        }),
      }
    : {};

/** What these settings resolve to. */
export interface ClusterChoice {
  cluster?: string | null;
  creds?: string | null;
  check?: number;
  maxStaleness?: number;
}

/** How long a run waits for its cluster's server when it begins. */
const WAIT_MS = 20_000;
const RETRY_MS = 1000;

/** Accepted results of a run, in its folder: they are of use until it ends. */
const RESULTS = "cluster";

/** The name of a run, the same whenever it goes on in its folder. */
function runName(outputDir: string): string {
  const path = absolute(outputDir);
  const id = createHash("sha256").update(`${hostname()} ${path}`).digest("hex").slice(0, 10);
  return `${tokenOf(basename(path)).slice(0, 40)}-${id}`;
}

/** A server that is just being started, or started again, is waited for. */
async function patiently<R>(enter: () => Promise<R>, say: (line: string) => void): Promise<R> {
  for (const began = Date.now(); ; ) {
    try {
      return await enter();
    } catch (error) {
      const away = !isUserError(error) || /^no cluster answers/.test(error.message);
      if (!away || Date.now() - began > WAIT_MS) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      if (Date.now() - began < RETRY_MS) say(`${reason}; waiting ${WAIT_MS / 1000} s for it`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/** Puts a member out, where the cluster's own folder is at hand. */
async function revoked(files: Files, folder: string, url: string, member: string): Promise<void> {
  const cluster = await ClusterFolder.open(files, folder, writeSecret).catch(() => {
    throw new UserError(`its cluster's keys are elsewhere: webrlhf cluster revoke ${member}, where they are`);
  });
  const { account } = await cluster.revoke(member);
  await tellServer(await clusterAccess(url, join(folder, "system.creds")), account);
}

/** The source of a run's responses in the cluster that its settings name; null without one. */
export async function joinCluster(
  o: ClusterChoice,
  { files, outputDir, terminal }: { files: Files; outputDir: string; terminal: Terminal },
): Promise<{ source: RolloutSource; ended: () => Promise<void> } | null> {
  if (!o.cluster) return null;
  if (!o.creds) {
    throw new UserError("--cluster needs --creds: the trainer.creds that webrlhf cluster init has written");
  }
  const access = await clusterAccess(o.cluster, o.creds);
  const run = runName(outputDir);
  const folder = join(outputDir, RESULTS);
  const say = (line: string) => terminal.line(line);
  const { check = 0 } = o;
  const revoke = (member: string) => revoked(files, dirname(absolute(o.creds as string)), access.url, member);
  const enter = async (): Promise<ClusterTrainer> => {
    const connection = await connectCluster(access, `webrlhf trainer ${run}`);
    try {
      const who = `${hostname()} ${process.pid}`;
      return await ClusterTrainer.open(connection, { run, who, files, folder, say, check, revoke });
    } catch (error) {
      await connection.nc.close();
      throw error;
    }
  };
  const open = async (): Promise<ClusterTrainer> => {
    const trainer = await patiently(enter, say);
    say(`responses are drawn in the cluster ${o.cluster}, run ${run}`);
    return trainer;
  };
  const source = clusterSource(open, { onPolicy: (o.maxStaleness ?? 0) === 0 });
  return { source, ended: () => files.remove(folder) };
}
