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

describe("LMFlow's formats", () => {
  const tokens = { bos_token: "<s>", eos_token: "</s>" };
  const system = [says("system", "Be kind.")];
  const written = async (name: string, messages: readonly ReturnType<typeof says>[]) =>
    (await ChatTemplate.compile(builtinTemplate(`builtin:${name}`) as string, name, tokens)).renderTurn(
      messages.slice(0, -1),
      messages.slice(-1),
    );

  it.each([
    [
      "chatml",
      "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
      "Hello.<|im_end|>\n",
    ],
    [
      "qwen2",
      "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
      "Hello.<|im_end|>\n",
    ],
    [
      "yi",
      "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
      "Hello.<|im_end|>\n",
    ],
    ["yi1_5", "Be kind.<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "Hello.<|im_end|>\n"],
    [
      "internlm2",
      "<s><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
      "Hello.<|im_end|>\n",
    ],
    ["llama2", "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST]", "Hello.</s>"],
    [
      "llama3",
      "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
      "Hello.<|eot_id|>",
    ],
    ["phi3", "<s><|system|>\nBe kind.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\n", "Hello.<|end|>\n</s>"],
    ["fox", "<|system|>\nBe kind.</s><|user|>\nHi</s><|assistant|>\n", "Hello.</s>"],
    ["zephyr", "<|system|>\nBe kind.</s>\n<|user|>\nHi</s>\n<|assistant|>\n", "Hello.</s>"],
    ["deepseek_v2", "<s>Be kind.\n\nUser: Hi\n\nAssistant:", " Hello.</s>"],
    ["deepseek_v3", "<s>Be kind.<｜User｜>Hi<｜Assistant｜>", "Hello.<｜end▁of▁sentence｜>"],
  ])("%s", async (name, prompt, completion) => {
    expect(await written(name, [...system, ...conversation.slice(0, 2)])).toEqual({ prompt, completion });
  });

  it.each([
    ["gemma", "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", "Hello.<end_of_turn>\n"],
    ["empty", "<s>Hi", "Hello.</s>"],
    ["empty_no_special_tokens", "Hi", "Hello."],
  ])("%s, which knows no system messages", async (name, prompt, completion) => {
    expect(await written(name, conversation.slice(0, 2))).toEqual({ prompt, completion });
    await expect(written(name, [...system, ...conversation.slice(0, 2)])).rejects.toThrow(/not system/);
  });

  it.each([
    ["llama2", "<s>[INST] Hi [/INST]Hello.</s><s>[INST] Bye [/INST]", "Bye!</s>"],
    [
      "phi3",
      "<s><|user|>\nHi<|end|>\n<|assistant|>\nHello.<|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\n",
      "Bye!<|end|>\n</s>",
    ],
    ["zephyr", "<|user|>\nHi</s>\n<|assistant|>\nHello.</s>\n<|user|>\nBye</s>\n<|assistant|>\n", "Bye!</s>"],
    ["deepseek_v2", "<s>User: Hi\n\nAssistant: Hello.</s>User: Bye\n\nAssistant:", " Bye!</s>"],
  ])("%s, over two turns", async (name, prompt, completion) => {
    expect(await written(name, conversation)).toEqual({ prompt, completion });
  });

  it("tell each role by its name, or refuse it", async () => {
    const tool = [...conversation.slice(0, 2), says("tool", "7"), says("assistant", "Seven.")];
    expect((await written("chatml", tool)).prompt).toContain("<|im_start|>tool\n7<|im_end|>\n");
    await expect(written("deepseek_v3", tool)).rejects.toThrow(/systems only, not tool/);
    await expect(written("llama2", tool)).rejects.toThrow(/not tool/);
  });
});
