/** A worker in Deno, by WebSocket as a page: what it draws, and whom the server does not let in. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles, openDevice } from "webrlhf";
import { CausalLM } from "webrlhf/nn";
import { jobsOf, runJob } from "webrlhf/rlhf";
// @ts-expect-error a script without types
import { denoExecutable } from "../../scripts/deno.mjs";
import { tellServer } from "../../src/cluster/connection.ts";
import { mint, newKeys } from "../../src/cluster/credentials.ts";
import { sampling } from "../../src/cluster/kinds.ts";
import { PolicyPublisher } from "../../src/cluster/policy.ts";
import { ClusterTrainer } from "../../src/cluster/trainer.ts";
import type { FileRef } from "../../src/cluster/wire.ts";
import { prompts, tinyConfig } from "../rlhf/tiny.ts";
import { freePort, natsServer, TestCluster } from "./server.ts";

const root = resolve(import.meta.dirname, "../..");
const deno: string | null = denoExecutable();

describe.skipIf(!natsServer || !deno)("a worker in Deno", () => {
  let cluster: TestCluster;
  let url: string;
  let dir: string;
  let base: CausalLM;
  beforeAll(async () => {
    await openDevice();
    base = new CausalLM(tinyConfig()).initialize(3);
    dir = await mkdtemp(join(tmpdir(), "webrlhf-deno-"));
    const port = await freePort();
    url = `ws://127.0.0.1:${port}`;
    const page = "http://localhost:5173/worker/";
    cluster = await TestCluster.start({ pages: { port, page, origins: [new URL(page).origin] } });
  });
  afterAll(async () => {
    base?.destroy();
    await cluster?.close();
    await rm(dir, { recursive: true });
  });

  /** Starts one; `said` grows, `ended` gives its exit code. */
  function worker(creds: string) {
    const words = ["run", "-A", join(root, "src/cli/main.ts"), "worker", "--cluster", url, "--creds", creds];
    const env = { ...process.env, DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" };
    const child: ChildProcess = spawn(deno as string, words, { cwd: dir, env, stdio: ["ignore", "pipe", "pipe"] });
    const one = { child, said: "", ended: once(child, "exit").then(([code]) => code as number) };
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (text) => {
        one.said += text;
      });
    }
    return one;
  }

  it("draws what the policy draws here, and gives its job back when it is told to end", async () => {
    const asked = prompts(6);
    const jobs = jobsOf(
      asked.map(({ ids }) => ids),
      asked.map((_, i) => i),
      { iteration: 0, samples: 2, seed: 5, maxNewTokens: 6, temperature: 0.7, promptsPerJob: 2 },
    );
    const kept = { files: await diskFiles(), folder: join(dir, "results") };
    const options = { run: "deno", who: "test", kept, say: () => {} };
    const one = await ClusterTrainer.open(await cluster.join("trainer"), sampling, options);
    const { vocabSize, eosIds: endIds } = base.config;
    const policy = await new PolicyPublisher().take(base);
    await one.publish(policy);
    await one.request(0, jobs, { policy, vocabSize, endIds });
    const drawing = worker(cluster.creds("worker"));
    const results = await one.take(0, null);
    for (const [i, job] of jobs.entries()) {
      for (const [k, { ids, logProbs = [] }] of (await runJob(base, job)).responses.entries()) {
        const other = results[i].responses[k];
        expect(other.ids).toEqual(ids);
        for (const [t, value] of logProbs.entries()) expect(other.logProbs?.[t]).toBeCloseTo(value, 4);
      }
    }
    await one.close();
    drawing.child.kill("SIGTERM");
    await drawing.ended;
    expect(drawing.said).toContain("stopped after 3 jobs");
  });

  it("makes a whole model's next versions of what has changed, to the byte", async () => {
    const publisher = new PolicyPublisher("f32", true);
    const options = { run: "deltas", who: "test", kept: null, say: () => {} };
    const one = await ClusterTrainer.open(await cluster.join("trainer"), sampling, options);
    const drawing = worker(cluster.creds("worker"));
    const learning = new CausalLM(tinyConfig()).initialize(3);
    try {
      for (let version = 0; version < 3; version++) {
        for (const { value, size } of learning.store.parameters) {
          value.write(Float32Array.from({ length: size }, (_, k) => Math.sin(k) / 10 + version * 1e-5 * Math.cos(k)));
        }
        const whole = await publisher.take(learning);
        expect(whole.deltas).toHaveLength(version > 0 ? 1 : 0);
        // What has changed is all that there is of the later versions.
        const isWhole = ({ name, sha256 }: FileRef) => /safetensors/.test(name) && !sha256.includes("-");
        const put: typeof whole.put = (store) =>
          whole.put({ put: async (ref, bytes) => (version > 0 && isWhole(ref) ? undefined : store.put(ref, bytes)) });
        const policy = { ...whole, put };
        await one.publish(policy);
        const ids = prompts(2).map((prompt) => prompt.ids);
        const jobs = jobsOf(ids, [0, 1], { iteration: version, seed: 5, maxNewTokens: 6, promptsPerJob: 1 });
        const { vocabSize, eosIds: endIds } = learning.config;
        await one.request(version, jobs, { policy, vocabSize, endIds });
        const results = await one.take(version, null, AbortSignal.timeout(60_000));
        for (const [i, job] of jobs.entries()) {
          const expected = (await runJob(learning, job)).responses;
          expect(results[i].responses.map((each) => each.ids)).toEqual(expected.map((each) => each.ids));
        }
      }
    } finally {
      learning.destroy();
      await one.close();
      drawing.child.kill("SIGTERM");
      await drawing.ended;
    }
    expect(drawing.said).toContain("stopped after 6 jobs");
  });

  it("ends where its credential is no good, and says why", async () => {
    const foreign = await mint(await newKeys(), "worker", "worker");
    await writeFile(join(dir, "foreign.creds"), foreign.creds);
    await cluster.folder.invite("worker", "out");
    const { account } = await cluster.folder.revoke("out");
    const system = await readFile(cluster.creds("system"), "utf8");
    await tellServer({ url: cluster.url, creds: system, file: "system.creds" }, account);
    await cluster.folder.invite("worker", "late", { seconds: -5 });
    for (const [file, reason] of [
      [join(dir, "foreign.creds"), /refuses .*foreign\.creds .*another cluster/],
      [cluster.creds("out"), /refuses .*out\.creds .*was revoked/],
      [cluster.creds("late"), /late\.creds expired at/],
    ] as const) {
      const refused = worker(file);
      expect(await refused.ended, refused.said).toBe(1);
      expect(refused.said).toMatch(reason);
    }
  });
});
