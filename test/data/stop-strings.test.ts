import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StopStrings } from "../../src/data/stop-strings.ts";

describe("StopStrings", () => {
  it("cuts where the earliest stop string begins, however the text comes", () => {
    const text = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 30 });
    const stops = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 4 }), {
      maxLength: 3,
    });
    fc.assert(
      fc.property(text, stops, fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1 }), (text, stops, sizes) => {
        const watcher = new StopStrings(stops);
        let out = "";
        let found: string | null = null;
        let seen = 0;
        for (let i = 0; seen < text.length && found === null; i++) {
          const part = text.slice(seen, seen + sizes[i % sizes.length]);
          seen += part.length;
          const more = watcher.push(part);
          out += more.text;
          found = more.stop;
          // Nothing is held back that no stop string begins with.
          if (found === null) {
            const held = text.slice(out.length, seen);
            expect(stops.some((s) => s.startsWith(held)) || held === "").toBe(true);
          }
        }
        if (found === null) out += watcher.end();
        // With pieces longer than a letter, a stop string that begins earlier may be completed in the same piece.
        const places = stops.map((s) => text.slice(0, seen).indexOf(s)).filter((at) => at >= 0);
        expect(out).toBe(places.length === 0 ? text : text.slice(0, Math.min(...places)));
        expect(found !== null).toBe(places.length > 0);
      }),
    );
  });
});
