/** Clients of NATS that trainers need, and workers do not: a page's bundle is without them. */
import { loaded } from "./packages.ts";

export const trainersPackages = {
  objects: () => loaded(() => import("@nats-io/obj"), "@nats-io/obj"),
  keyValue: () => loaded(() => import("@nats-io/kv"), "@nats-io/kv"),
};
