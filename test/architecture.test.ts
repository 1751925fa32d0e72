import fs from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";

const root = path.resolve(import.meta.dirname, "..");

/** The rooms from the bottom up; a room may import from those below it, unless it is told otherwise. */
const floors = [
  ["shaders", "runtime"],
  ["gpu"],
  ["tensor"],
  ["io"],
  ["nn"],
  ["data"],
  ["settings"],
  ["rlhf"],
  ["open", "report", "day"],
  ["serve", "worker", "cluster"],
  ["cli"],
];

/** What a room does not see although it is below: kernels stay with tensors, terminals with the command line. */
const hidden: Record<string, string[]> = {
  gpu: ["settings"],
  tensor: ["settings"],
  io: ["shaders", "gpu", "settings"],
  nn: ["shaders"],
  data: ["shaders", "gpu", "nn"],
  rlhf: ["shaders", "gpu"],
  open: ["shaders"],
  day: ["shaders", "io", "settings"],
  cluster: ["shaders", "gpu", "tensor", "io", "settings"],
  report: ["shaders", "gpu", "tensor", "nn", "io"],
  serve: ["shaders", "gpu", "report"],
  worker: ["shaders", "report"],
  cli: ["shaders"],
};

function mayImport(room: string): string[] {
  const floor = floors.findIndex((rooms) => rooms.includes(room));
  if (floor < 0) throw new Error(`src/${room} is no known room`);
  return floors
    .slice(0, floor)
    .flat()
    .filter((below) => !hidden[room]?.includes(below));
}

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

const relative = (file: string) => path.relative(root, file).replaceAll(path.sep, "/");

/** Groups of files that all reach each other by imports (strongly connected components of more than one; Tarjan 1972). */
function circles(graph: ReadonlyMap<string, ReadonlySet<string>>): string[][] {
  const found: string[][] = [];
  const order = new Map<string, number>();
  const open: string[] = [];
  /** Returns the oldest file still open that this one reaches. */
  function visit(file: string): number {
    const own = order.size;
    order.set(file, own);
    open.push(file);
    let oldest = own;
    for (const next of graph.get(file) ?? []) {
      if (!order.has(next)) oldest = Math.min(oldest, visit(next));
      else if (open.includes(next)) oldest = Math.min(oldest, order.get(next) as number);
    }
    if (oldest === own) {
      const group = open.splice(open.indexOf(file));
      if (group.length > 1) found.push(group.sort());
    }
    return oldest;
  }
  for (const file of graph.keys()) if (!order.has(file)) visit(file);
  return found;
}

const json = (file: string) => JSON.parse(fs.readFileSync(path.join(root, file), "utf8"));

