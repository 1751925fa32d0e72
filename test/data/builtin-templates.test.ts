import { describe, expect, it } from "vitest";
import { builtinTemplate, ChatTemplate } from "webrlhf/data";

const says = (role: string, content: string) => ({ role, content });
const conversation = [says("user", "Hi"), says("assistant", "Hello."), says("user", "Bye"), says("assistant", "Bye!")];

describe("builtin:safe-rlhf", () => {
  const load = (tokens: Record<string, string>) =>
    ChatTemplate.compile(builtinTemplate("builtin:safe-rlhf") as string, "builtin:safe-rlhf", tokens);

  it("writes the prompt format of safe-rlhf and PaddleNLP", async () => {
    const template = await load({ bos_token: "<s>", eos_token: "</s>" });
    expect(template.renderTurn(conversation.slice(0, 3), conversation.slice(3))).toEqual({
      prompt: "<s>BEGINNING OF CONVERSATION: USER: Hi ASSISTANT:Hello.</s>USER: Bye ASSISTANT:",
      completion: "Bye!</s>",
    });
    expect((await load({ eos_token: "</s>" })).renderTurn(conversation.slice(0, 1), [])).toMatchObject({
      prompt: "BEGINNING OF CONVERSATION: USER: Hi ASSISTANT:",
    });
  });

  it("says which parts are the assistant's", async () => {
    const { text, spans } = (await load({ eos_token: "</s>" })).renderAnswers(conversation);
    expect(spans.map(([start, end]) => text.slice(start, end))).toEqual(["Hello.</s>", "Bye!</s>"]);
  });

  it("knows no system messages", async () => {
    const template = await load({});
    expect(() => template.renderTurn([says("system", "Be kind."), ...conversation.slice(0, 1)], [])).toThrow(
      /not system/,
    );
    expect(() => builtinTemplate("builtin:llama")).toThrow(/no chat template builtin:llama/);
    expect(builtinTemplate("my.jinja")).toBeNull();
  });
});
