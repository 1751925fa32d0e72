/** Pages in a cluster: whom the server takes, by a real one, and what links and the command line say of them. */
import { readFile, rm } from "node:fs/promises";
import http from "node:http";
import https from "node:https";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { main } from "webrlhf/cli";
import { type ClusterError, connectCluster, invitationLink, readInvitation } from "webrlhf/cluster";
import { tellServer } from "../../src/cluster/connection.ts";
import { mint, newKeys } from "../../src/cluster/credentials.ts";
import { silentTerminal } from "../cli/terminal.ts";
import { freePort, natsServer, serveFolder, TestCluster } from "./server.ts";

const fixture = (name: string) => resolve(import.meta.dirname, "fixtures", name);
const cert = fixture("localhost.pem");
const key = fixture("localhost.key.pem");
const page = "https://school.example/webrlhf/worker/";

/** Runs a verb; gives its exit code and what it said. */
async function cluster(...words: string[]): Promise<{ code: number; said: string }> {
  const lines: string[] = [];
  const terminal = silentTerminal();
  terminal.line = (line) => void lines.push(line);
  terminal.result = (line) => void lines.push(line);
  return { code: await main(["cluster", ...words], terminal), said: lines.join("\n") };
}

/** What a server answers to a page of an origin that would speak WebSocket with it; null sends no origin. */
const upgraded = (url: string, origin: string | null, ca?: Buffer): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    const headers = {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
      ...(origin !== null && { origin }),
    };
    const request = url.startsWith("https:")
      ? https.request(url, { headers, ...(ca && { ca }) })
      : http.request(url, { headers });
    request.on("upgrade", ({ statusCode }, socket) => {
      socket.destroy();
      resolve(statusCode);
    });
    request.on("response", ({ statusCode }) => resolve(statusCode));
    request.on("error", reject);
    request.end();
  });

describe("an invitation", () => {
  it("is a link that nobody but the page reads, and survives a mail program", async () => {
    const { creds } = await mint(await newKeys(), "worker", "room-12", { seconds: 60 });
    const link = invitationLink(`${page}#old`, { url: "wss://school.example:8443", creds });
    const url = new URL(link);
    expect(url.origin + url.pathname + url.search).toBe(page);
    expect(link.length).toBeLessThan(1500);
    for (const text of [link, url.hash, `\n ${link.slice(0, 300)}\n${link.slice(300)} `]) {
      const read = readInvitation(text);
      expect(read).toMatchObject({ url: "wss://school.example:8443", member: "room-12" });
      expect(((read?.expires ?? 0) - Date.now()) / 1000).toBeGreaterThan(50);
      expect(invitationLink(page, read as { url: string; creds: string })).toBe(link);
    }
    const broken = [
      "",
      page,
      link.slice(0, -40),
      link.replace("wss", "https"),
      link.replace("invite=", "invite=e.e.e"),
    ];
    for (const text of [...broken, `${page}#cluster=wss%3A%2F%2Fx&invite=a.b.c.SUAA`]) {
      expect(readInvitation(text), text).toBeNull();
    }
    expect(() => invitationLink(page, { url: "ws://x", creds: "hello" })).toThrow(/the credential is none/);
  });
});

describe("webrlhf cluster init --browsers", () => {
  const refused: [string, RegExp][] = [
    ["--browsers --host 0.0.0.0", /with TLS only, .*give --tls_cert and --tls_key, or leave out --host/],
    [`--browsers --host 0.0.0.0 --tls_cert ${cert} --tls_key ${key}`, /where the page for workers lies: --page/],
    ["--browsers --page http://192.168.1.5/worker/", /--page .* WebGPU on https:\/\/ and on http:\/\/localhost only/],
    ["--browsers --page worker/", /--page worker\/: a page has WebGPU/],
    ["--browsers --origins https://a.example/path", /--origins https:\/\/a\.example\/path: an origin is .*alone/],
    ["--browsers --origins http://localhost:1,http://localhost:2", /--origins has two of the host localhost/],
    ["--websocket_port 99", /--websocket_port has no effect without --browsers/],
    ["--page https://a.example/", /--page has no effect unless --browsers is given/],
  ];
  it("refuses what no page could work with", async () => {
    const folder = join(tmpdir(), `webrlhf-pages-${process.pid}`);
    for (const [words, reason] of refused) {
      const { code, said } = await cluster("init", "--cluster_dir", folder, ...words.split(" "));
      expect([code, said], words).toEqual([1, expect.stringMatching(reason)]);
    }
    await expect(readFile(join(folder, "nats.conf"))).rejects.toThrow(); // and makes nothing
  });
});

