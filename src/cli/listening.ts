/** What verbs have in common that listen for others until they are stopped. */
import { isIP } from "node:net";
import { group } from "../settings/index.ts";

const network = group("Network");

/** Where a verb listens. */
export const listening = {
  host: network.text("127.0.0.1", "Address to listen on; 0.0.0.0 lets other machines in"),
  port: network.int(8000, "Port; 0 takes any free one", { min: 0, max: 65535 }),
  allowedHosts: network.list(null, "Host names, besides localhost and addresses, under which the server answers"),
};

/** Whether only this machine reaches an address. */
export const isLoopback = (host: string): boolean =>
  host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));

/** Resolves when the process is asked to stop. */
export function stopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
