import { describe, expect, it } from "vitest";
import { readSampledRows, rowLine, type SampledRow, type ScoredRow, scored } from "webrlhf/data";
import { lmflowContainer } from "../../src/data/scored-rows.ts";

const file = (name: string, text: string) => ({
  name,
  stream: () => new Blob([text]).stream() as ReadableStream<Uint8Array>,
});
const jsonl = (...rows: unknown[]) => file("rows.jsonl", rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
async function read(source: ReturnType<typeof file>): Promise<(SampledRow | ScoredRow)[]> {
  const rows = [];
  for await (const { where: _, ...row } of readSampledRows(source)) rows.push(row);
  return rows;
}

const messages = [{ role: "user", content: "Hi" }];
const row = { prompt: "p", responses: ["a", "b"], rewards: [0.5, -1] };

describe("rows of responses", () => {
  it("are read from Online-RLHF's lines and from its first form", async () => {
    const given = [row, { prompt: messages, responses: ["c"] }];
    expect(await read(jsonl(...given))).toEqual(given);
    const old = { type: "text_only", instances: [{ ...row, input: "ignored" }, row] };
    expect(await read(file("rewards.json", JSON.stringify(old, null, 2)))).toEqual([row, row]);
    expect(await read(file("rewards.json", JSON.stringify(old)))).toEqual([row, row]);
  });

  it("are read from LMFlow's containers, and written as such", async () => {
    const textOf = ({ prompt }: SampledRow) => String(prompt);
    const container = lmflowContainer([row], textOf);
    expect(container).toEqual({
      type: "text_to_scored_textlist",
      instances: [
        {
          input: "p",
          output: [
            { score: 0.5, text: "a" },
            { score: -1, text: "b" },
          ],
        },
      ],
    });
    expect(await read(file("result.json", JSON.stringify(container)))).toEqual([row]);
    const { rewards: _, ...plain } = row;
    const sampled = lmflowContainer([plain], textOf);
    expect(sampled).toEqual({ type: "text_to_textlist", instances: [{ input: "p", output: ["a", "b"] }] });
    expect(await read(file("result.json", JSON.stringify(sampled)))).toEqual([plain]);
  });

  it("keep ids, ends and tokens when they are written", async () => {
    const whole = {
      id: 3,
      ...row,
      ended: [true, false],
      tokenIds: [
        [1, 0],
        [2, 3],
      ],
    };
    const line = rowLine(whole);
    expect(Object.keys(JSON.parse(line))).toEqual(["id", "prompt", "responses", "rewards", "ended", "token_ids"]);
    expect(await read(file("rows.jsonl", `${line}\n`))).toEqual([whole]);
  });

  it.each<[string, unknown, RegExp]>([
    ["no object", 3, /rows.jsonl:1: a row must be an object/],
    ["no prompt", { responses: ["a"] }, /rows.jsonl:1: "prompt" .* must be text or messages, not nothing/],
    ["no responses", { prompt: "p" }, /rows.jsonl:1: "responses" .* must be a list, not nothing/],
    ["a number as response", { prompt: "p", responses: ["a", 3] }, /response 2 must be text, not 3/],
    ["fewer rewards", { ...row, rewards: [1] }, /rows.jsonl:1: 1 rewards for 2 responses; there must be one for each/],
    ["a reward that is no number", { ...row, rewards: [1, null] }, /rewards 2 must be a finite number, not null/],
    ["wrong ends", { ...row, ended: [1, 0] }, /ended 1 must be true or false, not 1/],
    ["wrong tokens", { ...row, token_ids: [[1], [-1]] }, /token_ids 2 must be a list of token ids, not \[-1\]/],
    ["a wrong message", { ...row, prompt: [{ content: "x" }] }, /rows.jsonl:1: message 1 of "prompt" has no role/],
  ])("with %s are refused", async (_, given, message) => {
    await expect(read(jsonl(given))).rejects.toThrow(message);
  });

  it("must be there, and scored where rewards are needed", async () => {
    await expect(read(jsonl())).rejects.toThrow(/rows.jsonl: there are no rows/);
    await expect(read(file("rows.json", '{"type": "text_only", "instances": []}'))).rejects.toThrow(
      /there are no rows/,
    );
    const { rewards: _, ...plain } = row;
    const [whole, bare] = await read(jsonl(row, plain));
    expect(scored({ ...whole, where: "x" })).toEqual({ ...row, where: "x" });
    expect(() => scored({ ...bare, where: "rows.jsonl:2" })).toThrow(
      /rows.jsonl:2 has no rewards: score the responses first/,
    );
  });
});
