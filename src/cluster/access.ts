/** What a person names of a cluster: its server and a credential's file. */
import { UserError } from "../runtime/errors.ts";
import { diskFiles } from "../runtime/files.ts";
import { utf8 } from "../runtime/utf8.ts";
import type { ClusterAccess } from "./connection.ts";

/**
 * Reads the credential. Node and Deno.
 * @throws UserError where the file is missing, or the address is none
 */
export async function clusterAccess(url: string, file: string): Promise<ClusterAccess> {
  if (!/^(nats|tls|wss?):\/\/[^\s/]+/.test(url)) {
    throw new UserError(`${url} is no cluster's address: write nats://HOST:4222, tls://HOST:4222 or wss://HOST:8443`);
  }
  const bytes = await (await diskFiles()).read(file);
  if (!bytes) {
    throw new UserError(`${file}: no such file; webrlhf cluster init writes trainer.creds and worker.creds`);
  }
  return { url, creds: utf8(bytes), file };
}
