import { beforeAll, describe, expect, it } from "vitest";
import { type Method, methods } from "webrlhf/open";
import * as trainers from "webrlhf/rlhf";
import { defaultWords, type Setting, type Settings, settings } from "webrlhf/rlhf";
// @ts-expect-error a script without types
import { pageOf, pages, rangeOf } from "../scripts/settings-pages.mjs";
import { nullable, snakeCase } from "../src/settings/index.ts";

const words = { defaultWords, nullable, snakeCase };

/** Rows of a page's tables: the cells of each, with the page's escapes undone. */
const rowsOf = (page: string): string[][] =>
  page
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim().replace(/\\(.)/g, "$1")),
    );

describe("the docs' pages of settings", () => {
  let written: Record<string, string>;
  beforeAll(() => {
    written = pages({ methods, trainers, words });
  });

  it("say everything that a record says", () => {
    const group = trainers.group("Pace");
    const trainer = settings("walk", {
      dialect: group.choice(["slow", "fast"], "slow", "Habits"),
      stepLength: group.float(trainers.byDialect({ slow: 0.5, fast: 1.25 }), "Metres | of_a step", {
        min: 0,
        exclusiveMin: true,
        max: 2,
        aka: ["stride"],
      }),
      maxSteps: group.int(null, "Where to end", { min: 1 }),
    });
    const named = settings("walk", { ...trainer.table, mapName: group.path(null, "Map", { required: true }) });
    const page = pageOf({ name: "walk", summary: "Walk", settings: named }, trainer, words);
    expect(page).toContain("| `step_length` | 0.5 | 1.25 |");
    expect(page.slice(page.indexOf("## Settings of the trainer"))).toBe(`## Settings of the trainer

### Pace

| in code | flag, YAML | type | range | default | meaning | also |
|---|---|---|---|---|---|---|
| \`dialect\` | \`dialect\` | \`slow\`, \`fast\` |  | slow | Habits |  |
| \`stepLength\` | \`step_length\` | number | > 0, ≤ 2 | 0.5; fast: 1.25 | Metres \\| of\\_a step | \`stride\` |
| \`maxSteps\` | \`max_steps\` | integer, or none | ≥ 1 | none | Where to end |  |

## Names of models and data, for the command line and \`webrlhf/open\`

### Pace

| in code | flag, YAML | type | range | default | meaning | also |
|---|---|---|---|---|---|---|
| \`mapName\` | \`map_name\` | path |  | must be set | Map |  |
`);
  });

  it("say what numbers a setting takes", () => {
    expect([{}, { min: 1 }, { max: 2 }, { min: 0, exclusiveMin: true }].map(rangeOf)).toEqual([
      "",
      "≥ 1",
      "≤ 2",
      "> 0",
    ]);
  });

  it("hold every setting of every method once, with its help and its foreign spellings", () => {
    for (const method of Object.values<Method>(methods)) {
      const rows = rowsOf(written[`${method.name}.md`]).filter((cells) => cells.length === 7);
      const expected = Object.entries<Setting>(method.settings.table).map(([key, { help, aka = [] }]) =>
        [key, snakeCase(key), help, ...aka].join(" "),
      );
      const found = rows.map(([name, flag, , , , help, also]) =>
        [name, flag, help, ...also.split(", ").filter(Boolean)].join(" ").replaceAll("`", ""),
      );
      expect(found.sort(), method.name).toEqual(expected.map((text) => text.replaceAll("`", "")).sort());
    }
    expect(Object.keys(written).sort()).toEqual(
      ["settings", ...Object.keys(methods)].map((name) => `${name}.md`).sort(),
    );
  });

  it("have the defaults of each dialect as the trainers resolve them", () => {
    const dialects = (record: Settings) => record.table.dialect?.choices ?? [];
    const records = [trainers.ppo, trainers.raft] as unknown as Settings[];
    for (const record of records) {
      const rows = rowsOf(written[`${record.title}.md`]).filter((cells) => cells.length < 7);
      expect(rows.length).toBeGreaterThan(0);
      const values = dialects(record).map((dialect) => record({ dialect })) as Record<string, unknown>[];
      for (const [name, ...shown] of rows) {
        const key = Object.keys(record.table).find((key) => snakeCase(key) === name.replaceAll("`", "")) as string;
        expect(shown, name).toEqual(values.map((own) => String(own[key] ?? "none")));
      }
    }
  });

  it("fail for a method whose trainer shows no settings", () => {
    const other = { name: "other", summary: "Other", settings: trainers.sft };
    expect(() => pages({ methods: { other }, trainers, words })).toThrow("exports no settings of other");
  });
});
