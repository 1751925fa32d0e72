// Runs where WEBRLHF_PYTHON names a Python with `trl` and `transformers`.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { type ChatMessage, ChatTemplate } from "webrlhf/data";

const python = process.env.WEBRLHF_PYTHON;
if (!python) console.log("skipped: set WEBRLHF_PYTHON to a Python with trl to compare its chat templates");

interface Case {
  name: string;
  source: string;
  messages: ChatMessage[];
  prompted: boolean;
  tools: unknown[] | null;
  tokens: Record<string, string>;
  text?: string;
  spans?: [number, number][];
}

/** Templates of models that see pictures want their messages in parts, and go over the letters of a text. */
const PICTURES = /^(idefics|llava|smolvlm)/;

describe.skipIf(!python)("transformers in Python", () => {
  it("writes conversations by TRL's templates alike, and finds the assistant's words there", async () => {
    const script = fileURLToPath(new URL("./check_chat.py", import.meta.url));
    const result = spawnSync(python as string, [script], { encoding: "utf8", maxBuffer: 1 << 28 });
    expect(result.status, result.stderr).toBe(0);
    let compared = 0;
    for (const one of JSON.parse(result.stdout) as Case[]) {
      if (one.text === undefined || PICTURES.test(one.name)) continue;
      const template = await ChatTemplate.compile(one.source, one.name, one.tokens);
      const options = { addGenerationPrompt: one.prompted, tools: one.tools };
      expect(template.render(one.messages, options), one.name).toBe(one.text);
      compared++;
      if (!template.marksAnswers) continue;
      // Python counts code points.
      const at = (point: number) => [...(one.text as string)].slice(0, point).join("").length;
      const spans = one.spans?.map(([start, end]) => [at(start), at(end)]);
      expect(template.renderAnswers(one.messages, options).spans, one.name).toEqual(spans);
    }
    expect(compared).toBeGreaterThan(500);
  });
});
