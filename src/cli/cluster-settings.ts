/** Where a cluster is: what whoever asks for work, and workers, are told of it. */
import { probability } from "../rlhf/settings.ts";
import { effective, group, needs } from "../settings/index.ts";

export const network = group("Cluster");

/**
 * A cluster's address, and the credential for it.
 * @param what its workers do, in words
 */
export const clusterSettings = (what: string) => ({
  cluster: network.text(null, `Server of a cluster whose workers ${what}, e.g. nats://host:4222: see webrlhf cluster`),
  creds: network.path(
    null,
    "Credential for the cluster: trainer.creds or worker.creds, as webrlhf cluster writes them",
  ),
});

/** The settings of who asks a cluster's workers for something. */
export const askingSettings = (what: string) => {
  const { cluster, creds } = clusterSettings(what);
  return {
    cluster,
    ...effective(needs("cluster"), {
      creds,
      check: network.float(
        0,
        "Part of the workers' results that are computed again here, beside each worker's first one; 0 trusts all workers",
        probability,
      ),
      mirrorUrl: network.text(
        null,
        "Address of a folder on the web from which workers take weights, e.g. https://cdn.example/weights; see mirror_dir",
      ),
      ...effective(needs("mirrorUrl"), {
        mirrorDir: network.path(
          null,
          "Folder into which weights are written for that address, each named by its hash; what is old is removed",
        ),
      }),
    }),
  };
};

/** The settings of who lets workers draw for a policy that learns. */
export const drawingSettings = effective(needs("cluster"), {
  weightDeltas: network.bool(
    true,
    "Without an adapter, let workers fetch what has changed since the last version, a third to a half of the weights' bytes",
  ),
});
