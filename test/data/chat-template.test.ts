import { describe, expect, it } from "vitest";
import { isUserError } from "webrlhf";
import { type ChatMessage, ChatTemplate, Tokenizer, trainBpe } from "webrlhf/data";
import { spanMask } from "../../src/data/assistant-mask.ts";
import { specialTokens, templateInConfig } from "../../src/data/chat-template.ts";
import chat from "./fixtures/chat.json" with { type: "json" };
import metaspace from "./fixtures/tokenizers/llama-metaspace.json" with { type: "json" };
import llama from "./fixtures/tokenizers/llama-normalizer.json" with { type: "json" };
import neox from "./fixtures/tokenizers/neox.json" with { type: "json" };
import qwen from "./fixtures/tokenizers/qwen2.json" with { type: "json" };

interface Case {
  template: keyof typeof chat.templates;
  conversation: keyof typeof chat.conversations;
  prompted: boolean;
  tools: unknown[] | null;
  variables: Record<string, unknown>;
  text?: string;
  spans?: [number, number][];
  error?: string;
}
const cases = chat.cases as unknown as Case[];
const conversation = (name: Case["conversation"]) => chat.conversations[name] as ChatMessage[];
const compile = (name: Case["template"]) =>
  ChatTemplate.compile(chat.templates[name], `${name}/chat_template.jinja`, chat.tokens);
const hi: ChatMessage[] = [{ role: "user", content: "Hi" }];

describe("ChatTemplate", () => {
  it.each(cases.map((one) => [`${one.template}, ${one.conversation}, ${one.prompted}`, one] as const))(
    "writes what transformers writes and finds the assistant's words: %s",
    async (_, { template, conversation: name, prompted, tools, variables, text, spans, error }) => {
      const compiled = await compile(template);
      const options = { addGenerationPrompt: prompted, tools, variables };
      if (error !== undefined) {
        expect(() => compiled.render(conversation(name), options)).toThrow(error);
        return;
      }
      expect(compiled.render(conversation(name), options)).toBe(text);
      if (!compiled.marksAnswers) return;
      // Python counts code points.
      const at = (point: number) => [...(text as string)].slice(0, point).join("").length;
      expect(compiled.renderAnswers(conversation(name), options)).toEqual({
        text,
        spans: spans?.map(([start, end]) => [at(start), at(end)]),
      });
    },
  );

  it("finds the assistant's words by rendering prefixes where the template does not mark them", async () => {
    const plain = await compile("plain");
    const { text, spans } = plain.renderAnswers(conversation("two"));
    expect(spans.map(([start, end]) => text.slice(start, end))).toEqual([
      "\n4 — obviously 🙂\n</s>\n",
      "Vier.\n\n- ja\n- nämlich</s>\n",
    ]);
    const forgets = await compile("forgets");
    expect(() => forgets.renderAnswers(conversation("two"))).toThrow(
      /forgets\/chat_template.jinja: the text of message 2 cannot be told .* \{% generation %\} .*chat_template_path/,
    );
    expect(forgets.renderAnswers(conversation("one")).spans).toEqual([[20, 31]]);
  });

  it("cuts a conversation into prompt and completion", async () => {
    const turns = await compile("turns");
    const [question, answer] = [conversation("one").slice(0, 1), conversation("one").slice(1)];
    const { prompt, completion } = turns.renderTurn(question, answer);
    expect(prompt.endsWith("<|im_start|>assistant\n")).toBe(true);
    expect(completion).toBe("Hello, you.<|im_end|>\n");
    expect(turns.renderTurn(question, []).completion).toBe("");
    const thinks = await ChatTemplate.compile(
      "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>{% endif %}",
      "t.jinja",
    );
    expect(() => thinks.renderTurn(question, answer)).toThrow(/t.jinja: with its answer .*chat_template_path/);
  });

  it("keeps users' private-use characters, and characters that look like marks", async () => {
    const turns = await compile("turns");
    const messages = [
      { role: "user", content: "\ue000 \ue001" },
      { role: "assistant", content: "\ue000\ue002" },
    ];
    const { text, spans } = turns.renderAnswers(messages);
    expect(text).toBe(turns.render(messages));
    expect(spans.map(([a, b]) => text.slice(a, b))).toEqual(["\ue000\ue002<|im_end|>"]);
  });

  it("names the file and the message that broke it", async () => {
    const trimmed = await compile("trimmed");
    const messages = [...conversation("two"), { role: "assistant", content: "more" }];
    expect(() => trimmed.render(messages)).toThrow(
      /^trimmed\/chat_template.jinja: the chat template fails at message 5 \("assistant"\): roles must alternate/,
    );
    await expect(ChatTemplate.compile("{% for m in %}", "bad.jinja")).rejects.toThrow(
      /^bad.jinja: not a chat template/,
    );
  });

  it("takes every kind of line end for one", async () => {
    const plain = await ChatTemplate.compile("{% if true %}\r\nA\r\n{% endif %}\rB", "crlf.jinja");
    expect(plain.render([])).toBe("A\nB");
  });

  it("is found in tokenizer_config.json as a text or by name", () => {
    expect(templateInConfig({ chat_template: "x" }, "f")).toBe("x");
    expect(templateInConfig({}, "f")).toBeNull();
    const list = [
      { name: "tool_use", template: "t" },
      { name: "default", template: "d" },
    ];
    expect(templateInConfig({ chat_template: list }, "f")).toBe("d");
    expect(templateInConfig({ chat_template: list }, "f", "tool_use")).toBe("t");
    expect(() => templateInConfig({ chat_template: list }, "f", "rag")).toThrow(
      /no template called rag .*tool_use, default/,
    );
    expect(() => templateInConfig({ chat_template: [{}] }, "f")).toThrow(/must have a name/);
    expect(specialTokens({ bos_token: { content: "<s>" }, eos_token: "</s>", pad_token: null })).toEqual({
      bos_token: "<s>",
      eos_token: "</s>",
    });
  });
});

