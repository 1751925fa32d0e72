/**
 * Episodes written by chat templates of the kinds that families have: tools' answers wrapped in a person's turn (Qwen), under a header of their own
 * (Llama 3), between marks without a turn (Mistral). The text is what the template writes of the finished conversation.
 */
import { describe, expect, it } from "vitest";
import { ChatTemplate } from "webrlhf/data";
import { type Environment, toolEnvironment } from "webrlhf/rlhf";
import { beginEpisode, playEpisode } from "../../../src/rlhf/environment/episode.ts";

const line = "{{ '\\n' }}";
const qwen = [
  "{% if tools %}<|im_start|>system\nTools:{% for tool in tools %} {{ tool.function.name }}{% endfor %}<|im_end|>",
  `${line}{% endif %}{% for m in messages %}{% if m.role == 'tool' %}`,
  "{% if loop.first or messages[loop.index0 - 1].role != 'tool' %}<|im_start|>user{% endif %}",
  `${line}<tool_response>\n{{ m.content }}\n</tool_response>`,
  `{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>${line}{% endif %}`,
  `{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>${line}{% endif %}{% endfor %}`,
  `{% if add_generation_prompt %}<|im_start|>assistant${line}{% endif %}`,
].join("");

const llama = `{% for m in messages %}<|start_header_id|>{{ 'ipython' if m.role == 'tool' else m.role }}<|end_header_id|>

{{ m.content | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>

{% endif %}`;

const mistral = `<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]{% elif m.role == 'tool' %}{% if m.tool_call_id | length != 9 %}{{ raise_exception('an id has nine letters') }}{% endif %}[TOOL_RESULTS] {{ m.content }}[/TOOL_RESULTS]{% else %}{{ m.content }}</s>{% endif %}{% endfor %}`;

const SPECIAL = /<\|\w+\|>|<\/?s>|\[\/?[A-Z_]+\]/g;

/** Characters as tokens, but for what stands in marks of a template: those are special. */
async function characters(source: string, end: string) {
  const chatTemplate = await ChatTemplate.compile(source, "template.jinja");
  const marks = new Map<string, number>();
  const names: string[] = [];
  const special = (mark: string) => {
    if (!marks.has(mark)) {
      marks.set(mark, 0x200000 + marks.size);
      names.push(mark);
    }
    return marks.get(mark) as number;
  };
  return {
    vocabSize: 0x200100,
    eosId: special(end),
    bosId: undefined,
    padId: undefined,
    chatTemplate,
    encode: (text: string) =>
      text
        .split(/(<\|\w+\|>|<\/?s>|\[\/?[A-Z_]+\])/)
        .flatMap((part) =>
          part.match(SPECIAL)?.[0] === part ? [special(part)] : Array.from(part, (c) => c.codePointAt(0) as number),
        ),
    decode: (ids: ArrayLike<number>, { skipSpecialTokens = true } = {}) =>
      Array.from(ids, (id) =>
        id < 0x200000 ? String.fromCodePoint(id) : skipSpecialTokens ? "" : names[id - 0x200000],
      ).join(""),
    checkFits: () => {},
  };
}

const adding = toolEnvironment({
  name: "adding",
  tools: [{ name: "add", description: "Adds", parameters: {}, run: ({ a, b }) => Number(a) + Number(b) }],
  ask: () => [{ role: "user", content: "2 + 3?" }],
  reward: (answer) => Number(answer.includes("5")),
});

async function played(source: string, end: string, says: readonly string[], environment: Environment = adding) {
  const tokenizer = await characters(source, end);
  const ends = [tokenizer.eosId, ...tokenizer.encode("<|eom_id|>")];
  const stopped = new Promise<never>(() => {});
  const limits = { maxTurns: 5, maxTokens: 1000, maxLength: 5000, timeout: 1000, ends, stopped };
  const prompt = { text: "", ids: new Uint32Array(0), row: {} };
  const begun = await beginEpisode(environment, { prompt, seed: 1, where: "prompt 0" }, tokenizer, limits);
  const response = await playEpisode(
    begun,
    async (_, __, turn) => {
      const ids = tokenizer.encode(says[turn]);
      return { ids, logProbs: ids.map(() => -1), ended: true };
    },
    limits,
  );
  const spelled = (ids: ArrayLike<number>) => tokenizer.decode(ids, { skipSpecialTokens: false });
  const written = response.ids.filter((_, t) => response.learned?.[t] === 1);
  return { response, tokenizer, text: spelled(response.ids), written: spelled(written) };
}

