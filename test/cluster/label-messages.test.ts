/** Pairs and labels on the wire, and room codes as people type them. */
import { describe, expect, it } from "vitest";
import { roomCode } from "webrlhf/cluster";
import {
  checkLabelJob,
  cleanName,
  decodeLabelJob,
  decodeVote,
  encodeLabelJob,
  encodeVote,
  LONGEST_TEXT,
  type Vote,
} from "../../src/cluster/label-messages.ts";
import { newRoomCode } from "../../src/cluster/rooms.ts";
import { Refused, writeResult } from "../../src/cluster/wire.ts";

const job = { id: "3/1", pair: 3, prompt: [{ role: "user", content: "Hi" }], first: "a", second: "b" };
const vote: Vote = { labeller: "person-1", name: "Ann", choice: "second", seconds: 2.5 };

describe("a pair on the wire", () => {
  it("comes as it was sent, under a key that another one has not", async () => {
    const { key, bytes } = await encodeLabelJob("run", job);
    expect(decodeLabelJob(bytes)).toEqual(job);
    expect(key).toMatch(/^[0-9a-f]{40}$/);
    const others = [await encodeLabelJob("other", job), await encodeLabelJob("run", { ...job, first: "c" })];
    expect(new Set([key, ...others.map((one) => one.key)]).size).toBe(3);
  });

  it("is refused where it is none, or too long for anybody", async () => {
    const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
    for (const value of ["x", {}, { format: 2, job }, { format: 1, job: { ...job, first: 3 } }]) {
      expect(() => decodeLabelJob(bytes(value)), JSON.stringify(value)).toThrow(Refused);
    }
    expect(() => checkLabelJob({ ...job, first: "x".repeat(LONGEST_TEXT + 1) })).toThrow(/pair 4: .*100000 characters/);
    const many = Array.from({ length: 20 }, () => ({ role: "user", content: "x".repeat(LONGEST_TEXT) }));
    expect(() => checkLabelJob({ ...job, prompt: many })).toThrow(/pair 4 is too large/);
    checkLabelJob(job);
  });
});

describe("a label on the wire", () => {
  it("comes as it was sent", () => {
    expect(decodeVote(encodeVote("key", vote), "key")).toEqual(vote);
  });

  it("is looked at before it is believed", () => {
    const drawer = { worker: "person-1", adapter: "", seconds: 1 };
    const header = (more: object, numbers: Uint32Array[] = []) => writeResult({ key: "key", drawer }, more, numbers);
    const wrong: [Uint8Array, RegExp][] = [
      [encodeVote("other", vote), /another job/],
      [encodeVote("key", { ...vote, choice: "both" as "none" }), /not well-formed/],
      [encodeVote("key", { ...vote, name: "x".repeat(300) }), /not well-formed/],
      [encodeVote("key", { ...vote, name: "x".repeat(5000) }), /more than the job can have/],
      [encodeVote("key", { ...vote, labeller: "" }), /of nobody/],
      [encodeVote("key", { ...vote, labeller: "a.b.c.d.e" }), /of nobody/],
      [encodeVote("key", { ...vote, seconds: -1 }), /not well-formed/],
      [header({ error: "I will not" }), /an error/],
      [header({ name: "Ann" }), /well-formed/],
      [header({ name: "Ann", choice: "first" }, [new Uint32Array(4)]), /more behind/],
      [new Uint8Array(3), /too short/],
      [new Uint8Array(100).fill(255), /cut off/],
    ];
    for (const [bytes, reason] of wrong) {
      expect(() => decodeVote(bytes, "key"), String(reason)).toThrow(Refused);
      expect(() => decodeVote(bytes, "key")).toThrow(reason);
    }
  });

  it("has a name that spoils no line", () => {
    expect(cleanName("  Ann\n\u202eGnirts\u0000 \t x ")).toBe("Ann Gnirts x");
    expect([...cleanName("😀".repeat(100))]).toHaveLength(40);
    expect(cleanName("\u200b\n")).toBe("");
    expect(decodeVote(encodeVote("key", { ...vote, name: "A\u001b[31mnn" }), "key").name).toBe("A [31mnn");
  });
});

describe("a room's code", () => {
  it("is known however it is typed", () => {
    const draws = [7, 14, 21, 28, 4, 11];
    const code = newRoomCode((below) => (draws.pop() ?? 0) % below);
    expect(code).toMatch(/^[2-9A-Z]{6}$/);
    for (const typed of [code, code.toLowerCase(), ` ${code.slice(0, 3)}-${code.slice(3)} `])
      expect(roomCode(typed)).toBe(code);
    for (const none of ["", "ABC", "ABCDE0", "../../", "ABCDEFG", "ABCDE/"]) expect(roomCode(none), none).toBeNull();
  });
});