describe("a hostile template", () => {
  const doubled = (n: number, first: string) =>
    `{% set a0 = ${first} %}${Array.from({ length: n }, (_, i) => `{% set a${i + 1} = DOUBLE(a${i}) %}`).join("")}`;
  const strings = (n: number) => doubled(n, "'xxxxxxxx'").replace(/DOUBLE\((\w+)\)/g, "$1 ~ $1");
  const lists = (n: number) => doubled(n, "['x']").replace(/DOUBLE\((\w+)\)/g, "[$1, $1]");
  const loops = (n: number, of: string, inside: string) =>
    Array.from({ length: n }, (_, i) => `{% for i${i} in ${of} %}`).join("") + inside + "{% endfor %}".repeat(n);
  const long = strings(16); // a16 has 2^19 characters
  const hostile: Record<string, string> = {
    "loops within loops": loops(6, "range(1000)", "{% set x = 1 %}"),
    "empty loops": loops(6, "range(1000)", ""),
    "loops over one list": `{% set l = range(90000) %}${loops(4, "l", "")}`,
    "a long range": "{{ range(1000000000)|length }}",
    "a range without end": "{% for i in range(0, 10, -1) %}{% endfor %}{{ range(1, 100, 0) }}",
    "many ranges": loops(3, "range(90000)", "{{ range(90000)|length }}"),
    "doubling strings": `${strings(60)}{{ a60 }}`,
    "doubling lists": `${lists(60)}{{ a60 | tojson }}`,
    "doubling lists written out": `${lists(60)}{{ a60 }}`,
    "doubling lists compared": `${lists(60)}{{ a60 == 'x' }}`,
    "doubling by +": `{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}`,
    "doubling lists by +": `{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}`,
    "much text": `${long}${loops(3, "range(1000)", "{{ a16 }}")}`,
    "much text from a little": loops(3, "range(1000)", "{{ messages }}"),
    "many long strings": `${long}{% set ns = namespace() %}${Array.from({ length: 900 }, (_, i) => `{% set b${i} = a16 | upper %}`).join("")}`,
    "a product by replace": `${long}{{ a16.replace('', a16) }}`,
    "a product by the filter replace": `${long}{{ a16 | replace('x', a16) }}`,
    "a product by a method kept for later": `${long}{% set r = a16.replace %}{{ r('x', a16) }}`,
    "a product by a computed method": `${long}{{ a16['repl' ~ 'ace']('x', a16) }}`,
    "a product by join": `${long}{{ a16 | join(a16) }}`,
    "a product by join with a name": `${long}{{ a16 | join(separator=a16) }}`,
    "a product by indent": `${long}{{ (a16 | replace('x', '\\n')) | indent(1000000) }}`,
    "indenting JSON": "{{ messages | tojson(indent=500000000) }}",
    "JSON with long separators": `${long}{{ range(90000) | tojson(separators=[a16, a16]) }}`,
    "a filter block": `${long}{% filter replace('x', a16) %}{{ a16 }}{% endfilter %}`,
    "a macro that calls itself": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "two macros that call each other":
      "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a macro that branches":
      "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a namespace in itself": "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns | tojson }}",
    "a namespace in a list": "{% set ns = namespace() %}{% set l = [ns, ns] %}{% set ns.l = l %}{{ l | tojson }}",
    "deep nesting": `{{ ${"(".repeat(20000)}1${")".repeat(20000)} }}`,
    "deep lists": `{{ ${"[".repeat(20000)}1${"]".repeat(20000)} }}`,
    "many blocks": `${"{% if true %}".repeat(5000)}${"{% endif %}".repeat(5000)}`,
    "a huge template": "x".repeat(1 << 20),
    "much white space": `${" ".repeat(100000)}{% generation %}`,
    searching: `${long}${loops(2, "range(1000)", "{% if (a16 ~ 'y') in (a16 ~ a16) %}{% endif %}")}`,
    "sorting by a long path": `${long}{{ messages | sort(attribute=a16) }}`,
    "a spread": `${long}{{ a16.replace(*['x', a16]) }}{{ 'x' | replace(**{'a': 1}) }}`,
  };
  it.each(Object.entries(hostile))("is stopped: %s", async (_, source) => {
    const start = performance.now();
    const before = process.memoryUsage().rss;
    let failure: unknown;
    try {
      (await ChatTemplate.compile(source, "evil.jinja")).render(hi);
    } catch (error) {
      failure = error;
    }
    expect(failure).toSatisfy(isUserError);
    expect((failure as Error).message).toMatch(/^evil.jinja: /);
    expect(performance.now() - start).toBeLessThan(8_000);
    expect(process.memoryUsage().rss - before).toBeLessThan(700e6);
  });

  const outside = [
    "{{ messages.constructor }}",
    "{{ messages.__proto__ }}",
    "{{ messages[0].constructor.constructor }}",
    "{{ ''.constructor }}{{ ''['__proto__'] }}",
    "{{ range.constructor }}{{ range['constructor'] }}",
    "{{ raise_exception.call }}{{ namespace.prototype }}",
    "{{ process }}{{ globalThis }}{{ require }}{{ self }}{{ this }}",
    "{{ {'a': 1}.constructor }}{{ namespace().constructor }}{{ namespace(a=1)['__proto__'] }}",
    "{{ messages[0]['toString'] }}{{ messages['length'].constructor }}",
  ];
  it.each(outside)("reaches nothing outside: %s", async (source) => {
    let text = "";
    try {
      text = (await ChatTemplate.compile(source, "evil.jinja")).render(hi);
    } catch (error) {
      expect(error).toSatisfy(isUserError);
    }
    expect(text).toBe("");
  });

  it("cannot change what others see", async () => {
    const set = await ChatTemplate.compile("{% set messages = [] %}{% set range = 1 %}{{ messages | length }}", "a");
    expect(set.render(hi)).toBe("0");
    const get = await ChatTemplate.compile("{{ messages | length }}{% for i in range(2) %}{{ i }}{% endfor %}", "b");
    expect(get.render([{ role: "user", content: "x", constructor: 1, ["__proto__"]: {} } as ChatMessage])).toBe("101");
  });

  it("leaves long conversations their room", async () => {
    const turns = await compile("turns");
    const messages = Array.from({ length: 600 }, (_, i) => ({
      role: i % 2 ? "assistant" : "user",
      content: `message ${i} `.repeat(60),
    }));
    expect(turns.renderAnswers(messages).spans).toHaveLength(300);
  });
});

