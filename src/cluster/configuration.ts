/** A cluster's folder: the server's configuration, who is a member, and their credentials. */
import { UserError } from "../runtime/errors.ts";
import { type Files, parseJson } from "../runtime/files.ts";
import { join } from "../runtime/paths.ts";
import { type Claims, type ClusterKeys, claimsOf, type Member, mint, newKeys } from "./credentials.ts";
import { type PagesChoice, pagesText } from "./pages.ts";

/** How a cluster's server is reached. */
export interface ServerChoice {
  /** Address that the server listens at. Default 127.0.0.1: this machine alone. */
  host: string;
  port: number;
  /** PEM files of the server's certificate and its key. Without them nothing is encrypted. */
  certificate?: { cert: string; key: string } | null;
  /** How pages reach it. Default null: none does. */
  pages?: PagesChoice | null;
  /** Absolute folder for the server's streams. */
  store: string;
  /** Every message is on the disk before it is acknowledged; servers before 2.10 do not know of it. Default true. */
  syncs?: boolean;
}

interface Kept {
  server: ServerChoice;
  members: Record<string, Member>;
}

/** Writes a file that only its owner may read. */
export type WriteSecret = (path: string, text: string) => Promise<void>;

/** The largest message, bytes: a job's result is one. */
export const MAX_PAYLOAD = 8 << 20;

const KEYS = "keys.json";
const CLUSTER = "cluster.json";
/** The server's configuration in a cluster's folder. */
export const CONFIGURATION = "nats.conf";

/** A cluster's folder on the disk of who set it up. */
export class ClusterFolder {
  readonly path: string;
  readonly server: ServerChoice;
  readonly members: Record<string, Member>;
  private readonly files: Files;
  private readonly keys: ClusterKeys;
  private readonly writeSecret: WriteSecret;

  private constructor(files: Files, path: string, kept: Kept, keys: ClusterKeys, writeSecret: WriteSecret) {
    this.files = files;
    this.path = path;
    this.server = kept.server;
    this.members = kept.members;
    this.keys = keys;
    this.writeSecret = writeSecret;
  }

  /** Makes a new one, with credentials for a trainer and for workers. Throws UserError where there is one already. */
  static async create(
    files: Files,
    path: string,
    server: ServerChoice,
    writeSecret: WriteSecret,
  ): Promise<ClusterFolder> {
    if ((await files.read(join(path, KEYS))) !== null) {
      throw new UserError(`${path} holds a cluster already: invite more workers into it, or choose another folder`);
    }
    const keys = await newKeys();
    const folder = new ClusterFolder(files, path, { server, members: {} }, keys, writeSecret);
    await writeSecret(join(path, KEYS), `${JSON.stringify(keys, null, 2)}\n`);
    for (const role of ["trainer", "worker", "system"] as const) await folder.invite(role, role);
    await folder.save();
    return folder;
  }

  /** Opens one. Throws UserError where there is none. */
  static async open(files: Files, path: string, writeSecret: WriteSecret): Promise<ClusterFolder> {
    const read = async <T>(name: string): Promise<T> => {
      const content = await files.read(join(path, name));
      if (content) return parseJson<T>(content, join(path, name));
      throw new UserError(`${path} holds no cluster (${name} is missing): make one with webrlhf cluster init`);
    };
    return new ClusterFolder(files, path, await read<Kept>(CLUSTER), await read<ClusterKeys>(KEYS), writeSecret);
  }

  /** Adds a member and writes NAME.creds. Throws UserError where the name is taken. */
  async invite(
    role: Member["role"],
    name: string,
    choice: { seconds?: number; label?: string; room?: string } = {},
  ): Promise<{ file: string; creds: string; member: Member }> {
    if (Object.hasOwn(this.members, name)) throw new UserError(`${name} is a member already: choose another name`);
    const minted = await mint(this.keys, role, name, choice);
    this.members[name] = minted.member;
    const file = join(this.path, `${name}.creds`);
    await this.writeSecret(file, minted.creds);
    await this.save();
    return { file, ...minted };
  }

  /** Refuses a member from now on, and closes its room. The running server has to be told: see `tellServer`. */
  async revoke(name: string): Promise<Claims> {
    const member = Object.hasOwn(this.members, name) ? this.members[name] : undefined;
    if (!member) {
      throw new UserError(`${name} is no member of this cluster: ${Object.keys(this.members).join(", ")}`);
    }
    if (member.role === "system")
      throw new UserError("the system's own credential cannot be revoked: it revokes others");
    member.revoked = Math.floor(Date.now() / 1000);
    if (member.room !== undefined) await this.files.remove(member.room);
    return this.save();
  }

  /** Writes the members and the server's configuration. */
  private async save(): Promise<Claims> {
    const claims = await claimsOf(this.keys, this.members);
    const kept: Kept = { server: this.server, members: this.members };
    await this.files.writeFile(join(this.path, CLUSTER), `${JSON.stringify(kept, null, 2)}\n`);
    await this.files.writeFile(join(this.path, CONFIGURATION), configurationText(this.server, claims));
    return claims;
  }
}

/** The server's configuration file. */
function configurationText(server: ServerChoice, claims: Claims): string {
  const { host, port, certificate, pages, store, syncs = true } = server;
  const text = (value: string) => JSON.stringify(value);
  const tls = certificate
    ? ["tls {", `  cert_file: ${text(certificate.cert)}`, `  key_file: ${text(certificate.key)}`, "  timeout: 10", "}"]
    : [];
  return `${[
    "# Written by webrlhf cluster; start the server with: nats-server -c nats.conf",
    `listen: ${text(`${host}:${port}`)}`,
    `max_payload: ${MAX_PAYLOAD}`,
    // A machine that computes with all its cores may need a while to answer.
    "authorization { timeout: 10 }",
    ...tls,
    ...(pages ? pagesText(host, pages, certificate ?? null) : []),
    "jetstream {",
    `  store_dir: ${text(store)}`,
    ...(syncs ? ["  # A message is on the disk before it is acknowledged.", "  sync_interval: always"] : []),
    "}",
    `operator: ${text(claims.operator)}`,
    `system_account: ${text(claims.system.key)}`,
    "resolver: MEMORY",
    "resolver_preload: {",
    `  ${claims.account.key}: ${text(claims.account.token)}`,
    `  ${claims.system.key}: ${text(claims.system.token)}`,
    "}",
  ].join("\n")}\n`;
}
