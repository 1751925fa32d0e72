/** The clients of NATS: optional packages, loaded when a cluster is first spoken of. */
import { UserError } from "../runtime/errors.ts";

/** Loads one. Throws a UserError with the remedy where it is missing. */
export async function loaded<T>(load: () => Promise<T>, name: string): Promise<T> {
  try {
    return await load();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split("\n")[0] : cause;
    throw new UserError(
      `a cluster needs the package ${name}, which does not load: ${reason}. Install it with: npm install ` +
        "@nats-io/nats-core @nats-io/transport-node @nats-io/jetstream @nats-io/obj @nats-io/kv @nats-io/jwt",
      { cause },
    );
  }
}

/** What everybody in a cluster needs, pages among them. */
export const packages = {
  core: () => loaded(() => import("@nats-io/nats-core"), "@nats-io/nats-core"),
  node: () => loaded(() => import("./node-transport.ts"), "@nats-io/transport-node"),
  jetstream: () => loaded(() => import("@nats-io/jetstream"), "@nats-io/jetstream"),
  jwt: () => loaded(() => import("@nats-io/jwt"), "@nats-io/jwt"),
};
