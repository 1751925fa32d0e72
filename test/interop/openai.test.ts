/** Python's openai package against the server. Needs a Python with `openai`, which WEBRLHF_PYTHON may name. */
import { execFile, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { tinyServer } from "../serve/tiny-server.ts";

const python = process.env.WEBRLHF_PYTHON ?? "python3";
const script = fileURLToPath(new URL("check_openai.py", import.meta.url));
const there = spawnSync(python, ["-c", "import openai"]).status === 0;
if (!there) console.log(`skipped: ${python} has no openai; WEBRLHF_PYTHON can name a Python that has`);

describe.skipIf(!there)("Python's openai", () => {
  it("completes, chats, streams, and understands errors", async () => {
    const server = await tinyServer({ apiKey: "secret" });
    try {
      const { stdout } = await promisify(execFile)(python, [script, `${server.url}/v1`, "secret"]);
      const found = JSON.parse(stdout);
      const prompt = "Once there was a cat";
      expect(found.models).toEqual(["tiny"]);
      expect(found.texts.map((text: string) => text.slice(0, prompt.length))).toEqual([prompt, prompt]);
      expect(found.streamed).toEqual(found.texts.map((text: string) => text.slice(prompt.length)));
      expect(found.finish.every((f: string) => ["stop", "length"].includes(f))).toBe(true);
      expect(found.logprobs[0].token_logprobs[0]).toBeNull();
      expect(found.logprobs[0].tokens.length).toBe(found.logprobs[0].text_offset.length);
      expect(found.usage.total_tokens).toBe(found.usage.prompt_tokens + found.usage.completion_tokens);
      expect(found.token_ids.length).toBe(12);
      expect(found.spoken).toBe(found.chat);
      expect(found.chat_usage[0]).toBe(found.chat_usage[1]);
      expect(found.chat_logprobs).toBeGreaterThan(0);
      expect(found.errors.BadRequestError).toMatchObject(["BadRequestError", 400, { param: "temperature" }]);
      expect(found.errors.NotFoundError).toMatchObject(["NotFoundError", 404, { code: "model_not_found" }]);
      expect(found.errors.AuthenticationError).toMatchObject(["AuthenticationError", 401, { code: "invalid_api_key" }]);
    } finally {
      await server.stop();
    }
  });
});
