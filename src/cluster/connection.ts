/** A connection to a cluster's server, made so that it outlives the server's restarts. */
import type { NatsConnection } from "@nats-io/nats-core";
import { UserError } from "../runtime/errors.ts";
import { type Role, userOf } from "./credentials.ts";
import { ClusterError } from "./errors.ts";
import { inboxOf } from "./names.ts";
import { packages } from "./packages.ts";

/** Where a cluster is, and who comes. */
export interface ClusterAccess {
  /** nats://host:4222, or wss://host:8443 from a page. */
  url: string;
  /** The content of a .creds file. */
  creds: string;
  /** How the file is called, for messages. */
  file: string;
}

/** A connection, and whose it is. */
export interface ClusterConnection {
  nc: NatsConnection;
  /** The credential's name: a part of the subjects it may speak under. */
  user: string;
  /** When the credential expires, in Unix seconds; null or absent where it does not. */
  expires?: number | null;
  /** What the credential is for; null or absent where it does not say. */
  role?: Role | null;
  /** Whether the credential permits answers to who asks, as a trainer's does, but for old ones. Default: false. */
  answers?: boolean;
}

/** The URL without what nobody should read in a log. */
const shown = (url: string): string => url.replace(/\/\/[^@/]*@/, "//");

/**
 * Connects. A connection that breaks later is made again, as often as it takes.
 * @param name what the server calls it
 * @throws ClusterError where nobody answers, or where the credential is refused or has expired; UserError where it is none
 */
export async function connectCluster({ url, creds, file }: ClusterAccess, name: string): Promise<ClusterConnection> {
  const byWebSocket = /^wss?:/.test(url);
  if (byWebSocket && !("WebSocket" in globalThis)) {
    throw new UserError(
      `${shown(url)}: this Node has no WebSocket; take the address with nats:// or tls://, or Node 22`,
    );
  }
  const { name: user, ...claims } = await userOf(creds, file);
  const { credsAuthenticator, wsconnect } = await packages.core();
  if (claims.expires !== null && claims.expires * 1000 <= Date.now()) {
    const when = new Date(claims.expires * 1000).toISOString();
    throw new ClusterError("expired", `${file} expired at ${when}: ask for a new invitation`);
  }
  const options = {
    servers: url,
    name,
    authenticator: credsAuthenticator(new TextEncoder().encode(creds)),
    inboxPrefix: inboxOf(user),
    maxReconnectAttempts: -1,
    reconnectTimeWait: 500,
    reconnectJitter: 500,
    timeout: 10_000,
    pingInterval: 20_000,
  };
  try {
    const connect = byWebSocket ? wsconnect : (await packages.node()).connect;
    return { nc: await connect(options), user, ...claims };
  } catch (error) {
    throw explained(error, url, file);
  }
}

function explained(error: unknown, url: string, file: string): Error {
  const reason = error instanceof Error ? error.message : String(error);
  // The server gives a client some seconds to sign: one that is too busy for that is not refused.
  const late = /authentication timeout/i.test(reason);
  if (!late && /authori[sz]ation|authentication|revoked|expired|nkey|permission/i.test(reason)) {
    return new ClusterError(
      /expired/i.test(reason) ? "expired" : "refused",
      `${shown(url)} refuses ${file} (${reason}): it belongs to another cluster, has expired or was revoked; ` +
        "webrlhf cluster invite makes a new one",
      { cause: error },
    );
  }
  const page = "Deno" in globalThis ? undefined : (globalThis as { location?: { origin: string } }).location?.origin;
  if (page) {
    return new ClusterError(
      "unreachable", // a page is not told which of these it is
      `no cluster answers this page at ${shown(url)}: it does not run, the address is wrong or a firewall is between, this browser ` +
        `does not know its certificate, or its --page and --origins do not name ${page}`,
      { cause: error },
    );
  }
  if (
    late ||
    /refused|ENOTFOUND|EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|timeout|closed|ECONNRESET|disconnect/i.test(reason)
  ) {
    return new ClusterError(
      "unreachable",
      `no cluster answers at ${shown(url)} (${reason}): start it with nats-server -c cluster/nats.conf, and look at the ` +
        "address, the port and the firewall between",
      { cause: error },
    );
  }
  return error instanceof Error ? error : new Error(reason);
}

/**
 * Tells a running server what has changed in its accounts.
 * @param token the account's new claims
 * @throws UserError where the server does not take them
 */
export async function tellServer(access: ClusterAccess, account: { key: string; token: string }): Promise<void> {
  const { nc } = await connectCluster(access, "webrlhf cluster");
  try {
    const answer = await nc.request(`$SYS.REQ.ACCOUNT.${account.key}.CLAIMS.UPDATE`, account.token, { timeout: 5000 });
    const { error } = answer.json<{ error?: { description?: string } }>();
    if (error) throw new UserError(`the server does not take the change: ${error.description ?? "no reason given"}`);
  } finally {
    await nc.close();
  }
}
