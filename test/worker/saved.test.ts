/** What is kept of runs outside of their worker: on a disk that gets full, and in files of strangers. */
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { isUserError, memoryFiles, UserError, zipFiles } from "webrlhf";
import type { Run, Session } from "webrlhf/worker";
import { decode, encode } from "../../src/runtime/typed-json.ts";
import { SavedFolder } from "../../src/worker/saved.ts";
import { fromZip, toZip } from "../../src/worker/snapshot.ts";
import { type CountEvent, type CountInput, counting } from "./counting.ts";
import { desk, Vault } from "./desk.ts";

const open: Session[] = [];
const sit = (vault: Vault) => {
  const made = desk({ programs: { count: counting } }, vault);
  open.push(made.session);
  return made.session;
};
afterEach(async () => {
  for (const session of open.splice(0)) await session.close();
});
const spec = (input: CountInput) => ({ program: "count", input });

async function eventsOf(run: Run<CountEvent>): Promise<CountEvent[]> {
  const events: CountEvent[] = [];
  for await (const { event } of run) events.push(event);
  return events;
}

const until = (run: Run<CountEvent>, what: (run: Run<CountEvent>) => boolean) =>
  new Promise<void>((resolve) => {
    const end = run.subscribe((now) => {
      if (!what(now)) return;
      setTimeout(() => end());
      resolve();
    });
  });

/** A place that has no more room now and then. */
class FullVault extends Vault {
  full = false;
  /** Bytes of a write that go in before the place is full. */
  room = 0;

  override files(worker: Parameters<Vault["files"]>[0]) {
    const files = super.files(worker);
    const refuse = (path: string) =>
      Promise.reject(new UserError(`cannot write ${path}: the browser gives no more room`));
    return {
      ...files,
      writeFile: async (path: string, content: Parameters<typeof files.writeFile>[1]) =>
        this.full ? refuse(path) : files.writeFile(path, content),
      append: async (path: string, text: string) => {
        if (!this.full) return files.append(path, text);
        await files.append(path, text.slice(0, this.room));
        return refuse(path);
      },
    };
  }
}

describe("a run that is saved where there is no more room", () => {
  it.each([0, 7, 60])("trains on, says so, is saved again when there is, and goes on then (%i bytes)", async (room) => {
    const vault = new FullVault();
    vault.room = room;
    const expected = await eventsOf(sit(new Vault()).run<CountInput, CountEvent>(spec({ to: 8, save: 2 })));
    const before = sit(vault);
    const run = before.run<CountInput, CountEvent>(spec({ to: 8, save: 2 }), { mode: "step" });
    const paused = (step: number) =>
      until(run, (now) => now.state === "paused" && now.events.at(-1)?.event.step === step);
    await paused(1);
    await expect.poll(() => vault.store.size).toBeGreaterThan(1);
    vault.full = true;
    for (const step of [2, 3, 4]) {
      run.step();
      await paused(step);
    }
    await expect.poll(() => run.notices.map(({ type }) => type)).toEqual(["unsaved"]);
    expect(run.notices[0].message).toMatch(/^Nothing of this run will survive a reload: cannot write .* no more room/);
    vault.full = false;
    run.step();
    await paused(5);
    await expect.poll(() => run.notices.map(({ type }) => type)).toEqual(["unsaved", "saved"]);
    await before.close();
    const session = sit(vault);
    const [{ id, events }] = await session.unfinished();
    expect(events).toBe(run.events.length);
    expect(await eventsOf(session.goOn<CountEvent>(id))).toEqual(expected);
  });
});