describe("the house", () => {
  it("has the same doors in package.json and deno.json, and a file behind each", () => {
    const { exports: built } = json("package.json") as { exports: Record<string, { types: string; default: string }> };
    const { exports: source, imports: named } = json("deno.json") as Record<string, Record<string, string>>;
    const { "./package.json": _, ...doors } = built;
    expect(Object.keys(source)).toEqual(Object.keys(doors));
    expect(json("typedoc.json").entryPoints).toEqual(Object.values(source).map((file) => file.replace("./", "")));
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
      if (other !== room && !mayImport(room).includes(other)) up.push(`${path.relative(root, file)} imports ${target}`);
    }
    expect(up).toEqual([]);
  });

  it("has no circles, not even of types", () => {
    const graph = new Map<string, Set<string>>();
    for (const { file, target } of imports()) {
      if (!graph.has(file)) graph.set(file, new Set());
      if (target.startsWith(".")) graph.get(file)?.add(path.resolve(path.dirname(file), target));
    }
    expect(
      circles(
        new Map([
          ["a", new Set("b")],
          ["b", new Set("c")],
          ["c", new Set("bd")],
        ]),
      ),
    ).toEqual([["b", "c"]]);
    expect(circles(graph).map((files) => files.map(relative))).toEqual([]);
  });

  it("is tested through its doors: what an entry has is not imported from behind it", () => {
    const named = (text: string, verb: string) =>
      [...text.matchAll(new RegExp(`^${verb} (?:type )?\\{([^}]*)\\} from "([^"]+)";`, "gm"))].map(
        ([, names, from]) => ({
          names: names.split(",").map(
            (name) =>
              name
                .trim()
                .replace(/^type /, "")
                .split(" as ")[0],
          ),
          from,
        }),
      );
    const doors = Object.values(json("deno.json").exports as Record<string, string>).map((file) =>
      path.join(root, file),
    );
    const shown = new Set<string>();
    for (const door of doors) {
      const text = fs.readFileSync(door, "utf8");
      const at = (from: string) => path.resolve(path.dirname(door), from);
      for (const { names, from } of named(text, "export")) for (const name of names) shown.add(`${at(from)} ${name}`);
      for (const [, from] of text.matchAll(/^export (?:type )?\* from "([^"]+)";/gm)) shown.add(at(from));
    }
    const behind: string[] = [];
    for (const file of sources(path.join(root, "test"))) {
      for (const { names, from } of named(fs.readFileSync(file, "utf8"), "import")) {
        const target = path.resolve(path.dirname(file), from);
        const open = names.filter((name) => shown.has(target) || shown.has(`${target} ${name}`));
        if (open.length > 0) behind.push(`${relative(file)} imports ${open.join(", ")} from ${from}`);
      }
    }
    expect(behind).toEqual([]);
  });

  it("puts something else in a module's place only in tests that stand apart: the others share their modules", () => {
    const mocking = [...sources(path.join(root, "test"))].filter((file) =>
      /^vi\.mock\(/m.test(fs.readFileSync(file, "utf8")),
    );
    expect(mocking.length).toBeGreaterThan(0);
    expect(mocking.filter((file) => !file.endsWith(".apart.test.ts"))).toEqual([]);
  });

  it("leads from a command to an updated weight in at most 12 files, with at most one way back", () => {
    const text = fs.readFileSync(path.join(root, "docs/architecture.md"), "utf8");
    const section = text.split("## From a command to an updated weight")[1].split("\n## ")[0];
    const walk = [...section.matchAll(/^\d+\. `(src\/[\w/-]+\.ts)`(?:, from `([\w-]+\.ts)`)?/gm)];
    const graph = new Map<string, Set<string>>();
    for (const { file, target } of imports()) {
      const name = relative(file);
      if (!graph.has(name)) graph.set(name, new Set());
      if (target.startsWith(".")) graph.get(name)?.add(relative(path.resolve(path.dirname(file), target)));
    }
    /** What a file imports, and what the doors of the rooms that it imports give on. */
    const reached = (file: string) =>
      [...(graph.get(file) ?? [])].flatMap((next) => [
        next,
        ...(next.endsWith("/index.ts") ? (graph.get(next) ?? []) : []),
      ]);
    const wrong: string[] = [];
    let back = 0;
    walk.forEach(([, file, from], i) => {
      if (i === 0) return;
      const before = walk[i - 1][1];
      const start = from === undefined ? before : walk.slice(0, i).find((one) => path.basename(one[1]) === from)?.[1];
      if (start !== before) back += 1;
      if (start === undefined || !reached(start).includes(file)) wrong.push(`${start ?? from} does not import ${file}`);
    });
    expect(wrong).toEqual([]);
    expect([walk[0][1], walk.at(-1)?.[1]]).toEqual(["src/cli/program.ts", "src/nn/optimizer.ts"]);
    expect(walk.length).toBeLessThanOrEqual(12);
    expect(back).toBeLessThanOrEqual(1);
  });

  it("imports Node's modules only where browsers never come", () => {
    const lazy = /^src\/(cli|runtime|serve)\/|^src\/gpu\/(adapter-node|f16-trial|software)\.ts$/;
    const found: string[] = [];
    for (const { file, target } of imports()) {
      const name = relative(file);
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
