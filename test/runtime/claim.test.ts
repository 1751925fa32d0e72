/** Folders for one writer at a time, and what killed writers left in them. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import ts from "typescript";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";

let dir: string;
let folder: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-claim-"));
  folder = join(dir, "out");
});
afterEach(() => rm(dir, { recursive: true }));

const claim = async () => (await diskFiles()).claim!(folder);
const dead = { pid: 2 ** 22 + 1, host: hostname(), began: "1", id: "gone" };

/** The module that claims folders as plain JavaScript, for processes of their own. */
async function compiled(): Promise<string> {
  const options = {
    module: ts.ModuleKind.ESNext,
    target: ts.ScriptTarget.ES2022,
    rewriteRelativeImportExtensions: true,
  };
  const names = new Set(["claim"]);
  for (const name of names) {
    const source = await readFile(new URL(`../../src/runtime/${name}.ts`, import.meta.url), "utf8");
    for (const [, other] of source.matchAll(/ from "\.\/([\w-]+)\.ts"/g)) names.add(other);
    const { outputText } = ts.transpileModule(source, { compilerOptions: options });
    await writeFile(join(dir, `${name}.js`), outputText);
  }
  await writeFile(join(dir, "package.json"), '{"type":"module"}');
  return pathToFileURL(join(dir, "claim.js")).href;
}

/** A process that claims the folder when it is told to, says whether it got it, and keeps it. */
function rival(module: string): { child: ChildProcess; ready: Promise<void>; got: Promise<boolean> } {
  const script = `const { claim } = await import(${JSON.stringify(module)});
    process.send("ready");
    process.on("message", (at) => {
      while (Date.now() < at);
      claim(${JSON.stringify(folder)}).then(() => process.send(true), () => process.send(false));
    });`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const answers: ((value: unknown) => void)[] = [];
  child.on("message", (said) => answers.shift()?.(said));
  const next = () => new Promise((resolve) => answers.push(resolve));
  const ready = next().then(() => {});
  return { child, ready, got: next() as Promise<boolean> };
}

describe("a claimed folder", () => {
  it.each([false, true])(
    "has one of several that come at once; a dead one's mark: %s",
    async (stale) => {
      await mkdir(folder);
      const module = await compiled();
      const rivals = Array.from({ length: 4 }, () => rival(module));
      try {
        await Promise.all(rivals.map(({ ready }) => ready));
        if (stale) await writeFile(join(folder, ".running.json"), JSON.stringify(dead));
        const at = Date.now() + 50;
        for (const { child } of rivals) child.send(at);
        const got = await Promise.all(rivals.map((one) => one.got));
        expect(got.filter(Boolean)).toHaveLength(1);
      } finally {
        for (const { child } of rivals) child.kill("SIGKILL");
      }
    },
    30_000,
  );

  it("is refused twice in one process, and given back whole", async () => {
    const release = await claim();
    await expect(claim()).rejects.toThrow(/another run \(process \d+\) is writing here/);
    await release();
    expect(await readdir(dir)).toEqual([]); // nobody wrote into it
    await (await claim())();
  });

  it("passes from a dead holder, also where another died while it took over", async () => {
    await mkdir(folder);
    await writeFile(join(folder, ".running.json"), JSON.stringify(dead));
    await writeFile(join(folder, ".running.json.gone"), JSON.stringify({ ...dead, id: "too" }));
    await (await claim())();
    expect(await readdir(folder)).toEqual([]);
  });

  it("is cleared of what killed writers left, and of nothing else", async () => {
    const left = [".running.json.partial-77-ab", "stage.json.partial-77", "checkpoint-2.partial-old-77/a"];
    const deep = ["checkpoint-4/policy/model.safetensors.partial-77", "iteration_1/model/.partial-77/a"];
    const stay = ["answers.jsonl.partial-0123456789ab", "mine/a.partial-77", "iteration_1/rewards.jsonl.partial"];
    const beside = ["out.partial-4194305/a", "other.partial-4194305"];
    for (const name of [...left, ...deep, ...stay, ...beside.map((name) => `../${name}`)]) {
      await mkdir(join(folder, name, ".."), { recursive: true });
      await writeFile(join(folder, name), "");
    }
    await (await claim())();
    const files = (await readdir(folder, { recursive: true })).filter((name) => name.includes(".partial"));
    expect(files.sort()).toEqual([...stay].sort());
    expect((await readdir(dir)).sort()).toEqual(["other.partial-4194305", "out"]);
  });
});

it("a file or folder that is written anew loses what killed writers left of it, and nothing else", async () => {
  const files = await diskFiles();
  const dead = ["a.json.partial-4194305", "b.partial-4194305-x/one", "b.partial-old-4194305/two"];
  const stay = [`a.json.partial-${process.ppid}`, "a.json.partial-0123456789ab", "other.json.partial-4194305"];
  for (const name of [...dead, ...stay]) {
    await mkdir(join(dir, name, ".."), { recursive: true });
    await writeFile(join(dir, name), "half");
  }
  await files.writeFile(join(dir, "a.json"), "{}");
  await files.writeFolder(join(dir, "b"), { one: "1" });
  expect((await readdir(dir)).sort()).toEqual([...stay, "a.json", "b"].sort());
});

it("a folder is deleted as a whole: a reader never sees a part of it", async () => {
  const files = await diskFiles();
  await files.writeFolder(folder, Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`f${i}`, "x".repeat(9e3)])));
  const removing = files.remove(folder);
  const seen = new Set<number>();
  while (seen.size < 100 && (await readdir(folder).catch(() => [])).length > 0) {
    seen.add((await readdir(folder).catch(() => [])).length);
  }
  await removing;
  expect([...seen].filter((count) => count !== 40 && count !== 0)).toEqual([]);
  expect(await readdir(dir)).toEqual([]);
});
