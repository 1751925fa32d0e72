/** The Python client of openenv-core plays an environment that is served here. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { guessEnvironment } from "webrlhf/rlhf";
import { serveEnvironment } from "../../src/serve/openenv/server.ts";
import { python, whyNot } from "./python.ts";

const reason = whyNot(["openenv", "websockets"]);
if (reason) console.log(`skipped, OpenEnv's client: ${reason}`);

describe.skipIf(reason !== "")("openenv-core's client", () => {
  it("plays episodes in sessions of its own, and hears what is wrong", { timeout: 120_000 }, async () => {
    const server = await serveEnvironment(guessEnvironment(7, 5), { port: 0 });
    try {
      const { stdout } = await promisify(execFile)(python, ["test/interop/play_openenv.py", server.url]);
      const begun = [{ text: "guess a number from 1 to 7" }, null, false];
      expect(JSON.parse(stdout)).toEqual([
        begun,
        begun,
        [{ text: "higher" }, 0, false],
        [{ text: "higher" }, 0, false],
        [{ text: "" }, 1, true],
        { episode_id: null, step_count: 3 },
        expect.stringMatching(/the episode is over: reset first \(code: SESSION_ERROR\)/),
        begun,
        [{ text: "" }, 1, true],
      ]);
      expect(server.sessions).toBe(0);
    } finally {
      await server.close();
    }
  });
});
