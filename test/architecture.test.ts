import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** From the bottom up. A room may import itself and the rooms below; `runtime` is open to all but the shaders. */
const floors: readonly (readonly string[])[] = [
  ["shaders"],
  ["runtime"],
  ["gpu"],
  ["tensor"],
  ["io"],
  ["data", "nn"],
  ["rlhf"],
  ["report"],
  ["cli"],
];
const floorOf = (room: string) => floors.findIndex((rooms) => rooms.includes(room));

const files = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })
  .filter((f) => f.endsWith(".ts"))
  .map((f) => f.replaceAll("\\", "/"));

const imports = (file: string): string[] =>
  [...readFileSync(join(root, "src", file), "utf8").matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].map((m) => m[1]);

const roomOf = (file: string): string => file.split("/")[0];

describe("the house", () => {
  it("has only known rooms", () => {
    const rooms = new Set(files.filter((f) => f.includes("/")).map(roomOf));
    expect([...rooms].filter((room) => floorOf(room) < 0)).toEqual([]);
  });

  it("has no arrow that points up", () => {
    const wrong: string[] = [];
    for (const file of files.filter((f) => f.includes("/"))) {
      for (const target of imports(file).filter((i) => i.startsWith("."))) {
        const to = roomOf(relative(join(root, "src"), join(root, "src", dirname(file), target)).replaceAll("\\", "/"));
        const from = roomOf(file);
        const up = to !== from && floorOf(to) >= floorOf(from);
        if (up || (from === "shaders" && to !== "shaders")) wrong.push(`${file} imports ${target}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it("lets models see no kernel and trainers no buffer", () => {
    const seen: string[] = [];
    for (const file of files) {
      const room = roomOf(file);
      for (const target of imports(file)) {
        if (room === "nn" && target.includes("shaders/")) seen.push(`${file} imports ${target}`);
        if (room === "rlhf" && /\/(gpu|shaders)\//.test(target)) seen.push(`${file} imports ${target}`);
      }
    }
    expect(seen).toEqual([]);
  });

  it("touches Node only in runtime, cli and behind the device's door", () => {
    const allowed = (file: string) =>
      ["runtime", "cli"].includes(roomOf(file)) || /^gpu\/(adapter|software)/.test(file);
    const wrong = files.filter((f) => !allowed(f) && imports(f).some((i) => i.startsWith("node:")));
    expect(wrong).toEqual([]);
  });
});
