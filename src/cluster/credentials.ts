/**
 * Who may do what in a cluster: JSON Web Tokens of NATS, made without a server. One operator, an account for the work, one for the
 * system; a trainer may ask for jobs and put weights, a worker may take jobs, read weights and speak under its own name only, and who
 * labels may take pairs and say which answer is better.
 */
import type { KeyPair } from "@nats-io/nkeys";
import { UserError } from "../runtime/errors.ts";
import {
  BLOBS,
  helloSubject,
  inboxOf,
  isToken,
  JOBS,
  jobsOfKind,
  kinds,
  LEARNERS,
  type QueueName,
  queues,
  RUNS,
} from "./names.ts";
import { packages } from "./packages.ts";

/** The cluster's secret keys, as seeds. Who has them can let anybody in. */
export interface ClusterKeys {
  operator: string;
  account: string;
  system: string;
}

/** A member's part in a cluster, to which its credential is cut. */
export type Role = "trainer" | "worker" | "labeller" | "system";

/** Somebody with a credential. */
export interface Member {
  /** Public key. */
  key: string;
  role: Role;
  /** Unix seconds; without it the credential does not expire. */
  expires?: number;
  /** What it was made for, in a person's words. */
  label?: string;
  /** The file beside a page that has its invitation under a room's code. */
  room?: string;
  /** Unix seconds from which on it is refused. */
  revoked?: number;
}

/** A user whose credential can be written to a file. */
export interface Minted {
  member: Member;
  /** The content of a .creds file. */
  creds: string;
}

/** Who may answer may so for some seconds, in nanoseconds: once, where it was asked to. */
const ANSWER_NS = 10e9;

/** Makes keys for a new cluster. */
export async function newKeys(): Promise<ClusterKeys> {
  const { createAccount, createOperator } = await packages.jwt();
  const seed = (pair: KeyPair) => new TextDecoder().decode(pair.getSeed());
  return { operator: seed(createOperator()), account: seed(createAccount()), system: seed(createAccount()) };
}

/** Subjects that a role may publish to and hear. */
function permissions(role: Role, name: string): { pub: string[]; sub: string[]; answers?: boolean } {
  const sub = [`${inboxOf(name)}.>`];
  if (role === "system") return { pub: ["$SYS.REQ.ACCOUNT.*.CLAIMS.UPDATE"], sub };
  if (role === "trainer") {
    const buckets = [`$O.${BLOBS}.>`, `$KV.${RUNS}.>`, `$KV.${LEARNERS}.>`];
    return {
      pub: [...queues.map(jobsOfKind), "$JS.API.>", ...buckets],
      sub: [...sub, "result.>", "vote.>", "hello.>"],
      answers: true,
    };
  }
  if (role === "labeller") return { pub: [`vote.${name}.*.*`, ...takes("label")], sub };
  const pub = [
    `result.${name}.*.*`,
    helloSubject(name),
    ...kinds.flatMap(takes),
    // Reading a stream needs no consumer of one's own, which could be told to deliver to others' subjects.
    `$JS.API.DIRECT.GET.OBJ_${BLOBS}`,
    `$JS.API.DIRECT.GET.OBJ_${BLOBS}.>`,
  ];
  return { pub, sub };
}

/** What takes jobs of a kind. */
const takes = (kind: QueueName): string[] => [
  `$JS.API.CONSUMER.INFO.${JOBS[kind]}.${kind}`,
  `$JS.API.CONSUMER.MSG.NEXT.${JOBS[kind]}.${kind}`,
  `$JS.ACK.${JOBS[kind]}.${kind}.>`,
];

/**
 * Makes a user of the cluster.
 * @param name a part of the subjects it speaks under; letters, digits, "-" and "_"
 * @param choice seconds from now on that it holds
 * @throws UserError for a name that cannot be one
 */
