import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import ts from "typescript";
import { afterAll, describe, expect, it } from "vitest";
// @ts-expect-error a script without types
import { examine } from "../scripts/api.mjs";

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "webrlhf-api-"));
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

/** Examines a package of two entries made from these texts. */
function examined(files: Record<string, string>): { reports: Record<string, string>; problems: string[] } {
  const rootDir = fs.mkdtempSync(path.join(folder, "p-"));
  const src = path.join(rootDir, "src");
  fs.mkdirSync(src);
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(src, name), text);
  const entries = { p: path.join(src, "index.ts"), "p/more": path.join(src, "more.ts") };
  const { ESNext: target } = ts.ScriptTarget;
  const options = { rootDir: src, target, module: ts.ModuleKind.NodeNext, rewriteRelativeImportExtensions: true };
  return examine(entries, { ...options, strict: true, types: [], stripInternal: true, verbatimModuleSyntax: true });
}

const inner = "/** A hidden shape. */\nexport interface Shape { size: number }\n";
const more = 'export type { Shape } from "./inner.ts";\n';

describe("the public surface", () => {
  it("has a public name for every type of a signature, written or inferred", () => {
    const index =
      'import type { Shape } from "./inner.ts";\n/** Makes a shape. */\nexport const make = () => ({ size: 1 }) as Shape;\n';
    expect(examined({ "inner.ts": inner, "index.ts": index, "more.ts": "export {};\n" }).problems).toEqual([
      "p make needs Shape (inner.ts), which has no public name",
    ]);
    expect(examined({ "inner.ts": inner, "index.ts": index, "more.ts": more }).problems).toEqual([]);
  });

  it("does not ask for names of what is private, internal or a type parameter", () => {
    const index =
      'import type { Shape } from "./inner.ts";\n/** A box of things. */\nexport class Box<T> {\n  private shape: Shape = { size: 1 };\n' +
      "  /** @internal */\n  inside: Shape = this.shape;\n  hold(thing: T): T { return thing; }\n}\n";
    const files = { "inner.ts": inner, "index.ts": index, "more.ts": "export {};\n" };
    const { problems, reports } = examined(files);
    expect(problems).toEqual([]);
    expect(reports.p).toBe("# p\n\n```ts\nclass Box<T> {\n    hold(thing: T): T;\n}\n```\n");
  });

  it("has doc comments that stand alone", () => {
    const index =
      "export const bare = 1;\n/** The same for two. */\nexport const two = 2;\n/** Its floor. */\nexport const floor = 0;\n" +
      "/** The sample's size, in rows. This is not the same as its weight. */\nexport const size = 3;\n";
    expect(examined({ "index.ts": index, "more.ts": "export {};\n" }).problems).toEqual([
      "p bare has no doc comment",
      'p floor begins with a sentence that needs another: "Its floor."',
      'p two begins with a sentence that needs another: "The same for two."',
    ]);
  });

  it("reports names in order, without comments, and anew when a signature changes", () => {
    const text = (type: string) =>
      `/** Second. */\nexport function b(x: ${type}): void {}\n/** First. */\nexport const a = 1;\n`;
    const report = (type: string) => examined({ "index.ts": text(type), "more.ts": "export {};\n" }).reports.p;
    expect(report("number")).toBe("# p\n\n```ts\nconst a = 1;\n\nfunction b(x: number): void;\n```\n");
    expect(report("string")).toContain("b(x: string)");
  });
});
