/** An invitation as a link: the address of a page, with the cluster's and the credential behind the "#", which no server sees. */
import { fromBase64 } from "../runtime/base64.ts";
import { UserError } from "../runtime/errors.ts";
import { utf8 } from "../runtime/utf8.ts";

/** Address and credential with which a page works in a cluster. */
export interface Invitation {
  /** Address of the cluster's server for pages: wss://host:8443. */
  url: string;
  /** The content of a .creds file. */
  creds: string;
}

/** An invitation with what it says of itself; only the server knows whether that holds. */
export interface ReadInvitation extends Invitation {
  /** The credential's name. */
  member: string;
  /** Milliseconds since 1970; null where it does not expire. */
  expires: number | null;
}

const TOKEN = /-----BEGIN NATS USER JWT-----\s+([\w-]+\.[\w-]+\.[\w-]+)\s/;
const SEED = /-----BEGIN USER NKEY SEED-----\s+(SU[A-Z2-7]{56})\s/;

/**
 * Writes a link that lets a page in: whoever has it can work in the cluster until the credential expires.
 * @param page the page's address, e.g. https://host/worker/
 * @throws UserError where the credential is none
 */
export function invitationLink(page: string, { url, creds }: Invitation): string {
  const [token, seed] = [TOKEN, SEED].map((part) => part.exec(creds)?.[1]);
  if (!token || !seed) throw new UserError("the credential is none: webrlhf cluster invite writes one");
  return `${page.replace(/#.*$/s, "")}#${new URLSearchParams({ cluster: url, invite: `${token}.${seed}` })}`;
}

/**
 * Reads such a link, or what stands behind its "#". Null where it is no invitation.
 * @param text white space in it, as mail programs put there, counts for nothing
 */
export function readInvitation(text: string): ReadInvitation | null {
  const words = new URLSearchParams(text.replace(/\s+/g, "").replace(/^[^#]*#/, ""));
  const url = words.get("cluster") ?? "";
  const found = /^([\w-]+\.[\w-]+\.[\w-]+)\.(SU[A-Z2-7]{56})$/.exec(words.get("invite") ?? "");
  if (!found || !/^wss?:\/\/[^\s/]+$/.test(url)) return null;
  const [, token, seed] = found;
  const claims = claimsOf(token);
  if (!claims) return null;
  const creds = [
    "-----BEGIN NATS USER JWT-----",
    token,
    "------END NATS USER JWT------",
    "-----BEGIN USER NKEY SEED-----",
    seed,
    "------END USER NKEY SEED------",
  ];
  const { name, exp } = claims;
  return { url, creds: `${creds.join("\n")}\n`, member: name, expires: exp === undefined ? null : exp * 1000 };
}

function claimsOf(token: string): { name: string; exp?: number } | null {
  try {
    const { name, exp } = JSON.parse(utf8(fromBase64Url(token.split(".")[1])));
    return typeof name === "string" && (exp === undefined || Number.isFinite(exp)) ? { name, exp } : null;
  } catch {
    return null;
  }
}

const fromBase64Url = (text: string): Uint8Array =>
  fromBase64(text.replaceAll("-", "+").replaceAll("_", "/")) ?? new Uint8Array();
