/** Episodes on a real server of openenv-core, in Python. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openEnvironment } from "webrlhf/open";
import type { Environment, Episode } from "webrlhf/rlhf";
import { said } from "../rlhf/environment/said.ts";
import { python, whyNot } from "./python.ts";

const reason = "WebSocket" in globalThis ? whyNot(["openenv", "uvicorn"]) : "this Node has no WebSocket: Node 22 has";
if (reason) console.log(`skipped, environments of OpenEnv: ${reason}`);

describe.skipIf(reason !== "")("a server of openenv-core", () => {
  let server: ChildProcess;
  let environment: Environment;
  let address: string;
  beforeAll(async () => {
    server = spawn(python, ["test/interop/serve_openenv.py"], { stdio: ["ignore", "pipe", "inherit"] });
    const [printed] = (await once(server.stdout as NodeJS.ReadableStream, "data")) as [Buffer];
    address = `http://127.0.0.1:${Number(String(printed))}`;
    for (let tries = 0; ; tries++) {
      try {
        environment = await openEnvironment(`openenv:${address}`);
        return;
      } catch (error) {
        if (tries === 100) throw error;
        await new Promise((done) => setTimeout(done, 100));
      }
    }
  }, 60_000);
  afterAll(() => void server?.kill());

  const { signal } = new AbortController();
  const begin = async (seed: number, row = {}): Promise<Episode> =>
    environment.reset({ prompt: { text: "", ids: new Uint32Array(), row }, seed, signal });

  it("plays several episodes at once, each with its seed, to their ends", async () => {
    const [first, second] = await Promise.all([begin(2), begin(9, { seed: 4 })]);
    expect(first.observation).toEqual([{ role: "user", content: "guess a number from 1 to 7" }]);
    expect(await first.step(said("5"))).toEqual({
      observation: [{ role: "user", content: "no" }],
      reward: 0,
      done: false,
    });
    expect(await second.step(said("5"))).toEqual({
      observation: [{ role: "user", content: "yes" }],
      reward: 1,
      done: true,
    });
    expect(await first.step(said("3"))).toMatchObject({ reward: 1, done: true });
    for (const one of [first, second]) await one.close?.();
  });

  it("says so where the server has no room for more episodes, and gives the room back", async () => {
    const all = await Promise.all([1, 2, 3, 4].map((seed) => begin(seed)));
    await expect(begin(5)).rejects.toThrow("CAPACITY_REACHED");
    for (const one of all) await one.close?.();
    for (let tries = 0; ; tries++) {
      const again = await begin(5).catch((error: Error) => error);
      if (!(again instanceof Error)) return void (await again.close?.());
      if (tries === 50) throw again;
      await new Promise((done) => setTimeout(done, 50));
    }
  });

  it("says which field an action has, where another one is named", async () => {
    await expect(openEnvironment(`openenv:${address}#code`)).rejects.toThrow("no text field code; there are message");
  });
});
