/** A Hugging Face hub on loopback, with a second host for large files, that can be made to misbehave. */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface FakeRepo {
  commit: string;
  files: Record<string, Uint8Array | string>;
  /** Files from this size on are large ones, with a sha256 and on the other host. */
  largeFrom?: number;
  private?: boolean;
}

export interface FakeHub {
  endpoint: string;
  repos: Record<string, FakeRepo>;
  requests: { path: string; range: string | undefined; token: string | undefined; host: "hub" | "store" }[];
  /** Looks at every file before it is sent; returns true when it has answered. */
  trouble: ((path: string, request: IncomingMessage, response: ServerResponse, bytes: Uint8Array) => boolean) | null;
  close(): Promise<void>;
}

const bytesOf = (content: Uint8Array | string) =>
  typeof content === "string" ? new TextEncoder().encode(content) : content;
export const gitSha1 = (bytes: Uint8Array) =>
  createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
export const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

export async function fakeHub(repos: Record<string, FakeRepo>): Promise<FakeHub> {
  const hub: FakeHub = { endpoint: "", repos, requests: [], trouble: null, close: async () => {} };
  let store = "";
  const answer = (host: "hub" | "store") => (request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? "/", "http://x");
    const { range, authorization: token } = request.headers;
    hub.requests.push({ path: url.pathname, range, token, host });
    const say = (status: number, body: unknown, headers: Record<string, string> = {}) => {
      response.writeHead(status, { "content-type": "application/json", ...headers });
      response.end(request.method === "HEAD" ? undefined : typeof body === "string" ? body : JSON.stringify(body));
    };
    const path = decodeURIComponent(url.pathname);
    const api = /^\/api\/(models|datasets)\/([^/]+\/[^/]+)\/(revision|tree)\/([^/]+)$/.exec(path);
    const file = /^\/(datasets\/)?([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(path);
    const id = api ? `${api[1] === "datasets" ? "datasets/" : ""}${api[2]}` : file ? `${file[1] ?? ""}${file[2]}` : "";
    const repo = repos[id];
    if (!repo) return say(404, "", { "x-error-code": "RepoNotFound", "x-error-message": "Repository not found" });
    if (host === "hub" && repo.private && token !== "Bearer secret")
      return say(401, "", { "x-error-code": "GatedRepo" });
    const large = (bytes: Uint8Array) => bytes.length >= (repo.largeFrom ?? 100);
    if (api?.[3] === "revision") return say(200, { sha: repo.commit, id });
    if (api) {
      const entries = Object.entries(repo.files).map(([name, content]) => {
        const bytes = bytesOf(content);
        const base = { type: "file", path: name, size: bytes.length, oid: gitSha1(bytes) };
        return large(bytes)
          ? { ...base, oid: "0".repeat(40), lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 } }
          : base;
      });
      const page = Number(url.searchParams.get("cursor") ?? 0);
      const next = `<${hub.endpoint}/elsewhere?recursive=true&cursor=${page + 1}>; rel="next"`;
      return say(200, entries.slice(3 * page, 3 * page + 3), 3 * page + 3 < entries.length ? { link: next } : {});
    }
    const content = file ? repo.files[file[4]] : undefined;
    if (!file || content === undefined) return say(404, "", { "x-error-code": "EntryNotFound" });
    const bytes = bytesOf(content);
    const headers = { "x-repo-commit": repo.commit, "accept-ranges": "bytes" };
    if (large(bytes) && host === "hub") {
      const linked = { "x-linked-etag": `"${sha256(bytes)}"`, "x-linked-size": String(bytes.length) };
      return say(302, "", { ...headers, ...linked, location: store + url.pathname });
    }
    if (request.method !== "HEAD" && hub.trouble?.(file[4], request, response, bytes)) return;
    const first = range ? Number(/bytes=(\d+)-/.exec(range)?.[1]) : 0;
    if (range && first >= bytes.length) return say(416, "");
    const more: Record<string, string | number> = {
      ...headers,
      etag: `"${gitSha1(bytes)}"`,
      "content-length": bytes.length - first,
    };
    if (range) more["content-range"] = `bytes ${first}-${bytes.length - 1}/${bytes.length}`;
    response.writeHead(range ? 206 : 200, more);
    response.end(request.method === "HEAD" ? undefined : bytes.subarray(first));
  };
  const servers = await Promise.all(
    (["hub", "store"] as const).map(
      (host) =>
        new Promise<{ url: string; close: () => Promise<void> }>((resolve) => {
          const server = createServer(answer(host));
          server.listen(0, "127.0.0.1", () => {
            const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
            const close = () =>
              new Promise<void>((done) => {
                server.closeAllConnections();
                server.close(() => done());
              });
            resolve({ url, close });
          });
        }),
    ),
  );
  hub.endpoint = servers[0].url;
  store = servers[1].url;
  hub.close = async () => {
    for (const server of servers) await server.close();
  };
  return hub;
}
