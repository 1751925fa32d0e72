/** `webrlhf gpu-day`: items in processes of their own, whatever becomes of them. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { main } from "webrlhf/cli";
import { launch, type Told } from "../../src/cli/verbs/gpu-day/launch.ts";
import { silentTerminal } from "./terminal.ts";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-gpu-day-"));
});
afterAll(() => rm(dir, { recursive: true }));

/** What a program of this text tells, and how it ends. */
async function told(program: string, seconds = 20) {
  const heard: Told[] = [];
  const ending = await launch([process.execPath, "-e", program], seconds, (one) => heard.push(one));
  return { heard, ending };
}

const figure = `console.log('{"figure":{"what":"a","value":1,"unit":"ms"}}');`;
const heard = [{ figure: { what: "a", value: 1, unit: "ms" } }];

describe("an item's process", () => {
  it("is heard, but for what others print", async () => {
    const found = await told(`console.log("a driver's word"); console.log("{}"); ${figure}`);
    expect(found).toEqual({ heard, ending: null });
  });

  it("may abort: what it told before is kept", async () => {
    expect(await told(`${figure} process.abort();`)).toEqual({
      heard,
      ending: expect.stringMatching(/^its process was ended by SIG\w+/),
    });
  });

  it("may fail: its error is the reason", async () => {
    const failing = `${figure} console.error("error: no adapter\\nmore"); process.exitCode = 3;`;
    expect(await told(failing)).toEqual({ heard, ending: "its process ended with 3: error: no adapter" });
  });

  it("may hang: it is ended", async () => {
    expect(await told(`${figure} setInterval(() => {}, 1000);`, 1)).toEqual({
      heard,
      ending: "it was ended after 1 s",
    });
  });

  it("may not exist", async () => {
    expect(await launch([join(dir, "nothing")], 5, () => {})).toMatch(/^it did not start: /);
  });
});

describe("webrlhf gpu-day", () => {
  it("runs an item alone, and prints what it finds", async () => {
    const terminal = silentTerminal();
    expect(await main(["gpu-day", "--item", "f16", "--minutes", "0.01", "--shape", "tiny"], terminal)).toBe(0);
    expect(terminal.results.map((line) => JSON.parse(line))).toContainEqual({ facts: { f16: expect.any(Boolean) } });
  });

  it("refuses items that are none, and a file that is there", async () => {
    const terminal = silentTerminal();
    expect(await main(["gpu-day", "--items", "ceilings,nothing"], terminal)).toBe(1);
    expect(terminal.written.join("")).toMatch(/--items: there is no item nothing; there are about, f16, /);
    const out = join(dir, "old.jsonl");
    await writeFile(out, "figures");
    expect(await main(["gpu-day", "--out", out], terminal)).toBe(1);
    expect(terminal.written.join("")).toMatch(/old\.jsonl is there already: give another --out/);
    expect(await readFile(out, "utf8")).toBe("figures");
  });
});
