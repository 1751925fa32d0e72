/** A hub on loopback: one repository's files, with ranges and hashes as Hugging Face's gives them. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import fs from "node:fs/promises";
import http from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { pipeline } from "node:stream/promises";

const COMMIT = "c0ffee".padEnd(40, "0");
/** What is larger has a sha256, as files in Git LFS have. */
const SMALL = 1 << 20;

export interface FakeHub {
  address: string;
  /** Bytes of files and of answers that were sent so far, and requests that came. */
  sent: number;
  requests: number;
  /** Milliseconds between pieces of a file, to have a slow network. */
  delay: number;
  close(): Promise<void>;
}

/**
 * Serves files as a repository of the hub.
 * @param repo org/name
 * @param files by their names in the repository
 */
export async function fakeHub(repo: string, files: Readonly<Record<string, string>>): Promise<FakeHub> {
  const listed = await Promise.all(
    Object.entries(files).map(async ([name, file]) => {
      const { size } = await fs.stat(file);
      const sha256 = createHash("sha256");
      const git = createHash("sha1").update(`blob ${size}\0`);
      for await (const piece of createReadStream(file)) {
        sha256.update(piece);
        git.update(piece);
      }
      const oid = git.digest("hex");
      return { type: "file", path: name, size, oid, ...(size > SMALL && { lfs: { oid: sha256.digest("hex"), size } }) };
    }),
  );
  const hub = { sent: 0, requests: 0, delay: 0 };
  const server = http.createServer(async (request, response) => {
    const url = new URL(request.url ?? "/", "http://localhost");
    const cors = {
      "access-control-allow-origin": "*",
      "access-control-allow-headers": "*",
      "access-control-expose-headers": "content-range, link, etag",
    };
    if (request.method === "OPTIONS") return void response.writeHead(204, cors).end();
    hub.requests += 1;
    const json = (value: unknown) => {
      const text = JSON.stringify(value);
      hub.sent += text.length;
      response.writeHead(200, { ...cors, "content-type": "application/json" }).end(text);
    };
    if (url.pathname.startsWith(`/api/models/${repo}/revision/`)) return json({ sha: COMMIT });
    if (url.pathname === `/api/models/${repo}/tree/${COMMIT}`) return json(listed);
    const name = decodeURIComponent(url.pathname.replace(`/${repo}/resolve/${COMMIT}/`, ""));
    const file = Object.hasOwn(files, name) ? path.resolve(files[name]) : null;
    if (!file) return void response.writeHead(404, cors).end("not found");
    const { size } = await fs.stat(file);
    const [, from = "0", to = ""] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
    const start = Number(from);
    const end = to === "" ? size - 1 : Math.min(Number(to), size - 1);
    const isPart = request.headers.range !== undefined;
    response.writeHead(isPart ? 206 : 200, {
      ...cors,
      "content-length": end - start + 1,
      ...(isPart && { "content-range": `bytes ${start}-${end}/${size}` }),
    });
    const pieces = async function* () {
      for await (const piece of createReadStream(file, { start, end })) {
        hub.sent += piece.length;
        yield piece;
        if (hub.delay > 0) await new Promise((resolve) => setTimeout(resolve, hub.delay));
      }
    };
    await pipeline(pieces, response).catch(() => {}); // whoever asked went away
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return Object.assign(hub, {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}
