import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

let folder: string;
beforeAll(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), "webrlhf-stderr-test-"));
  const source = fs.readFileSync(path.resolve(import.meta.dirname, "../../src/runtime/stderr.ts"), "utf8");
  const { outputText } = ts.transpileModule(source, { compilerOptions: { module: ts.ModuleKind.ESNext, target: 99 } });
  fs.writeFileSync(path.join(folder, "stderr.mjs"), outputText);
});
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

/** Runs a program that has `quiet`, a call of withoutNoise, in a shell: "PROGRAM" stands for it. Gives all that it wrote. */
function inShell(program: string, line: string): string {
  const head = `
    import fs from "node:fs";
    import { withoutNoise } from "./stderr.mjs";
    const native = (text) => fs.writeSync(2, text);
    const quiet = (action) => withoutNoise(/noise/, async () => action());
  `;
  fs.writeFileSync(path.join(folder, "program.mjs"), head + program);
  const command = line.replaceAll("PROGRAM", `"${process.execPath}" program.mjs`);
  const { stdout, stderr, error } = spawnSync("bash", ["-c", command], {
    cwd: folder,
    encoding: "utf8",
    timeout: 60_000,
  });
  if (error) throw error;
  return stdout + stderr;
}

const noisy = `
  process.stderr.write("before\\n");
  await quiet(() => native("noise\\nan error\\nmore noise\\n"));
  process.stderr.write("after\\n");
`;

describe.runIf(process.platform === "linux")("the noise of native code", () => {
  it("does not come through a pipe", () => {
    expect(inShell(noisy, "PROGRAM 2>&1 | cat")).toBe("before\nan error\nafter\n");
  });

  it("is not appended to a file", () => {
    expect(inShell(noisy, "echo first > log; PROGRAM 2>> log; echo last >> log; cat log")).toBe(
      "first\nbefore\nan error\nafter\nlast\n",
    );
  });

  it("leaves everything in place in a file that others write, too", () => {
    const all = "before\nnoise\nan error\nmore noise\nafter\nlast\n";
    expect(inShell(noisy, "rm -f log; (PROGRAM; echo last >&2) 2> log; cat log")).toBe(all);
    expect(inShell(noisy, "rm -f log; (PROGRAM; echo last) > log 2>&1; cat log")).toBe(all);
  });

  it("hides no error of a program that ends in the middle", () => {
    const ends = `await quiet(() => { native("noise\\nan error\\n"); process.exit(3); });`;
    expect(inShell(ends, `(PROGRAM; echo "code $?") 2>&1 | cat`)).toBe("an error\ncode 3\n");
    const fails = `await quiet(() => { native("noise\\n"); throw new Error("mine"); }).catch((e) => native(e.message));`;
    expect(inShell(fails, "PROGRAM 2>&1 | cat")).toBe("mine");
  });

  it("does not hide the stream where two calls overlap", () => {
    const two = `
      const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
      const first = quiet(() => wait(20));
      const second = quiet(() => wait(60));
      await Promise.all([first, second]);
      native("here\\n");
      await quiet(() => native("noise\\n"));
      native("still here\\n");
    `;
    expect(inShell(two, "PROGRAM 2>&1 | cat")).toBe("here\nstill here\n");
  });

  it("does not hold a program whose reader has gone", () => {
    const late = `await new Promise((resolve) => setTimeout(resolve, 300)); await quiet(() => native("noise\\n"));`;
    expect(
      inShell(`process.stderr.on("error", () => {}); ${late}`, "(PROGRAM; echo ended > log) 2>&1 | true; cat log"),
    ).toBe("ended\n");
  });
});
