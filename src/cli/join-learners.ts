/** A training run that is one of several learners, which meet in a cluster. */
import { hostname } from "node:os";
import { clusterAccess } from "../cluster/access.ts";
import { connectCluster } from "../cluster/connection.ts";
import { ClusterLearners } from "../cluster/learners.ts";
import { UserError } from "../runtime/errors.ts";
import { effective, needs, type SettingsTable } from "../settings/index.ts";
import { network } from "./cluster-settings.ts";
import type { Terminal } from "./terminal.ts";

/** The settings of a method's learners: none where it is trained by one. */
export const learnerSettingsOf = (table: SettingsTable): SettingsTable =>
  "dilocoSteps" in table
    ? {
        ...effective(needs("learner"), {
          cluster: network.text(null, "Server of the cluster where the learners meet, e.g. nats://host:4222"),
          creds: network.path(null, "Credential for the cluster: its trainer.creds"),
        }),
        learner: network.int(null, "Which of several learners this one is, from 1; default: the only one", {
          min: 1,
          max: 999,
          effect: needs("dilocoSteps"),
        }),
        ...effective(needs("learner"), {
          learnersRun: network.text("learners", "Name of the run that the learners have in common"),
          learnersQuorum: network.int(1, "Learners that a round needs", { min: 1 }),
          learnersGrace: network.float(
            600,
            "Seconds that a round with as many waits for the others that are there; who comes later goes on from their state",
            { min: 0 },
          ),
        }),
      }
    : {};

/** What these settings resolve to. */
export interface LearnerChoice {
  cluster?: string | null;
  creds?: string | null;
  dilocoSteps?: number | null;
  learner?: number | null;
  learnersRun?: string;
  learnersQuorum?: number;
  learnersGrace?: number;
}

/**
 * The connection to the other learners that a run's settings name; null where it is the only one.
 * @throws UserError where the settings do not say how they are reached
 */
export async function joinLearners(o: LearnerChoice, terminal: Terminal): Promise<ClusterLearners | null> {
  const { learner = null, learnersRun = "learners", learnersQuorum = 1, learnersGrace = 600 } = o;
  if (learner === null) return null;
  if (!o.cluster || !o.creds) {
    throw new UserError("--learner needs --cluster and --creds: where the learners meet, and the trainer.creds for it");
  }
  const access = await clusterAccess(o.cluster, o.creds);
  const connection = await connectCluster(access, `webrlhf learner ${learner} of ${learnersRun}`);
  try {
    return await ClusterLearners.join(connection, {
      run: learnersRun,
      number: learner,
      who: `${hostname()} ${process.pid}`,
      quorum: learnersQuorum,
      graceMs: 1000 * learnersGrace,
      say: (line) => terminal.line(line),
    });
  } catch (error) {
    await connection.nc.close();
    throw error;
  }
}
