import fs from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";

const root = path.resolve(import.meta.dirname, "..");

/** Each room and the rooms it may import from; its own files always. */
const below = (...rooms: string[]) => rooms;
const rooms: Record<string, string[]> = {
  shaders: below(),
  runtime: below(),
  gpu: below("shaders", "runtime"),
  tensor: below("gpu", "shaders", "runtime"),
  io: below("tensor", "runtime"),
  nn: below("io", "tensor", "gpu", "runtime"),
  data: below("io", "tensor", "runtime"),
  rlhf: below("data", "nn", "io", "tensor", "runtime"),
  report: below("rlhf", "data", "runtime"),
  serve: below("data", "nn", "io", "tensor", "runtime"),
  cli: below("serve", "report", "rlhf", "data", "nn", "io", "tensor", "gpu", "runtime"),
};

interface Import {
  file: string;
  room: string;
  target: string;
}

function* sources(folder: string): Generator<string> {
  for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
    const file = path.join(folder, entry.name);
    if (entry.isDirectory()) yield* sources(file);
    else if (entry.name.endsWith(".ts")) yield file;
  }
}

const src = path.join(root, "src");
const roomOf = (file: string) => path.relative(src, file).split(path.sep)[0];

function* imports(): Generator<Import> {
  for (const file of sources(src)) {
    const text = fs.readFileSync(file, "utf8");
    for (const match of text.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)) {
      yield { file, room: roomOf(file), target: match[1] };
    }
  }
}

const json = (file: string) => JSON.parse(fs.readFileSync(path.join(root, file), "utf8"));

describe("the house", () => {
  it("has the same doors in package.json and deno.json, and a file behind each", () => {
    const { exports: built } = json("package.json") as { exports: Record<string, { types: string; default: string }> };
    const { exports: source, imports: named } = json("deno.json") as Record<string, Record<string, string>>;
    const { "./package.json": _, ...doors } = built;
    expect(Object.keys(source)).toEqual(Object.keys(doors));
    for (const [door, { types, default: code }] of Object.entries(doors)) {
      expect(named[door.replace(/^\./, "webrlhf")]).toBe(source[door]);
      const stem = source[door].replace(/^\.\/src/, "./dist").replace(/\.ts$/, "");
      expect([types, code]).toEqual([`${stem}.d.ts`, `${stem}.js`]);
      expect(fs.existsSync(path.join(root, source[door])), source[door]).toBe(true);
    }
  });

  it("has imports that only point down", () => {
    const up: string[] = [];
    for (const { file, room, target } of imports()) {
      if (!target.startsWith(".") || room === "index.ts") continue;
      const other = roomOf(path.resolve(path.dirname(file), target));
      if (other !== room && !rooms[room]?.includes(other)) up.push(`${path.relative(root, file)} imports ${target}`);
    }
    expect(up).toEqual([]);
  });

  it("imports Node's modules only where browsers never come", () => {
    const lazy = /^src\/(cli|runtime|serve)\/|^src\/gpu\/(adapter-node|software)\.ts$/;
    const found: string[] = [];
    for (const { file, target } of imports()) {
      const name = path.relative(root, file).replaceAll(path.sep, "/");
      if (target.startsWith("node:") && !lazy.test(name)) found.push(`${name} imports ${target}`);
    }
    expect(found).toEqual([]);
  });

  it("shows kernels to tensor ops only", () => {
    const seen = [...imports()].filter(({ target }) => /gpu\/kernel\.ts$|shaders\//.test(target));
    expect([...new Set(seen.map(({ room }) => room))].filter((room) => room !== "tensor" && room !== "gpu")).toEqual(
      [],
    );
  });
});
