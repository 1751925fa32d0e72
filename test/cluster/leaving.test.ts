import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { runWorker } from "webrlhf/cluster";
import { RunQueue } from "../../src/cluster/queue.ts";
import { ensureStreams, streamsOf } from "../../src/cluster/streams.ts";
import { natsServer, TestCluster } from "./server.ts";

describe.skipIf(!natsServer)("a worker", () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    await openDevice();
    cluster = await TestCluster.start();
  });
  afterAll(() => cluster?.close());

  it("leaves at once when its invitation expires while it waits for a job", async () => {
    const { nc } = await cluster.join("trainer");
    await ensureStreams(await streamsOf(nc), "sample");
    await nc.close();
    await cluster.folder.invite("worker", "brief", { seconds: 6 });
    const worker = await cluster.join("brief");
    const began = Date.now();
    const { signal } = new AbortController();
    const working = runWorker(worker, { name: "brief", adapter: "test", signal });
    await expect(working).rejects.toMatchObject({ absence: "expired" });
    expect(Date.now() - began).toBeLessThan(12_000); // a request for a job waits 30 s
  });

  it("leaves where its credential is for something else, or permits no jobs that it takes", async () => {
    await cluster.folder.invite("labeller", "room");
    const { signal } = new AbortController();
    const working = async (member: string, more: object = {}) => {
      const connection = await cluster.join(member);
      return runWorker({ ...connection, ...more }, { name: "a", adapter: "test", signal, roles: ["score"] });
    };
    await expect(working("room")).rejects.toMatchObject({
      absence: "refused",
      message: expect.stringMatching(/room is to label pairs of answers.*webrlhf cluster invite NAME/),
    });
    await expect(working("trainer")).rejects.toThrow(/trainer is to train, and lets nobody work: take worker\.creds/);
    // One that says nothing of itself is known by what the server says.
    await expect(working("room", { role: null })).rejects.toMatchObject({
      absence: "refused",
      message: expect.stringMatching(/lets nobody take jobs to score.*webrlhf cluster invite NAME/),
    });
  });

  it("leaves where the trainer is another version, names both, and leaves the job to others", async () => {
    const trainer = await cluster.join("trainer");
    const streams = await streamsOf(trainer.nc);
    await ensureStreams(streams, "sample");
    const queue = new RunQueue(streams, "sample", "run");
    await queue.ask("key", 0, new TextEncoder().encode(JSON.stringify({ webrlhf: "0.0.1" })));
    const worker = await cluster.join("worker");
    const said: string[] = [];
    const working = runWorker(worker, {
      name: "old",
      adapter: "test",
      signal: new AbortController().signal,
      watch: ({ at }) => said.push(at),
    });
    await expect(working).rejects.toMatchObject({
      absence: "version",
      message: expect.stringMatching(/the trainer is webrlhf 0\.0\.1 and this worker \d/),
    });
    expect(said).toEqual(["waiting"]);
    expect(await queue.unfinished()).toEqual(new Set(["key"]));
    const results = [];
    for await (const result of queue.results("key")) results.push(result);
    expect(results).toEqual([]);
  });
});
