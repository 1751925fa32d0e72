/** Environments that are a question, some tools, and a verdict on the answer. */
import type { ChatMessage } from "../../data/chat-template.ts";
import { UserError } from "../../runtime/errors.ts";
import type { Environment, EnvironmentRow } from "./environment.ts";

/** A tool that a policy may call. */
export interface Tool {
  name: string;
  /** For the policy. */
  description: string;
  /** JSON schema of its arguments. */
  parameters: Readonly<Record<string, unknown>>;
  /** What the policy is told. An error's message is told as well, and the episode goes on. */
  run(args: Readonly<Record<string, unknown>>, row: EnvironmentRow): unknown | Promise<unknown>;
}

/** The question, the tools and the verdict of a `toolEnvironment`. */
export interface ToolEnvironmentOptions {
  name?: string;
  /** What a right answer is worth: see `Environment.best`. */
  best?: number;
  tools: readonly Tool[];
  /** Rows of its own: see `Environment.rows`. */
  rows?: Environment["rows"];
  /** What the policy is asked. Default: the conversation of the dataset's prompt, or its text as a person's message. */
  ask?(row: EnvironmentRow): readonly ChatMessage[];
  /** What the answer is worth: the first turn that calls no tool. */
  reward(answer: string, row: EnvironmentRow): number | Promise<number>;
}

/**
 * An environment in which the policy calls tools until it answers without one. What it is told of a call is a message of the role
 * "tool", as its chat template writes it; a call that is broken or of no known tool is answered by what is wrong with it.
 */
export function toolEnvironment(o: ToolEnvironmentOptions): Environment {
  const byName = new Map(o.tools.map((tool) => [tool.name, tool]));
  const tools = o.tools.map(({ name, description, parameters }) => ({
    type: "function",
    function: { name, description, parameters },
  }));
  return {
    ...(o.name !== undefined && { name: o.name }),
    ...(o.best !== undefined && { best: o.best }),
    ...(o.rows && { rows: o.rows }),
    reset({ prompt }) {
      const row = prompt.row ?? {};
      const asked =
        o.ask?.(row) ?? prompt.messages ?? (prompt.text === "" ? null : [{ role: "user", content: prompt.text }]);
      if (!asked) throw new UserError("there is nothing to ask: give a dataset with prompts, or ask");
      return {
        observation: asked,
        tools,
        async step({ text, calls, broken }) {
          if (calls.length === 0 && broken.length === 0) return { reward: await o.reward(text, row), done: true };
          const told = (content: string, id?: string, name?: string): ChatMessage => ({
            role: "tool",
            content,
            ...(name !== undefined && { name }),
            ...(id !== undefined && { tool_call_id: id }),
          });
          const replies = broken.map((why) => told(`Error: ${why}`));
          for (const { id, name, arguments: args } of calls) {
            const tool = byName.get(name);
            if (tool) replies.push(told(await outcomeOf(() => tool.run(args, row)), id, name));
            else
              replies.push(
                told(
                  `Error: there is no tool ${JSON.stringify(name)}; there is ${[...byName.keys()].join(", ")}`,
                  id,
                  name,
                ),
              );
          }
          return { observation: replies };
        },
      };
    },
  };
}

async function outcomeOf(run: () => unknown): Promise<string> {
  try {
    const result = await run();
    return typeof result === "string" ? result : (JSON.stringify(result) ?? "done");
  } catch (error) {
    return `Error: ${(error as Error).message}`;
  }
}