describe("an episode of tools", () => {
  it("is what Qwen's kind of template writes of the finished conversation", async () => {
    const call = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call>';
    const says = [`${call}${call}<|im_end|>`, "It is 5.<|im_end|>"];
    const { response, tokenizer, text, written } = await played(qwen, "<|im_end|>", says);
    expect(response.turns?.map(({ calls, reward }) => [calls.length, reward])).toEqual([
      [2, 0],
      [0, 1],
    ]);
    expect(written).toBe(says.join(""));
    expect(text).toBe(
      "<|im_start|>system\nTools: add<|im_end|>\n<|im_start|>user\n2 + 3?<|im_end|>\n<|im_start|>assistant\n" +
        `${says[0]}\n<|im_start|>user\n<tool_response>\n5\n</tool_response>\n<tool_response>\n5\n</tool_response><|im_end|>\n` +
        `<|im_start|>assistant\n${says[1]}`,
    );
    const tools = [{ function: { name: "add" } }];
    expect(tokenizer.chatTemplate.render(response.messages ?? [], { tools })).toBe(`${text}\n`);
  });

  it("may end a call by another token than the template writes, as Llama 3's does", async () => {
    const says = ['{"name": "add", "parameters": {"a": 2, "b": 3}}<|eom_id|>', "5<|eot_id|>"];
    const { text, written } = await played(llama, "<|eot_id|>", says);
    expect(written).toBe(says.join(""));
    expect(text).toBe(
      "<|start_header_id|>user<|end_header_id|>\n\n2 + 3?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n" +
        `${says[0]}<|start_header_id|>ipython<|end_header_id|>\n\n5<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n${says[1]}`,
    );
  });

  it("names the call that an answer belongs to, as Mistral's kind needs it", async () => {
    const says = ['[TOOL_CALLS] [{"name": "add", "arguments": {"a": 2, "b": 3}, "id": "abcdefghi"}]</s>', " 5</s>"];
    const { text, written } = await played(mistral, "</s>", says);
    expect(written).toBe(says.join(""));
    expect(text).toBe(`<s>[INST] 2 + 3?[/INST]${says[0]}[TOOL_RESULTS] 5[/TOOL_RESULTS]${says[1]}`);
  });

  it("says what is wrong with a call, and goes on", async () => {
    const says = [
      '<tool_call>{"name": "sub", "arguments": {}}</tool_call><tool_call>{</tool_call><|im_end|>',
      "5<|im_end|>",
    ];
    const { response } = await played(qwen, "<|im_end|>", says);
    const told = response.messages?.flatMap(({ role, content }) => (role === "tool" ? [content] : []));
    expect(told?.[0]).toMatch(/^Error: the call is no valid JSON/);
    expect(told?.[1]).toBe('Error: there is no tool "sub"; there is add');
  });

  it("cannot be written by a template that leaves out what the assistant says", async () => {
    const silent = "{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}";
    await expect(played(silent, "</s>", ['[TOOL_CALLS]add{"a": 1}</s>'])).rejects.toThrow(
      /turn 1: the chat template leaves out what the assistant says/,
    );
  });
});

describe("the calculator", () => {
  it("is asked, computes, and judges the last number", async () => {
    const { calculatorEnvironment } = await import("webrlhf/rlhf");
    const environment = calculatorEnvironment(2);
    const [row] = environment.rows?.(1, 1, "train") ?? [];
    const [, a, b] = /What is (\d+) \* (\d+)\?/.exec(String(row.question)) ?? [];
    expect(Number(a) * Number(b)).toBe(Number(row.answer));
    expect(environment.rows?.(1, 1, "test")).not.toEqual([row]);
    const call = (expression: string) =>
      `<tool_call>{"name": "calculator", "arguments": {"expression": "${expression}"}}</tool_call><|im_end|>`;
    const own: Environment = {
      ...environment,
      reset: (start) => environment.reset({ ...start, prompt: { ...start.prompt, row } }),
    };
    const right = await played(
      qwen,
      "<|im_end|>",
      [call("process.exit()"), call(`${a}*${b}`), `So ${row.answer}.<|im_end|>`],
      own,
    );
    expect(right.response.messages?.filter(({ role }) => role === "tool").map(({ content }) => content)).toEqual([
      "Error: write a sum, difference or product of two whole numbers, like 12 * 7",
      String(row.answer),
    ]);
    expect(right.response.turns?.map(({ reward }) => reward)).toEqual([0, 0, 1]);
    const wrong = await played(qwen, "<|im_end|>", [`${row.answer} or 1<|im_end|>`], own);
    expect(wrong.response.turns?.map(({ reward }) => reward)).toEqual([0]);
  });
});