export async function mint(
  keys: ClusterKeys,
  role: Role,
  name: string,
  choice: { seconds?: number; label?: string; room?: string } = {},
): Promise<Minted> {
  if (!isToken(name)) {
    throw new UserError(`${name} cannot be a member's name: take up to 64 letters, digits, "-" and "_"`);
  }
  const { createUser, encodeUser, fmtCreds } = await packages.jwt();
  const user = createUser();
  const { pub, sub, answers } = permissions(role, name);
  const expires = choice.seconds === undefined ? undefined : now() + choice.seconds;
  const token = await encodeUser(
    name,
    user,
    role === "system" ? keys.system : keys.account,
    {
      pub: { allow: pub, deny: [] },
      sub: { allow: sub, deny: [] },
      ...(answers && { resp: { max: 1, ttl: ANSWER_NS } }),
    },
    expires === undefined ? {} : { exp: expires },
  );
  const member: Member = {
    key: user.getPublicKey(),
    role,
    ...(expires !== undefined && { expires }),
    ...(choice.label !== undefined && { label: choice.label }),
    ...(choice.room !== undefined && { room: choice.room }),
  };
  return { member, creds: new TextDecoder().decode(fmtCreds(token, user)) };
}

/** What a server is told of a cluster: its operator, and the accounts with who is refused in them. */
export interface Claims {
  operator: string;
  account: { key: string; token: string };
  system: { key: string; token: string };
}

/** The cluster's claims, with the members that are revoked. */
export async function claimsOf(keys: ClusterKeys, members: Record<string, Member>): Promise<Claims> {
  const { encodeAccount, encodeOperator, fromSeed } = await packages.jwt();
  const pair = (seed: string) => fromSeed(new TextEncoder().encode(seed));
  const [operator, account, system] = [pair(keys.operator), pair(keys.account), pair(keys.system)];
  const revocations = Object.fromEntries(
    Object.values(members).flatMap(({ key, revoked }) => (revoked === undefined ? [] : [[key, revoked]])),
  );
  const unlimited = { mem_storage: -1, disk_storage: -1, streams: -1, consumer: -1 };
  const ours = await encodeAccount(
    "webrlhf",
    account,
    { limits: { ...everything, ...unlimited }, ...(Object.keys(revocations).length > 0 && { revocations }) },
    { signer: operator },
  );
  const theirs = await encodeAccount("system", system, { limits: everything }, { signer: operator });
  return {
    operator: await encodeOperator("webrlhf", operator, { system_account: system.getPublicKey() }),
    account: { key: account.getPublicKey(), token: ours },
    system: { key: system.getPublicKey(), token: theirs },
  };
}

const everything = {
  subs: -1,
  data: -1,
  payload: -1,
  imports: -1,
  exports: -1,
  wildcards: true,
  conn: -1,
  leaf: -1,
};

/** What credentials are for, in words. */
export const PURPOSES: Record<Role, string> = {
  trainer: "to train",
  worker: "to work",
  labeller: "to label pairs of answers",
  system: "to tell the server of its members",
};

/** Who is the only one to speak under some subject. */
const SPEAKS: readonly [RegExp, Role][] = [
  [/^job\./, "trainer"],
  [/^result\./, "worker"],
  [/^vote\./, "labeller"],
  [/^\$SYS\./, "system"],
];

/**
 * The user that a credential is of, what it is for, and whether it permits answers to who asks.
 * @throws UserError where the text is no credential
 */
export async function userOf(
  creds: string,
  file: string,
): Promise<{ name: string; expires: number | null; role: Role | null; answers: boolean }> {
  const { parseCreds } = await packages.jwt();
  try {
    const { uc } = await parseCreds(new TextEncoder().encode(creds));
    const allowed = uc.nats.pub?.allow ?? [];
    const role = SPEAKS.find(([subject]) => allowed.some((one) => subject.test(one)))?.[1] ?? null;
    return { name: uc.name, expires: uc.exp ?? null, role, answers: uc.nats.resp !== undefined };
  } catch (cause) {
    throw new UserError(
      `${file} is no credential: name a .creds file that webrlhf cluster init or invite has written`,
      { cause },
    );
  }
}

const now = () => Math.floor(Date.now() / 1000);
