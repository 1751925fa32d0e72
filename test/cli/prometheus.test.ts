import { request } from "node:http";
import { describe, expect, it } from "vitest";
import { serveMetrics } from "../../src/cli/prometheus.ts";
import { parsed } from "./parse.ts";

/** The status and body of an answer, with headers that `fetch` would not send. */
const ask = (url: string, headers: Record<string, string> = {}, method = "GET") =>
  new Promise<[status: number, body: string]>((resolve, reject) => {
    const sent = request(url, { headers, method }, (answer) => {
      let body = "";
      answer.on("data", (piece) => {
        body += piece;
      });
      answer.on("end", () => resolve([answer.statusCode ?? 0, body]));
    });
    sent.on("error", reject).end();
  });

describe("numbers for Prometheus", () => {
  it("are the newest of every metric, for this machine's programs alone", async () => {
    const { url, logger, close } = await serveMetrics(0);
    try {
      await logger.log(1, { loss: 3, "objective/kl": 0.5 });
      await logger.log(2, { loss: Number.NaN, worst: Number.NEGATIVE_INFINITY });
      const lines = (await ask(url))[1].split("\n").filter((line) => line !== "" && !line.startsWith("#"));
      expect(lines).toEqual(["webrlhf_step 2", "webrlhf_loss NaN", "webrlhf_objective_kl 0.5", "webrlhf_worst -Inf"]);
      expect((await ask(url, { Host: "evil.example" }))[0]).toBe(403);
      expect((await ask(url, { Origin: "http://evil.example" }))[0]).toBe(403);
      expect((await ask(url, {}, "POST"))[0]).toBe(405);
      expect((await ask(url.replace("/metrics", "/other")))[0]).toBe(404);
      await expect(serveMetrics(Number(new URL(url).port))).rejects.toThrow("another program listens there");
    } finally {
      await close();
    }
    await expect(ask(url)).rejects.toThrow();
  });

  it("are asked for by a port of every training verb", async () => {
    for (const verb of ["sft", "raft"]) {
      const words = [verb, "--model_name_or_path", "m", "--metrics_port", "9"];
      const { values } = await parsed(verb === "raft" ? [...words, "--reward_model_path", "r"] : words);
      expect(values).toMatchObject({ metricsPort: 9 });
    }
  });
});
