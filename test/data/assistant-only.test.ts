/** What the assistant says is learned alone only of rows that say who speaks. */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ChatTemplate, worldTokenizer } from "webrlhf/data";
import { type OpenDatasetOptions, openDataset } from "webrlhf/open";

const user = { role: "user", content: "once upon a time" };
const assistant = { role: "assistant", content: "there was a cat" };
const CHAT =
  "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";

async function learned(rows: unknown[] | string, options: OpenDatasetOptions = {}, chat = "") {
  const tokenizer = worldTokenizer();
  tokenizer.chatTemplate = chat ? await ChatTemplate.load(chat, "chat.jinja", {}) : null;
  const data = openDataset(rows as string | Record<string, unknown>[], options);
  const { train } = await data.sequences(tokenizer, { maxLength: 100, assistantOnlyLoss: true });
  return train.map(({ ids, promptLength, learned }) =>
    tokenizer.decode(ids.filter((_, t) => t >= promptLength && learned?.[t] !== 0)).trim(),
  );
}

describe("assistantOnlyLoss", () => {
  it.each([
    ["text", { text: "once upon a time" }],
    ["prompt with a completion", { prompt: "once upon a time", completion: " there was a cat" }],
    ["preference pair", { prompt: "once upon a time", chosen: " there was a cat", rejected: " no" }],
    ["prompt with a completion", { src: ["once upon a time"], tgt: ["there was a cat"] }],
  ])("refuses a %s in strings", async (kind, row) => {
    for (const chat of ["", CHAT]) {
      const found = learned([row], {}, chat);
      await expect(found).rejects.toThrow(new RegExp(`row 1: this is a ${kind}.*assistant_only_loss.*messages`));
    }
  });

  it("refuses the first such row among conversations", async () => {
    const rows = [
      { prompt: [user], completion: [assistant] },
      { prompt: "once", completion: " upon" },
    ];
    await expect(learned(rows)).rejects.toThrow(/row 2: this is a prompt with a completion/);
  });

  it.each([
    ["messages", { messages: [user, assistant] }],
    ["prompt and completion", { prompt: [user], completion: [assistant] }],
    [
      "ShareGPT's conversations",
      {
        conversations: [
          { from: "human", value: "hi" },
          { from: "gpt", value: assistant.content },
        ],
      },
    ],
    ["a pair", { prompt: [user], chosen: [assistant], rejected: [{ role: "assistant", content: "no" }] }],
  ])("takes conversations: %s", async (_, row) => {
    for (const chat of ["", CHAT]) expect((await learned([row], {}, chat))[0]).toContain(assistant.content);
  });

  it("takes LMFlow's conversations, which stand in objects", async () => {
    const file = join(mkdtempSync(join(tmpdir(), "assistant-only-")), "pairs.json");
    const side = (answer: object) => ({ messages: [user, answer] });
    const pair = { chosen: side(assistant), rejected: side({ role: "assistant", content: "no" }) };
    writeFileSync(file, JSON.stringify({ type: "paired_conversation", instances: [pair] }));
    for (const chat of ["", CHAT]) expect((await learned(file, {}, chat))[0]).toContain(assistant.content);
  });

  it("takes strings that are said to be turns", async () => {
    const row = { prompt: "once upon a time", completion: "there was a cat" };
    expect((await learned([row], { template: "turns" }))[0]).toContain(row.completion);
    expect((await learned([row], { template: "chat" }, CHAT))[0]).toContain(row.completion);
  });

  it("is not needed to measure or to keep in mind what conversations and texts say", async () => {
    const rows = [{ text: "once upon a time" }];
    const { train } = await openDataset(rows).sequences(worldTokenizer(), {
      maxLength: 100,
      conversations: "assistant",
    });
    expect(train).toHaveLength(1);
  });
});
