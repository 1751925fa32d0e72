import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Announcer } from "../../demo/src/lib/announce.ts";

describe("announcements", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("come at most once in two seconds, and then the latest", () => {
    const said: string[] = [];
    const announcer = new Announcer((text) => said.push(text));
    for (let ms = 0; ms < 5000; ms += 100) {
      announcer.say(`at ${ms}`);
      vi.advanceTimersByTime(100);
    }
    expect(said).toEqual(["at 0", "at 1900", "at 3900"]);
    vi.advanceTimersByTime(5000);
    expect(said.at(-1)).toBe("at 4900");
  });

  it("are not repeated", () => {
    const said: string[] = [];
    const announcer = new Announcer((text) => said.push(text));
    for (let i = 0; i < 3; i++) {
      announcer.say("Paused.");
      vi.advanceTimersByTime(3000);
    }
    expect(said).toEqual(["Paused."]);
  });
});