describe("a saved run", () => {
  const moment = (step: number) => ({
    spec: spec({ to: 9 }),
    events: Array.from({ length: 3 * step }, (_, n) => ({ type: "token", n })),
    contents: new Map(
      ["a", "b", "c"].slice(0, 1 + (step % 3)).map((name) => [`run/${name}`, Uint8Array.of(step, name.charCodeAt(0))]),
    ),
  });

  it("is as it was at one moment, wherever its worker is killed", async () => {
    for (let writes = 0; writes < 60; writes++) {
      const store = new Map<string, Uint8Array>();
      const files = memoryFiles(store);
      let left = writes;
      // The last write may go in half: what is appended has no temporary name.
      const killed = { ...files };
      const last = () => new Error("killed");
      killed.writeFile = async (path, content) => {
        if (left-- <= 0) throw last();
        return files.writeFile(path, content);
      };
      killed.append = async (path, text) => {
        if (left-- > 0) return files.append(path, text);
        await files.append(path, text.slice(0, text.length / 2));
        throw last();
      };
      killed.remove = async (path) => {
        if (left-- <= 0) throw last();
        return files.remove(path);
      };
      const folder = new SavedFolder(killed, "saved");
      let step = 0;
      const end = async () => {
        for (step = 1; step < 8; step++) await folder.save(moment(step));
      };
      const whole = await end().then(
        () => true,
        () => false,
      );
      const found = await new SavedFolder(files, "saved").load();
      if (!found) {
        expect(step).toBe(1);
        continue;
      }
      const saved = [...found.contents.values()][0][0];
      expect(found.contents).toEqual(moment(saved).contents);
      expect(saved).toBeGreaterThanOrEqual(whole ? 7 : step - 1);
      // What was told after that may be known, too: it is not told twice.
      expect(found.events.length).toBeGreaterThanOrEqual(3 * saved);
      expect(found.events).toEqual(moment(step + 1).events.slice(0, found.events.length));
      // It can be saved on.
      const again = new SavedFolder(files, "saved");
      await again.load();
      await again.save(moment(9));
      expect(await new SavedFolder(files, "saved").load()).toEqual(moment(9));
      expect((await files.list("saved")).length).toBe(2 + moment(9).contents.size);
    }
  });

  it("is refused in words where it is damaged", async () => {
    const store = new Map<string, Uint8Array>();
    const files = memoryFiles(store);
    await new SavedFolder(files, "saved").save(moment(3));
    const whole = new Map(store);
    for (const path of whole.keys()) {
      for (const damage of ["", "{", '{"version":2}', '{"version":1,"files":{"a":"../../x"}}', "0 {}\n5 {}\n", null]) {
        store.clear();
        for (const [name, bytes] of whole) if (name !== path) store.set(name, bytes);
        if (damage !== null) store.set(path, new TextEncoder().encode(damage));
        const found = await new SavedFolder(files, "saved").load().catch((error) => error);
        if (/b\d+$/.test(path) && damage !== null) continue; // contents are the program's
        if (path.endsWith("run.json") && damage === null) expect(found).toBe(null);
        else expect([path, damage, isUserError(found)]).toEqual([path, damage, true]);
      }
    }
  });
});

