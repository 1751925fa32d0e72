/** Weights from a web server beside the cluster's own store: looked at alike, and not missed where it fails. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { diskFiles, openDevice } from "webrlhf";
import { CausalLM } from "webrlhf/nn";
import { jobsOf, runJob } from "webrlhf/rlhf";
import { sha256Of } from "../../src/cluster/blobs.ts";
import { sampling } from "../../src/cluster/kinds.ts";
import { decodeJob, encodeJob } from "../../src/cluster/messages.ts";
import { fromMirror } from "../../src/cluster/mirror.ts";
import { PolicyPublisher } from "../../src/cluster/policy.ts";
import { ClusterTrainer } from "../../src/cluster/trainer.ts";
import { prompts, tinyConfig } from "../rlhf/tiny.ts";
import { natsServer, TestCluster } from "./server.ts";

let server: Server;
let url: string;
let answer: RequestListener;
beforeAll(async () => {
  server = createServer((request, response) => answer(request, response)).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/weights`;
});
afterAll(() => server.close());

describe("a file from a mirror", () => {
  const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i % 251);
  const file = async () => ({ name: "m.safetensors", sha256: await sha256Of(bytes), size: bytes.length });

  it("is asked for by its hash, and has its bytes", async () => {
    const asked: (string | undefined)[] = [];
    answer = (request, response) => {
      asked.push(request.url);
      response.end(bytes);
    };
    const one = await file();
    const heard: number[] = [];
    expect(await fromMirror(`${url}/`, one, (_, count) => heard.push(count))).toEqual(bytes);
    expect(asked).toEqual([`/weights/${one.sha256}`]);
    expect(heard.at(-1)).toBe(1000);
  });

  it.each([
    ["is not there", (): Uint8Array | null => null, /HTTP 404/],
    ["has other bytes", () => bytes.map((byte) => byte ^ 1), /other bytes than those of m\.safetensors/],
    ["is cut off", () => bytes.subarray(0, 999), /other bytes/],
    ["does not end", () => new Uint8Array(1 << 22), /more than the 1000 bytes of m\.safetensors/],
  ])("is refused where it %s", async (_, content, why) => {
    answer = (_request, response) => {
      const body = content();
      response.on("error", () => {});
      if (body) response.end(body);
      else response.writeHead(404).end();
    };
    await expect(fromMirror(url, await file())).rejects.toThrow(why);
  });

  it("is not asked for at an address that is none of the web's", async () => {
    const [job] = jobsOf([Uint32Array.of(1)], [0], { iteration: 0, seed: 1, maxNewTokens: 2 });
    const base = [{ name: "a", sha256: "0".repeat(64), size: 1 }];
    for (const mirror of ["file:///etc", "ftp://host/", "nowhere"]) {
      const { bytes } = await encodeJob("run", { policy: { base, adapter: null, mirror }, job });
      expect(() => decodeJob(bytes)).toThrow(/not well-formed/);
    }
  });
});

describe.skipIf(!natsServer)("a cluster with a mirror", () => {
  let cluster: TestCluster;
  let base: CausalLM;
  let adapted: CausalLM;
  let dir: string;
  beforeAll(async () => {
    await openDevice();
    cluster = await TestCluster.start();
    base = new CausalLM(tinyConfig()).initialize(3);
    adapted = new CausalLM({ base, lora: { rank: 2, alpha: 4, targets: "all-linear" } }).initialize(9);
  });
  afterAll(async () => {
    adapted?.destroy();
    base?.destroy();
    await cluster?.close();
  });
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "webrlhf-mirror-"));
  });
  afterEach(async () => {
    await cluster.part();
    await rm(dir, { recursive: true });
  });

  const trainer = async (run: string) => {
    const files = await diskFiles();
    const one = await ClusterTrainer.open(await cluster.join("trainer"), sampling, {
      ...{ run, who: "test", kept: null, say: () => {}, waitsMs: 1500 },
      mirror: { files, folder: join(dir, "weights"), url },
    });
    cluster.closing(() => one.close());
    return one;
  };
  const worker = (said: string[]) => cluster.worker({ say: (line) => void said.push(line) });
  const jobsAt = (iteration: number) => {
    const asked = prompts(4);
    const ids = asked.map((prompt) => prompt.ids);
    const options = { iteration, seed: 5, maxNewTokens: 6, promptsPerJob: 2 };
    return jobsOf(ids, [0, 1, 2, 3], options);
  };
  /** Two versions of an adapter, drawn with. */
  const drawTwice = async (one: Awaited<ReturnType<typeof trainer>>) => {
    const publisher = new PolicyPublisher();
    const policies = [];
    for (let version = 0; version < 2; version++) {
      for (const { value, size } of adapted.store.parameters) {
        value.write(Float32Array.from({ length: size }, (_, k) => Math.sin(k + version) / 10));
      }
      const policy = await publisher.take(adapted);
      policies.push(policy);
      await one.publish(policy);
      const jobs = jobsAt(version);
      await one.request(version, jobs, { policy, vocabSize: base.config.vocabSize, endIds: base.config.eosIds });
      const results = await one.take(version, null);
      for (const [i, job] of jobs.entries()) expect(results[i]).toEqual(await runJob(adapted, job));
    }
    return policies;
  };

  it("sends workers there, the base once and each adapter, and clears what is old", async () => {
    const asked: string[] = [];
    answer = async (request, response) => {
      const name = request.url?.split("/").at(-1) ?? "";
      asked.push(name);
      response.end(await readFile(join(dir, "weights", name)));
    };
    const said: string[] = [];
    await worker(said);
    const [first, second] = await drawTwice(await trainer("mirrored"));
    const names = (files: readonly { sha256: string }[]) => files.map(({ sha256 }) => sha256);
    expect([...asked].sort()).toEqual([...names(first.files), ...names(second.ref.adapter ?? [])].sort());
    expect(said.join()).not.toMatch(/weights come from the cluster's server/);
    // The version before stays, for a worker that is late; what only older ones had goes.
    expect((await readdir(join(dir, "weights"))).sort()).toEqual(
      [...new Set([...names(first.files), ...names(second.files)])].sort(),
    );
  });

  it("goes on with the cluster's own store where the mirror is broken, and says so once", async () => {
    answer = (_request, response) => response.end("an error page");
    const said: string[] = [];
    await worker(said);
    await drawTwice(await trainer("broken"));
    const lines = said.filter((line) => /weights come from the cluster's server/.test(line));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(url);
  });
});
