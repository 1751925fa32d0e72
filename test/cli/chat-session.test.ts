import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ChatSession, parseCommand } from "../../src/cli/verbs/chat-session.ts";
import { CONTEXT, type TinyServer, tinyServer } from "../serve/tiny-server.ts";

let server: TinyServer;
beforeAll(async () => {
  server = await tinyServer();
});
afterAll(() => server.stop());

const params = { maxNewTokens: 8, seed: 1, ignoreEos: true };
const never = new AbortController().signal;

async function said(session: ChatSession, text: string, signal = never, forgot = (_: number) => {}): Promise<string> {
  let answer = "";
  for await (const part of session.say(text, signal, forgot)) answer += part;
  return answer;
}

describe("a chat", () => {
  it("understands commands", () => {
    expect(parseCommand("  hello /reset ")).toEqual({ kind: "say", text: "hello /reset" });
    expect(parseCommand("/reset")).toEqual({ kind: "reset" });
    expect(parseCommand("/system Be kind.\nAlways.")).toEqual({ kind: "system", text: "Be kind.\nAlways." });
    expect(parseCommand("/quit")).toEqual({ kind: "exit" });
    expect(parseCommand("/x y")).toEqual({ kind: "unknown", name: "x" });
    expect(parseCommand("   ")).toEqual({ kind: "nothing" });
  });

  it("remembers what was said, until it is told to forget", async () => {
    const session = new ChatSession(server.model, params, [], "Be kind.");
    const first = await said(session, "Hello");
    expect(session.messages).toEqual([
      { role: "system", content: "Be kind." },
      { role: "user", content: "Hello" },
      { role: "assistant", content: first.trimEnd() },
    ]);
    session.reset();
    expect(session.messages).toEqual([{ role: "system", content: "Be kind." }]);
    session.reset("Be brief.");
    expect(session.messages).toEqual([{ role: "system", content: "Be brief." }]);
    const again = new ChatSession(server.model, params, [], "Be kind.");
    expect(await said(again, "Hello")).toBe(first); // the seed says what comes
    expect(await said(again, "Hello")).not.toBe(first);
  });

  it("keeps what was said of an answer that is stopped", async () => {
    const session = new ChatSession(server.model, { ...params, maxNewTokens: 90 }, [], null);
    const controller = new AbortController();
    let heard = "";
    const listening = (async () => {
      for await (const part of session.say("Hi", controller.signal, () => {})) {
        heard += part;
        controller.abort();
      }
    })();
    await expect(listening).rejects.toThrow();
    expect(heard).not.toBe("");
    expect(session.messages.at(-1)).toEqual({ role: "assistant", content: heard.trimEnd() });
    await expect.poll(() => server.model.engine.load).toEqual({ waiting: 0, active: 0 });
  });

  it("forgets the beginning of a conversation that grows too long", async () => {
    const session = new ChatSession(server.model, { ...params, maxNewTokens: 30 }, [], "Be kind.");
    let forgotten = 0;
    for (let i = 0; i < 6; i++) {
      await said(session, "Tell me more about the cat", never, (turns) => {
        forgotten += turns;
      });
      expect(server.model.chat(session.messages).ids.length).toBeLessThan(CONTEXT + 40);
    }
    expect(forgotten).toBeGreaterThan(0);
    expect(session.messages[0]).toEqual({ role: "system", content: "Be kind." });
    expect(session.messages[1].role).toBe("user");
  });
});