describe("spanMask", () => {
  const tokenizers = { llama, metaspace, neox, qwen };
  for (const [name, fixture] of Object.entries(tokenizers)) {
    const tokenizer = Tokenizer.fromJson(fixture.tokenizer);
    const learned = (text: string, spans: [number, number][]) => {
      const ids = tokenizer.encode(text);
      const mask = spanMask(tokenizer, text, ids, spans);
      return ids.filter((_, i) => mask[i] === 1);
    };

    it(`marks the assistant's tokens of a conversation: ${name}`, async () => {
      const { text, spans } = (await compile("turns")).renderAnswers(conversation("two"));
      const ids = learned(text, spans as [number, number][]);
      const said = spans.map(([a, b]) => text.slice(a, b)).join("");
      const written = tokenizer.decode(ids, { skipSpecialTokens: false, continued: true });
      expect(written.replaceAll(" <|im_end|>", "<|im_end|>")).toContain(
        tokenizer.canonical("obviously 🙂\n<|im_end|>"),
      );
      // A token that holds the end of something else comes along, so there may be a little more.
      expect(written.replaceAll(" ", "").length - said.replaceAll(" ", "").length).toBeLessThan(3);
    });

    it(`takes tokens across a border in: ${name}`, () => {
      const text = "the ranks are the same";
      const ids = tokenizer.encode(text);
      const at = text.indexOf("ranks") + 2;
      expect(learned(text, [[0, text.length]])).toEqual(ids);
      expect(learned(text, [])).toEqual([]);
      expect(learned(text, [[at, at]])).toEqual([]);
      const inside = learned(text, [[at, at + 1]]);
      expect(inside).toHaveLength(1);
      expect(tokenizer.decode(inside, { continued: true })).toContain("n");
      // Every byte of the emoji is inside, whatever tokens it is made of.
      const emoji = "a 🙂 b";
      expect(tokenizer.decode(learned(emoji, [[2, 4]]), { continued: true }).trim()).toBe("🙂");
    });

    it(`minds special tokens and composed characters: ${name}`, () => {
      const special = fixture.own[0];
      const text = `e\u0301 ${special}e\u0301t${special} e\u0301`;
      const start = text.indexOf(special) + special.length;
      const ids = learned(text, [[start, start + 3]]);
      expect(tokenizer.decode(ids, { skipSpecialTokens: false, continued: true }).trim().normalize("NFC")).toBe("ét");
    });
  }

  it("passes over characters that the vocabulary lacks", () => {
    const tokenizer = Tokenizer.fromTrained(trainBpe(["abc abc bca"], { vocabSize: 20, alphabet: "seen" }));
    const text = "xab 🙂 cab y";
    const ids = tokenizer.encode(text);
    const mask = spanMask(tokenizer, text, ids, [[4, text.length]]);
    expect(tokenizer.decode(ids)).toBe("ab  cab ");
    expect(tokenizer.decode(ids.filter((_, i) => mask[i]))).toBe(" cab ");
  });

  it("says so when a tokenizer changes the text", () => {
    const json = structuredClone(qwen.tokenizer) as Record<string, unknown>;
    const lower = Tokenizer.fromJson({ ...json, normalizer: { type: "Lowercase" } });
    expect(() => spanMask(lower, "ABC", lower.encode("ABC"), [[0, 3]])).toThrow(/this tokenizer changes the text/);
  });
});
