/** Every recipe that comes with the program names options that exist, with values that they take. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { parseRecipe, resolveRecipe } from "webrlhf/open";
import { parse } from "yaml";
import { loadVerb, verbNames } from "../../src/cli/verbs/index.ts";

const folder = fileURLToPath(new URL("../../recipes", import.meta.url));
const recipes = readdirSync(folder, { recursive: true })
  .map(String)
  .filter((file) => file.endsWith(".yaml"));

describe("shipped recipes", () => {
  it.each(recipes)("%s", async (file) => {
    const verbs = new Map(await Promise.all(verbNames().map(async (name) => [name, await loadVerb(name)] as const)));
    const recipe = parseRecipe(file, parse(readFileSync(join(folder, file), "utf8"), { merge: true }));
    const missing = Object.entries(recipe.vars ?? {}).filter(([, value]) => value === null);
    const vars = Object.fromEntries(missing.map(([name]) => [name, "given"]));
    const settingsOf = (name: string) => verbs.get(name)?.settings ?? null;
    const { stages } = resolveRecipe(recipe, folder, settingsOf, verbNames(), { vars });
    expect(stages.map((stage) => stage.name)).toEqual(recipe.stages.map((stage) => stage.name));
  });
});