describe.skipIf(!natsServer)("a cluster's server for pages", () => {
  let one: TestCluster;
  let http: string;
  const origins = ["http://localhost:5173", "https://school.example"];
  beforeAll(async () => {
    const port = await freePort();
    http = `http://127.0.0.1:${port}/`;
    one = await TestCluster.start({ pages: { port, page, origins } });
  });
  afterAll(() => one?.close());

  it("takes pages of the origins that it was told, and no others", async () => {
    for (const origin of origins) expect(await upgraded(http, origin), origin).toBe(101);
    for (const origin of ["http://localhost:5174", "http://school.example", "https://evil.example", "null"]) {
      expect(await upgraded(http, origin), origin).toBe(403);
    }
    expect(await upgraded(http, null)).toBe(101); // no page: what it brings beside an origin counts
  });

  const hasWebSocket = "WebSocket" in globalThis;
  const ws = () => http.replace(/^http/, "ws").replace(/\/$/, "");
  const join12 = (url: string, creds: string) => connectCluster({ url, creds, file: "the link" }, "test");
  const absence = (joining: Promise<unknown>) => joining.catch(({ absence }: ClusterError) => absence);

  it.skipIf(!hasWebSocket)("lets in by WebSocket whom it lets in otherwise", async () => {
    const { creds } = await one.folder.invite("worker", "room-12");
    const { nc, user } = await join12(ws(), creds);
    expect(user).toBe("room-12");
    await nc.flush();
    const { account } = await one.folder.revoke("room-12");
    const system = await readFile(one.creds("system"), "utf8");
    await tellServer({ url: one.url, creds: system, file: "system.creds" }, account);
    await nc.closed();
    expect(await absence(join12(ws(), creds))).toBe("refused");
    const foreign = await mint(await newKeys(), "worker", "room-12");
    expect(await absence(join12(ws(), foreign.creds))).toBe("refused");
    const late = await one.folder.invite("worker", "late", { seconds: -5 });
    expect(await absence(join12(ws(), late.creds))).toBe("expired");
    expect(await absence(join12("ws://127.0.0.1:1", (await one.folder.invite("worker", "lost")).creds))).toBe(
      "unreachable",
    );
  });

  it.skipIf(hasWebSocket)("says what a Node without WebSocket can take instead", async () => {
    const creds = await readFile(one.creds("worker"), "utf8");
    await expect(join12(ws(), creds)).rejects.toThrow(/this Node has no WebSocket; take the address with nats:\/\//);
  });

  it("encrypts with its certificate, whose name the invitation's link has", async () => {
    const folder = join(one.dir, "encrypted");
    const [port, websocket] = [await freePort(), await freePort()];
    const words = `init --cluster_dir ${folder} --host 0.0.0.0 --port ${port} --browsers --websocket_port ${websocket}`;
    const made = await cluster(...words.split(" "), "--page", page, "--tls_cert", cert, "--tls_key", key);
    expect(made, made.said).toMatchObject({
      code: 0,
      said: expect.stringContaining("pages of https://school.example"),
    });
    const invited = await cluster("invite", "room-12", "--cluster_dir", folder);
    expect(invited.said).toMatch(/send it as you would a password/);
    const link = readInvitation(/https:\S+#\S+/.exec(invited.said)?.[0] ?? "");
    expect(link).toMatchObject({ url: `wss://localhost:${websocket}`, member: "room-12" });
    const named = ["--cluster", "tls://a.example:4222", "--page", "https://b.example/"];
    const other = await cluster("invite", "--cluster_dir", folder, ...named);
    expect(other.said).toMatch(
      new RegExp(`^https://b\\.example/#cluster=wss%3A%2F%2Fa\\.example%3A${websocket}&`, "m"),
    );
    const server = await serveFolder(folder);
    try {
      const ca = await readFile(cert);
      expect(await upgraded(`https://localhost:${websocket}/`, "https://school.example", ca)).toBe(101);
      expect(await upgraded(`https://localhost:${websocket}/`, "https://evil.example", ca)).toBe(403);
    } finally {
      await server.close();
      await rm(folder, { recursive: true });
    }
  });

  it("invites no page where none may come", async () => {
    const folder = join(one.dir, "without");
    await cluster("init", "--cluster_dir", folder);
    expect((await cluster("invite", "--cluster_dir", folder)).said).not.toContain("#cluster=");
    const asked = await cluster("invite", "--cluster_dir", folder, "--page", page);
    expect(asked).toMatchObject({ code: 1, said: expect.stringContaining("was made without --browsers") });
  });
});
