/** Who gets into a cluster, and what each may do there, by a real server. */
import { once } from "node:events";
import { readFile, stat } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectCluster } from "webrlhf/cluster";
import { tellServer } from "../../src/cluster/connection.ts";
import { claimsOf, mint, newKeys } from "../../src/cluster/credentials.ts";
import { packages } from "../../src/cluster/packages.ts";
import { natsServer, TestCluster } from "./server.ts";

const text = (path: string) => readFile(path, "utf8");

describe.skipIf(!natsServer)("a cluster's server", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await TestCluster.start();
  });
  afterAll(() => cluster?.close());

  it("lets in whom it knows", async () => {
    for (const name of ["trainer", "worker", "system"]) {
      const { nc, user } = await cluster.join(name);
      expect(user).toBe(name);
      await nc.close();
    }
  });

  it("keeps what is secret for its owner", async () => {
    for (const name of ["keys.json", "trainer.creds", "worker.creds", "system.creds"]) {
      expect((await stat(join(cluster.folder.path, name))).mode & 0o777, name).toBe(0o600);
    }
    const open =
      (await text(join(cluster.folder.path, "nats.conf"))) + (await text(join(cluster.folder.path, "cluster.json")));
    const keys = JSON.parse(await text(join(cluster.folder.path, "keys.json")));
    for (const seed of Object.values<string>(keys)) expect(open).not.toContain(seed);
  });

  it("refuses who has no credential, a stranger's, an expired one, or one with another's seed", async () => {
    const { connect } = await packages.node();
    await expect(connect({ servers: cluster.url, reconnect: false })).rejects.toThrow(/authoriz/i);
    const foreign = await mint(await newKeys(), "worker", "worker");
    const known = await text(cluster.creds("worker"));
    const block = (creds: string, kind: string) =>
      new RegExp(`-----BEGIN ${kind}[^]*?END ${kind}-*`).exec(creds)?.[0] as string;
    const mixed = known.replace(block(known, "USER NKEY SEED"), block(foreign.creds, "USER NKEY SEED"));
    for (const creds of [foreign.creds, mixed]) {
      const joining = connectCluster({ url: cluster.url, creds, file: "x.creds" }, "test");
      await expect(joining).rejects.toThrow(/refuses x\.creds .*another cluster, has expired or was revoked/);
    }
    const { creds } = await cluster.folder.invite("worker", "late", { seconds: -5 });
    const late = connectCluster({ url: cluster.url, creds, file: "late.creds" }, "test");
    await expect(late).rejects.toThrow(/late\.creds expired at .*: ask for a new invitation/);
  });

  it("says so where nobody answers", async () => {
    const { creds } = await cluster.folder.invite("worker", "lost");
    const joining = connectCluster({ url: "nats://127.0.0.1:1", creds, file: "lost.creds" }, "test");
    await expect(joining).rejects.toThrow(/no cluster answers at nats:\/\/127\.0\.0\.1:1 .*nats-server -c/);
  });

  it("does not call a credential refused where only the time to sign has run out", async () => {
    const busy = createServer((socket) => {
      socket.write(`INFO ${JSON.stringify({ server_id: "S", version: "2.10.0", max_payload: 1024, nonce: "n" })}\r\n`);
      socket.on("error", () => {}).once("data", () => socket.end("-ERR 'Authentication Timeout'\r\n"));
    }).listen(0, "127.0.0.1");
    await once(busy, "listening");
    const { creds } = await cluster.folder.invite("worker", "slow");
    const { port } = busy.address() as { port: number };
    try {
      const joining = connectCluster({ url: `nats://127.0.0.1:${port}`, creds, file: "slow.creds" }, "test");
      await expect(joining).rejects.toThrow(/no cluster answers at .*Authentication Timeout/);
    } finally {
      busy.close();
    }
  });

  it("ends the connection of an invitation on the second that it expires", async () => {
    await cluster.folder.invite("worker", "brief", { seconds: 6 });
    const { nc } = await cluster.join("brief");
    const closed = await Promise.race([
      nc.closed().then(() => true),
      new Promise((r) => setTimeout(() => r(false), 30_000)),
    ]);
    expect(closed).toBe(true);
  });

  it("throws a revoked member out, and refuses it after a restart, too", async () => {
    await cluster.folder.invite("worker", "cheat");
    const { nc } = await cluster.join("cheat");
    const { account } = await cluster.folder.revoke("cheat");
    await tellServer({ url: cluster.url, creds: await text(cluster.creds("system")), file: "system.creds" }, account);
    const closed = await Promise.race([
      nc.closed().then(() => true),
      new Promise((r) => setTimeout(() => r(false), 9000)),
    ]);
    expect(closed).toBe(true);
    await expect(cluster.join("cheat")).rejects.toThrow(/was revoked/);
    await (await cluster.join("worker")).nc.close();
    await cluster.kill();
    await cluster.up();
    await expect(cluster.join("cheat")).rejects.toThrow(/was revoked/);
  });

  it("lets a worker speak under its own name only", async () => {
    const { nc } = await cluster.join("worker");
    let seen: string[] = [];
    void (async () => {
      for await (const status of nc.status()) if (status.type === "error") seen.push(status.error.message);
    })();
    const refused = async (subject: string, hear = false) => {
      seen = [];
      if (hear) nc.subscribe(subject, { callback: () => {} });
      else nc.publish(subject, "x");
      await nc.flush();
      await new Promise((resolve) => setTimeout(resolve, 5)); // the complaint came before the answer, and is told after it
      return seen.some((message) => /permissions violation/i.test(message) && message.includes(`"${subject}"`));
    };
    for (const subject of [
      "result.other.run.key",
      "job.sample.run.key.0",
      "hello.other",
      "$O.blobs.C.x",
      "$KV.runs.run",
      "$JS.API.STREAM.DELETE.JOBS",
      "$JS.API.STREAM.PURGE.JOBS",
      "$JS.API.STREAM.MSG.DELETE.RESULTS",
      "$JS.API.STREAM.MSG.GET.RESULTS",
      "$JS.API.DIRECT.GET.RESULTS",
      "$JS.API.CONSUMER.CREATE.RESULTS",
      "$JS.API.CONSUMER.CREATE.OBJ_blobs",
      "$SYS.REQ.ACCOUNT.A.CLAIMS.UPDATE",
    ]) {
      expect(await refused(subject), subject).toBe(true);
    }
    for (const subject of ["result.>", "_INBOX_trainer.>", "_INBOX.>", "job.>", "hello.>"]) {
      expect(await refused(subject, true), subject).toBe(true);
    }
    expect(await refused("result.worker.run.key")).toBe(false);
    expect(await refused("hello.worker")).toBe(false);
    await nc.close();
  });

  it("has claims that name nobody's seed", async () => {
    const keys = await newKeys();
    const { member } = await mint(keys, "worker", "w");
    const claims = await claimsOf(keys, { w: { ...member, revoked: 5 } });
    expect(
      JSON.parse(Buffer.from(claims.account.token.split(".")[1], "base64url").toString()).nats.revocations,
    ).toEqual({
      [member.key]: 5,
    });
  });
});
