/** Calls of tools in what a policy writes, in the formats of the model families. */

/** A call of a tool. */
export interface ToolCall {
  /** What the answer to it names: the policy's own, or one made of its place. Nine letters and digits, as Mistral's must be. */
  id: string;
  name: string;
  arguments: Readonly<Record<string, unknown>>;
}

/** The calls in a text. */
export interface FoundCalls {
  calls: ToolCall[];
  /** What looks like a call and is none, in words. */
  broken: string[];
}

/** More calls in one turn are a mistake of the policy; they are not read. */
const MOST_CALLS = 64;

const HERMES = /<tool_call>([\s\S]*?)(?:<\/tool_call>|(?=<tool_call>)|$)/g;
const MISTRAL = "[TOOL_CALLS]";
const PYTHON_TAG = "<|python_tag|>";

/**
 * The calls of tools in a turn, special tokens included: `<tool_call>{json}</tool_call>` (Qwen, Hermes), `[TOOL_CALLS]` with a list
 * or with `name{json}` or `name[ARGS]{json}` (Mistral), `<|python_tag|>` or nothing before JSON objects (Llama 3), which may be several,
 * parted by semicolons. A call is an object with `name` and `arguments`, or `parameters` (Llama 3), or a `function` that has them.
 */
export function toolCalls(text: string): FoundCalls {
  const found: FoundCalls = { calls: [], broken: [] };
  if (text.includes("<tool_call>")) {
    for (const [, body] of text.matchAll(HERMES)) {
      read(body, found);
      if (found.calls.length + found.broken.length >= MOST_CALLS) break;
    }
  } else if (text.includes(MISTRAL)) {
    for (const body of text.split(MISTRAL).slice(1)) mistral(body, found);
  } else if (text.includes(PYTHON_TAG)) {
    eachObject(withoutEnd(text.slice(text.indexOf(PYTHON_TAG) + PYTHON_TAG.length)), found);
  } else {
    const body = withoutEnd(text);
    // Llama 3 may call without a mark; any other JSON is an answer.
    if (/^\{\s*"(?:name|type)"\s*:/.test(body)) eachObject(body, found);
  }
  return found;
}

const withoutEnd = (text: string): string => text.replace(/<\|\w+\|>\s*$|<\/s>\s*$/, "").trim();

function mistral(body: string, found: FoundCalls): void {
  const text = withoutEnd(body);
  const named = /^([\w.-]+)\s*(?:\[CALL_ID\]\s*(\w+)\s*)?(?:\[ARGS\]\s*)?(\{[\s\S]*\})$/.exec(text);
  if (!named) {
    read(text, found);
    return;
  }
  const [, name, id, json] = named;
  const value = parsed(json, found);
  if (value !== undefined) take({ name, ...(id && { id }), arguments: value }, found);
}

/** Objects one after the other, with semicolons between them. */
function eachObject(text: string, found: FoundCalls): void {
  for (const part of objectsIn(text)) read(part, found);
}

/** Parts of a text at the semicolons that stand outside of objects and strings. */
function objectsIn(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let quoted = false;
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (quoted) {
      if (c === "\\") i++;
      else if (c === '"') quoted = false;
    } else if (c === '"') quoted = true;
    else if (c === "{" || c === "[") depth++;
    else if (c === "}" || c === "]") depth--;
    else if (c === ";" && depth === 0) {
      parts.push(text.slice(from, i));
      from = i + 1;
    }
  }
  return [...parts, text.slice(from)].filter((part) => part.trim() !== "");
}

function read(json: string, found: FoundCalls): void {
  const value = parsed(json, found);
  if (value === undefined) return;
  for (const one of Array.isArray(value) ? value : [value]) take(one, found);
}

function parsed(json: string, { broken }: FoundCalls): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    if (broken.length < MOST_CALLS) broken.push(`the call is no valid JSON: ${(error as Error).message.slice(0, 200)}`);
    return undefined;
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function take(value: unknown, { calls, broken }: FoundCalls): void {
  if (calls.length + broken.length >= MOST_CALLS) return;
  const outer = isObject(value) ? value : {};
  const call = isObject(outer.function) ? outer.function : outer;
  const { name } = call;
  let args = call.arguments ?? call.parameters ?? {};
  if (typeof args === "string") {
    try {
      args = JSON.parse(args);
    } catch {
      // A text that is no JSON is no object, which is said below.
    }
  }
  if (typeof name !== "string" || name === "") broken.push('the call has no "name"');
  else if (!isObject(args)) broken.push(`the "arguments" of ${JSON.stringify(name)} are no object`);
  else {
    const given = outer.id ?? call.id;
    const id =
      typeof given === "string" && /^\w{1,64}$/.test(given) ? given : `call${String(calls.length).padStart(5, "0")}`;
    calls.push({ id, name, arguments: args });
  }
}
