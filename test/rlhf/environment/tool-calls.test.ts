import { describe, expect, it } from "vitest";
import { toolCalls } from "webrlhf/rlhf";

const called = (text: string) => toolCalls(text).calls.map(({ name, arguments: args }) => [name, args]);

describe("calls of tools", () => {
  it("are found as Qwen and Hermes write them, several in a turn and with words around them", () => {
    const text =
      'Let me see.\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>\n' +
      '<tool_call>{"name": "now", "arguments": {}}</tool_call><|im_end|>';
    expect(called(text)).toEqual([
      ["add", { a: 1, b: 2 }],
      ["now", {}],
    ]);
    expect(toolCalls(text).calls.map(({ id }) => id)).toEqual(["call00000", "call00001"]);
    // A model may end its turn without closing the last one.
    expect(called('<tool_call>{"name": "now", "arguments": {}}')).toEqual([["now", {}]]);
  });

  it("are found as Llama 3 writes them: as JSON with parameters, several parted by semicolons, behind its tag or bare", () => {
    expect(
      called('<|python_tag|>{"name": "add", "parameters": {"a": "x; y"}}; {"name": "now", "parameters": {}}<|eom_id|>'),
    ).toEqual([
      ["add", { a: "x; y" }],
      ["now", {}],
    ]);
    expect(called('{"name": "add", "parameters": {"a": 1}}<|eot_id|>')).toEqual([["add", { a: 1 }]]);
    expect(called('{"type": "function", "function": {"name": "f", "arguments": "{\\"a\\": 1}"}}')).toEqual([
      ["f", { a: 1 }],
    ]);
  });

  it("are found as Mistral's versions write them", () => {
    const list = toolCalls('[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}, "id": "VvvODy9mT"}]</s>');
    expect(list.calls).toEqual([{ id: "VvvODy9mT", name: "add", arguments: { a: 1 } }]);
    expect(called('[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]now{}</s>')).toEqual([
      ["add", { a: 1 }],
      ["now", {}],
    ]);
    expect(toolCalls('[TOOL_CALLS]add[CALL_ID]abcdefghi[ARGS]{"a": 1}').calls[0].id).toBe("abcdefghi");
  });

  it("are none in other words, and in JSON that is an answer", () => {
    for (const text of ["The answer is 3.", '{"answer": 3}', "[1, 2]", ""]) {
      expect(toolCalls(text)).toEqual({ calls: [], broken: [] });
    }
  });

  it("are said to be broken where they cannot be read", () => {
    expect(toolCalls('<tool_call>{"name": "add", "arguments"</tool_call>').broken[0]).toMatch(/no valid JSON/);
    expect(toolCalls('<tool_call>{"arguments": {}}</tool_call>').broken).toEqual(['the call has no "name"']);
    expect(toolCalls('<tool_call>{"name": "add", "arguments": 3}</tool_call>').broken).toEqual([
      'the "arguments" of "add" are no object',
    ]);
    expect(toolCalls("<tool_call>null</tool_call>").broken).toHaveLength(1);
  });

  it("are bounded, however many a policy writes", () => {
    const { calls, broken } = toolCalls('<tool_call>{"name": "x"}</tool_call>'.repeat(1000));
    expect(calls.length + broken.length).toBe(64);
    expect(toolCalls("<tool_call>{".repeat(20_000)).broken.length).toBeLessThanOrEqual(64);
  });
});
