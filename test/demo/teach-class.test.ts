/** A class's link: its seeds, what it hides, and what it refuses. */
import { describe, expect, it } from "vitest";
import { addressOf, groupAddressOf, readAddress } from "../../demo/src/lib/lesson/address.ts";
import { memberOf, seedOf } from "../../demo/src/lib/lesson/class-seed.ts";

describe("a student's seed", () => {
  it("is the same whenever and wherever it is asked for", () => {
    expect(seedOf("3b", "7")).toBe(seedOf("3b", "7"));
    // Seeds written down by a teacher hold for ever.
    expect([seedOf("3b", "1"), seedOf("3b", "2"), seedOf("三班", "李雷")]).toEqual([252712709, 653920775, 694118993]);
  });

  it("does not ask how a name is typed", () => {
    for (const typed of [" 7", "７", "7 "]) expect(seedOf("3b", typed)).toBe(seedOf("3B", "7"));
    expect(seedOf("3b", "Ann  Lee")).toBe(seedOf("3b", "ann lee"));
  });

  it("is another for each of 40 students of 50 classes, within what a link can carry", () => {
    const seeds = new Set<number>();
    for (let group = 0; group < 50; group++) {
      for (let student = 1; student <= 40; student++) seeds.add(seedOf(`class ${group}`, String(student)));
    }
    expect(seeds.size).toBe(2000);
    for (const seed of seeds) expect(readAddress(addressOf({ size: "S", seed, asked: {} })).seed).toBe(seed);
    // Spread over all of them, not in a corner: each tenth has its share.
    const tenths = Array(10).fill(0);
    for (const seed of seeds) tenths[Math.floor(seed / 1e8)]++;
    for (const count of tenths) expect(count).toBeGreaterThan(140);
  });

  it("keeps class and student apart", () => {
    expect(seedOf("a b", "c")).not.toBe(seedOf("a", "b c"));
    expect(seedOf("1", "23")).not.toBe(seedOf("12", "3"));
  });

  it("tells whose a run is, and that it is not theirs who sat down later", () => {
    const seed = seedOf("3b", "7");
    expect(memberOf("3b", "7", seed)).toEqual({ class: "3b", student: "7" });
    expect(memberOf("3b", "8", seed)).toBeNull();
    expect(memberOf("3b", "", seed)).toBeNull();
    expect(memberOf(undefined, "7", seed)).toBeNull();
  });

  it("is refused to what is no name", () => {
    for (const name of ["", " ", "x".repeat(25), "<b>", "a\u0000b", "../x", "a\nb".repeat(9)]) {
      expect(() => seedOf("3b", name), JSON.stringify(name)).toThrow(/student is 1 to 24 letters/);
      expect(() => seedOf(name, "1"), JSON.stringify(name)).toThrow(/class is 1 to 24 letters/);
    }
  });
});

describe("a class's link", () => {
  it("comes back as it was made", () => {
    const group = { class: "3b", hide: ["seed", "recordings"] } as const;
    const asked = { diet: "all" };
    expect(readAddress(groupAddressOf({ size: "M", asked }, group))).toEqual({ size: "M", asked, group });
    expect(readAddress(groupAddressOf({ size: "S", asked: {} }, { class: "三班", hide: [] }))).toEqual({
      size: "S",
      asked: {},
      group: { class: "三班", hide: [] },
    });
  });

  it("names each hidden control once", () => {
    expect(readAddress("#class=3b&hide=seed,seed").group?.hide).toEqual(["seed"]);
  });

  it("is refused with words where it cannot be", () => {
    expect(() => readAddress("#class=3b&seed=7")).toThrow(/class's link has no seed/);
    expect(() => readAddress("#hide=seed&size=S")).toThrow(/only a class's link hides/);
    expect(() => readAddress("#class=3b&hide=labels")).toThrow(/hide is some of size, seed, recordings/);
    expect(() => readAddress(`#class=${"x".repeat(300)}`)).toThrow(/class is 1 to 24 letters/);
    expect(() => readAddress("#class=%3Cscript%3E")).toThrow(/This link is damaged/);
  });

  it("is refused in the reader's language, whatever is wrong with it", () => {
    const refused = [
      "#class=3b&seed=7",
      "#hide=seed&size=S",
      "#class=3b&hide=labels",
      "#class=%3Cscript%3E",
      "#size=XL",
      "#seed=-1",
      "#ask={",
      `#ask="${"x".repeat(2000)}"`,
    ];
    for (const hash of refused) {
      const said = (language: "en" | "zh") => {
        try {
          readAddress(hash, language);
        } catch (error) {
          return (error as Error).message;
        }
        throw new Error(`${hash} was taken`);
      };
      expect(said("en"), hash).toMatch(/^This link is damaged: [ -~]+\.$/);
      expect(said("zh"), hash).toMatch(/^这个链接已损坏:.*[\u4e00-\u9fff].*。$/);
      expect(said("zh"), hash).not.toMatch(/[A-Za-z]{3,} [a-z]{2,}/); // no English sentence within
    }
  });

  it("leaves links without a class as they were", () => {
    expect(readAddress("#size=S&seed=42")).toEqual({ size: "S", seed: 42, asked: {} });
  });
});
