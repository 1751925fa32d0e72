/** Where a cluster is: what trainers and workers are told of it. */
import { group } from "../settings/index.ts";

export const network = group("Cluster");

export const clusterSettings = {
  cluster: network.text(
    null,
    "Server of a cluster whose workers draw the responses, e.g. nats://host:4222: see webrlhf cluster",
  ),
  creds: network.path(
    null,
    "Credential for the cluster: trainer.creds or worker.creds, as webrlhf cluster writes them",
  ),
};
