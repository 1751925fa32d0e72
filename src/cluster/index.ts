/**
 * Draws responses for a cluster's trainers: what `webrlhf worker` does, for programs of your own, in Node, Deno and pages; and has
 * people label pairs of answers.
 * @module cluster
 */
export { type ClusterAccess, type ClusterConnection, connectCluster } from "./connection.ts";
export type { Role } from "./credentials.ts";
export { type Absence, ClusterError } from "./errors.ts";
export { type Invitation, invitationLink, type ReadInvitation, readInvitation } from "./invitation.ts";
export type { LabelChoice, ShownMessage, ShownPair } from "./label-messages.ts";
export { type LabellerOptions, type LabellerState, runLabeller } from "./labeller.ts";
export type { KindName } from "./names.ts";
export { type HeldWeights, holdWeights } from "./policy.ts";
export { ROOMS, roomCode, roomFile } from "./rooms.ts";
export type { WorkerOptions, WorkerState } from "./work.ts";
export { runWorker } from "./worker.ts";
