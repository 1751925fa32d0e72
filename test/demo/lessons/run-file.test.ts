/** A run out of a file: what a lesson's page believes of it. */
import fs from "node:fs";
import { describe, expect, it } from "vitest";
import { lesson as labeller } from "../../../demo/src/lessons/labeller/lesson.ts";
import { lesson as sft } from "../../../demo/src/lessons/sft/lesson.ts";
import recordings from "../../../demo/src/lessons/sft/recordings.json" with { type: "json" };
import { eventOf, OtherLesson, startedWith } from "../../../demo/src/lib/lesson/started.ts";
import type { Lesson } from "../../../demo/src/lib/lesson/types.ts";
import { fromZip, toZip } from "../../../src/worker/snapshot.ts";

const address = { size: "S", seed: 7, asked: { steps: 40 } };
const input = { ...sft.input("S", 7), steps: 40 };
const refused = (program: string, given: unknown, lesson: Lesson = sft) => {
  try {
    startedWith(lesson, { program, input: given });
  } catch (error) {
    return error as Error;
  }
  throw new Error("it was taken");
};

describe("a run out of a file", () => {
  it("is what was saved", async () => {
    const spec = { program: "sft", input: { input, address } };
    const events = recordings[0].events;
    const blob = await toZip({ spec, events, contents: new Map([["run/x", Uint8Array.of(1)]]), done: true });
    const found = await fromZip(blob);
    expect(startedWith(sft, found.spec)).toEqual({ address, input });
    expect(found.events.map(eventOf)).toEqual(events);
  });

  it("of another lesson names that lesson", () => {
    const error = refused("ppo", { input, address });
    expect(error).toBeInstanceOf(OtherLesson);
    expect((error as OtherLesson).slug).toBe("ppo");
  });

  it("that its lesson cannot have started is refused", () => {
    expect(refused("sft", null).message).toMatch(/damaged/);
    expect(refused("sft", { input }).message).toMatch(/damaged/);
    expect(refused("sft", { input, address: { ...address, size: "XL" } }).message).toMatch(/size is S, M or L/);
    expect(refused("sft", { input: { ...input, steps: 1e9 }, address }).message).toMatch(/500/);
    expect(refused("sft", { input: { ...input, more: 1 }, address }).message).toMatch(/more/);
    const [field] = labeller.private ?? [];
    const asked = { [field]: [] };
    const given = { input: labeller.input("S", 7), address: { ...address, asked } };
    expect(refused("labeller", given, labeller).message).toContain(`${field} are never in a link`);
  });

  it("has events that figures can read", () => {
    const step = { type: "train", stage: "sft", event: { type: "step", step: 1, metrics: { loss: Number.NaN } } };
    expect(eventOf(step)).toBe(step);
    const wrong = [
      null,
      {},
      { type: "toString" },
      { type: "train", stage: "sft", event: null },
      { type: "train", stage: "sft", event: { type: "step", step: 1 } },
      { type: "train", stage: "sft", event: { type: "step", step: 1, metrics: { loss: "<b>" } } },
      { type: "measured", stage: "after", step: 1, values: { gold: {} } },
      { type: "samples", stage: "after", step: 1, samples: [null] },
      { type: "data", data: 1 },
    ];
    for (const event of wrong) expect(() => eventOf(event), JSON.stringify(event)).toThrow(/damaged/);
  });

  it("of any lesson has events that pass", () => {
    const folder = new URL("../../../demo/src/lessons/", import.meta.url);
    const slugs = fs.readdirSync(folder);
    for (const slug of slugs) {
      const runs = JSON.parse(fs.readFileSync(new URL(`${slug}/recordings.json`, folder), "utf8"));
      for (const { events } of runs) expect(events.map(eventOf)).toEqual(events);
    }
    expect(slugs.length).toBeGreaterThanOrEqual(5);
  });
});
