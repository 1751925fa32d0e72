/** Connections over TCP, in Node and Deno: a file of its own, so that bundles for pages leave it out. */
export { connect } from "@nats-io/transport-node";