describe("events as text", () => {
  it("are what they were", () => {
    const value = fc.anything({
      withTypedArray: true,
      withMap: true,
      withSet: true,
      withDate: true,
      withBigInt: true,
      key: fc.oneof(fc.string(), fc.constantFrom("$as", "of", "__proto__")),
    });
    fc.assert(
      fc.property(value, (thing) => {
        const plain = structuredClone(thing);
        const text = encode(plain);
        expect(text).not.toMatch(/\n/);
        const back = decode(text);
        expect(structuredClone(back)).toEqual(plain);
        expect(encode(back)).toBe(text);
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  it("from strangers give plain data or an error", () => {
    for (const text of [
      '{"$as":"Function","of":"x"}',
      '{"$as":"constructor","of":"AAAA"}',
      '{"$as":"Float32Array","of":"AAA="}',
      '{"$as":"Float32Array","of":"%%"}',
      '{"$as":"Float32Array","of":12}',
      '{"$as":"bigint","of":"1e999999"}',
      '{"$as":"Map","of":[1]}',
      '{"$as":"object","of":null}',
      '{"$as":"Date","of":"soon"}',
      "{",
      "",
    ]) {
      const error = (() => {
        try {
          return decode(text);
        } catch (thrown) {
          return thrown;
        }
      })();
      expect([text, isUserError(error)]).toEqual([text, true]);
    }
    const value = decode('{"__proto__":{"polluted":1}}') as Record<string, unknown>;
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
    expect(({} as Record<string, unknown>).polluted).toBe(undefined);
  });
});

describe("a snapshot", () => {
  const snapshot = {
    spec: spec({ to: 5 }),
    events: [{ type: "step", step: 1, value: Float32Array.of(1.5, Number.NaN) }],
    contents: new Map([
      ["run/state.json", new TextEncoder().encode('{"step":1,"sum":5}')],
      ["run/deep/er/model.safetensors", new Uint8Array(1000)],
    ]),
    done: false,
  };
  const zip = async (files: Record<string, string>) => {
    const made = memoryFiles();
    for (const [name, text] of Object.entries(files)) await made.writeFile(name, text);
    return zipFiles(made, Object.keys(files));
  };
  const record = (more: object = {}) =>
    JSON.stringify({ version: 1, program: "count", input: { to: 3 }, events: 0, done: false, ...more });

  it("is what it was", async () => {
    expect(await fromZip(await toZip(snapshot))).toEqual(snapshot);
    expect(await fromZip(await toZip({ ...snapshot, contents: new Map(), events: [] }))).toMatchObject({ events: [] });
  });

  it("of strangers is refused in words, and nothing is run", async () => {
    const bytes = new Uint8Array(await (await toZip(snapshot)).arrayBuffer());
    const session = sit(new Vault());
    const refused = async (blob: Blob) => {
      const error = await session.restore(blob).catch((thrown) => thrown);
      expect(isUserError(error), String(error?.message ?? error)).toBe(true);
      return error.message as string;
    };
    expect(await refused(new Blob(["hello"]))).toMatch(/zip/);
    expect(await refused(new Blob([]))).toMatch(/zip/);
    expect(await refused(await zip({ "readme.txt": "hello" }))).toMatch(/webrlhf-run.json is missing/);
    expect(await refused(await zip({ "webrlhf-run.json": "{" }))).toMatch(/not valid JSON/);
    expect(await refused(await zip({ "webrlhf-run.json": "[]" }))).toMatch(/no snapshot/);
    expect(await refused(await zip({ "webrlhf-run.json": record({ version: 2 }) }))).toMatch(
      /no snapshot of this version/,
    );
    expect(await refused(await zip({ "webrlhf-run.json": record({ events: 1e9 }) }))).toMatch(/has 0 events/);
    expect(await refused(await zip({ "webrlhf-run.json": record({ program: "rm" }) }))).toMatch(
      /program "rm".*only count/,
    );
    expect(await refused(await zip({ "webrlhf-run.json": record({ program: "__proto__" }) }))).toMatch(/only count/);
    const events = { "webrlhf-run.json": record({ events: 1 }), "events.jsonl": '{"$as":"Function"}\n' };
    expect(await refused(await zip(events))).toMatch(/events.jsonl line 1 is damaged/);
    const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}\n`;
    expect(await refused(await zip({ ...events, "events.jsonl": deep }))).toMatch(
      /events.jsonl line 1 is damaged|JSON/,
    );
    for (let cut = 0; cut < bytes.length; cut += 37) await refused(new Blob([bytes.slice(0, cut)]));
    let same = 0;
    for (let at = 0; at < bytes.length; at += 11) {
      const bent = bytes.slice();
      bent[at] ^= 0x55;
      const found = await fromZip(new Blob([bent])).catch((thrown) => thrown);
      if (found instanceof Error) expect([at, isUserError(found), found.message]).toEqual([at, true, found.message]);
      else same += 1; // in a date, or in a field that says nothing
    }
    expect(same).toBeLessThan(bytes.length / 22);
  });

  it("goes on under a name of its own, beside the run that it was taken of", async () => {
    const session = sit(new Vault());
    const run = session.run<CountInput, CountEvent>(spec({ to: 6, save: 2 }), { mode: "step" });
    await until(run, ({ state }) => state === "paused");
    const blob = await run.snapshot();
    run.resume();
    const expected = await eventsOf(run);
    for (const mode of ["run", "step"] as const) {
      const again = await session.restore<CountEvent>(blob, { mode });
      expect(again.spec).toEqual(spec({ to: 6, save: 2 }));
      if (mode === "step") {
        await until(again, ({ state }) => state === "paused");
        expect(again.events.at(-1)?.event).toMatchObject({ type: "step", step: 2 });
        again.resume();
      }
      expect(await eventsOf(again)).toEqual(expected);
      expect(again.id).not.toBe(run.id);
    }
  });
});
