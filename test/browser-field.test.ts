/** What a page's bundle reaches of Node: package.json says of all of it that browsers have none, or bundlers complain. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";

const root = path.resolve(import.meta.dirname, "..");
const { browser, exports: doors } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8")) as {
  browser: Record<string, false>;
  exports: Record<string, { default?: string }>;
};

const published = (file: string) => `./dist/${path.relative(path.join(root, "src"), file).replace(/\.ts$/, ".js")}`;
const source = (name: string) => path.join(root, name.replace("./dist/", "src/").replace(/\.js$/, ".ts"));

it("names every file and module of Node that the doors for pages lead to", () => {
  const open = Object.entries(doors).flatMap(([name, { default: file }]) =>
    file && name !== "./cli" ? [source(file)] : [],
  );
  const seen = new Set(open);
  const missing: string[] = [];
  const used = new Set<string>();
  for (const file of seen) {
    const text = readFileSync(file, "utf8").replaceAll(/^(import|export) type .*$/gm, "");
    for (const [, target] of text.matchAll(/(?:from|import)\s*\(?\s*"((?:node:|\.)[^"]+)"/g)) {
      const next = target.startsWith(".") ? path.resolve(path.dirname(file), target) : null;
      const name = next ? published(next) : target;
      if (browser[name] === false) used.add(name);
      else if (next === null) missing.push(`${path.relative(root, file)} imports ${target}`);
      else if (next.endsWith(".ts")) seen.add(next);
    }
  }
  expect(seen.size).toBeGreaterThan(200);
  expect(missing).toEqual([]);
  expect(Object.keys(browser).filter((name) => !used.has(name))).toEqual([]);
});
