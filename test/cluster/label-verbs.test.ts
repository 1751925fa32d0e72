/** A class that labels, from the command line: rooms, links, and files of what people say. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { main } from "webrlhf/cli";
import { connectCluster, type Invitation, type LabelChoice, readInvitation, runLabeller } from "webrlhf/cluster";
import { silentTerminal } from "../cli/terminal.ts";
import { freePort, natsServer, serveFolder } from "./server.ts";

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-label-verbs-"));
});
afterAll(() => rm(dir, { recursive: true }));

/** Runs a verb; gives its exit code and what it said. */
async function webrlhf(...words: string[]): Promise<{ code: number; said: string }> {
  const lines: string[] = [];
  const terminal = silentTerminal();
  terminal.line = (line) => void lines.push(line);
  terminal.result = (line) => void lines.push(line);
  return { code: await main(words, terminal), said: lines.join("\n") };
}

/** Runs a verb in a process of its own. */
function inProcess(words: readonly string[]): ChildProcess {
  const root = resolve(import.meta.dirname, "../..");
  const program = `
    import { fromSource } from ${JSON.stringify(join(root, "scripts/source.mjs"))};
    process.argv = [process.argv[0], "webrlhf", ...${JSON.stringify(words)}];
    await fromSource((load) => load("/src/cli/main.ts"));
  `;
  return spawn(process.execPath, ["--input-type=module", "-e", program], { cwd: root, stdio: "ignore" });
}

describe("webrlhf cluster --labels", () => {
  it("makes a cluster for pages over plain http, whose links are for labels", async () => {
    const folder = join(dir, "lan");
    const page = "http://192.168.1.5:8080/label/";
    const words = ["--cluster_dir", folder, "--host", "0.0.0.0", "--browsers", "--labels"];
    const without = await webrlhf("cluster", "init", ...words);
    expect(without.said).toMatch(/say where the page for labels lies: --page http:\/\/HOST:8080\/label\//);
    const secure = await webrlhf("cluster", "init", ...words, "--page", "https://school.example/label/");
    expect(secure.said).toMatch(/an https:\/\/ page connects to nothing without TLS/);
    const made = await webrlhf("cluster", "init", ...words, "--page", page);
    expect(made, made.said).toMatchObject({
      code: 0,
      said: expect.stringMatching(/texts and labels go .* unencrypted/),
    });
    const invited = await webrlhf("cluster", "invite", "room-12", "--labels", "--cluster_dir", folder);
    expect(invited.said).toMatch(/room-12 may label until .*, and do nothing else/);
    const link = /^http:\S+#\S+$/m.exec(invited.said)?.[0] ?? "";
    expect(link.startsWith(`${page}#`)).toBe(true);
    expect(readInvitation(link)).toMatchObject({ url: "ws://192.168.1.5:8443", member: "room-12" });
    const computing = await webrlhf("cluster", "invite", "--cluster_dir", folder);
    expect(computing).toMatchObject({ code: 0, said: expect.not.stringContaining("#cluster=") });
    const asked = await webrlhf("cluster", "invite", "--cluster_dir", folder, "--page", "https://x.example/worker/");
    expect(asked).toMatchObject({ code: 1, said: expect.stringMatching(/its pages label only: give --labels/) });
  });

  it("leads from a page for workers to the one beside it, or where it is told", async () => {
    const folder = join(dir, "beside");
    expect((await webrlhf("cluster", "init", "--cluster_dir", folder, "--browsers")).code).toBe(0);
    const words = ["cluster", "invite", "--labels", "--cluster_dir", folder];
    expect((await webrlhf(...words)).said).toMatch(/^http:\/\/localhost:5173\/label\/#cluster=ws/m);
    expect((await webrlhf(...words, "--page", "http://a.example/l/")).said).toMatch(
      /^http:\/\/a\.example\/l\/#cluster=ws/m,
    );
    const none = join(dir, "none");
    await webrlhf("cluster", "init", "--cluster_dir", none);
    const refused = await webrlhf("cluster", "invite", "--labels", "--cluster_dir", none);
    expect(refused).toMatchObject({
      code: 1,
      said: expect.stringMatching(/people label in pages, .*--browsers --labels/),
    });
    const stray = await webrlhf("cluster", "invite", "--rooms_dir", "x", "--cluster_dir", folder);
    expect(stray.said).toMatch(/--rooms_dir has no effect without --labels/);
  });
});

describe.skipIf(!natsServer)("webrlhf label", { timeout: 120_000 }, () => {
  let folder: string;
  let url: string;
  let server: { close(): Promise<void> };
  let access: string[];
  beforeAll(async () => {
    folder = join(dir, "served");
    const port = await freePort();
    url = `nats://127.0.0.1:${port}`;
    access = ["--cluster", url, "--creds", join(folder, "trainer.creds")];
    const words = ["cluster", "init", "--cluster_dir", folder, "--port", String(port), "--browsers"];
    expect((await webrlhf(...words)).code).toBe(0);
    server = await serveFolder(folder);
  });
  afterAll(() => server?.close());

  /** Somebody who came by a link, as a page would. */
  const person = async ({ creds }: Invitation, name: string, decide: (first: string) => Promise<LabelChoice>) => {
    const connection = await connectCluster({ url, creds, file: "the link" }, "test");
    const stop = new AbortController();
    const done = runLabeller(connection, {
      ...{ labeller: `person-${name}`, name, labelled: new Set<string>(), signal: stop.signal },
      decide: ({ first }) => decide(first),
    });
    return async () => {
      stop.abort();
      await done;
      await connection.nc.close();
    };
  };
  const rows = async (path: string) =>
    (await readFile(path, "utf8"))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));

  it("collects what a room says into rows of preferences, in as many runs as it takes", async () => {
    const rooms = join(dir, "site/label/rooms");
    const invited = await webrlhf(
      "cluster",
      "invite",
      "room-12",
      "--labels",
      "--rooms_dir",
      rooms,
      "--cluster_dir",
      folder,
    );
    const [, code] = /the room's code is (\w{6}), at http:\/\/localhost:5173\/label\//.exec(invited.said) ?? [];
    expect(invited.said).toContain(`http://localhost:5173/label/#room=${code}`);
    expect(invited.said).not.toContain("invite=");
    const file = join(rooms, `${code}.txt`);
    const invitation = readInvitation(await readFile(file, "utf8"));
    if (!invitation) throw new Error("no invitation");
    expect(await readFile(join(rooms, "index.html"), "utf8")).toBe("");

    const input = join(dir, "answers.jsonl");
    const given = Array.from({ length: 10 }, (_, i) => ({
      prompt: [{ role: "user", content: `question ${i}` }],
      responses: i % 2 ? [`good ${i}`, "bad"] : ["bad", `good ${i}`],
    }));
    await writeFile(
      input,
      [...given, { prompt: "p", responses: ["x", "x"] }].map((row) => `${JSON.stringify(row)}\n`).join(""),
    );
    const [output, votes] = [join(dir, "labels.jsonl"), join(dir, "votes.jsonl")];
    const words = ["label", input, "--labels_per_pair", "2", "--output_file", output, "--votes_file", votes, ...access];

    const nothing = await webrlhf(...words, "--minutes", "0");
    expect(nothing).toMatchObject({ code: 0, said: expect.stringMatching(/20 of 20 labels are missing/) });
    const better = async (first: string): Promise<LabelChoice> => (first.startsWith("good") ? "first" : "second");
    const slow = await person(invitation, "Ann", (first) => sleep(150).then(() => better(first)));
    const part = await webrlhf(...words, "--minutes", "0.02");
    await slow();
    expect(part, part.said).toMatchObject({
      code: 0,
      said: expect.stringMatching(/of 20 labels are missing: the same command/),
    });
    expect(part.said).toContain("1 pairs have two equal answers and are left out");
    const before = (await rows(votes)).length;
    expect(before).toBeGreaterThan(0);
    expect(before).toBeLessThan(20);

    const people = [await person(invitation, "Ben", better), await person(invitation, "Cem", async () => "first")];
    const whole = await webrlhf(...words);
    for (const leave of people) await leave();
    expect(whole, whole.said).toMatchObject({
      code: 0,
      said: expect.stringContaining(`${before} of 20 labels were given before`),
    });
    expect(whole.said).toMatch(/by 20 labels of 3 people/);
    const decisions = await rows(votes);
    expect(decisions).toHaveLength(20);
    const key = ({ prompt }: { prompt: { content: string }[] }) => prompt[0].content;
    for (const { prompt } of given) {
      const own = decisions.filter((row) => key(row) === prompt[0].content);
      expect(new Set(own.map(({ labeller }) => labeller)).size).toBe(2);
      for (const { labeller, chosen } of own) {
        if (labeller !== "Cem")
          expect(chosen).toEqual([{ role: "assistant", content: expect.stringMatching(/^good/) }]);
      }
    }
    for (const { votes: said } of await rows(output)) expect(said).toHaveLength(2);
    expect((await readdir(dir)).filter((name) => name.includes(".partial-"))).toEqual([]);
    const described = await webrlhf("data", "describe", output);
    expect(described).toMatchObject({ code: 0, said: expect.stringMatching(/preference/) });

    expect((await webrlhf("cluster", "revoke", "room-12", "--cluster_dir", folder)).code).toBe(0);
    await expect(readFile(file)).rejects.toThrow(/ENOENT/);
  });

  it("begins anew for other pairs, and asks nobody's old labels in", async () => {
    const invited = await webrlhf("cluster", "invite", "room-13", "--labels", "--cluster_dir", folder);
    const invitation = readInvitation(/^http:\S+$/m.exec(invited.said)?.[0] ?? "");
    if (!invitation) throw new Error("no invitation");
    const input = join(dir, "pair.jsonl");
    await writeFile(input, `${JSON.stringify({ prompt: "p", chosen: " a", rejected: " b" })}\n`);
    const output = join(dir, "one.jsonl");
    const words = ["label", input, "--output_file", output, ...access];
    for (const wanted of [" a", " b"]) {
      const leave = await person(invitation, "Ann", async (first) => (first === wanted ? "first" : "second"));
      const { code, said } = await webrlhf(...words);
      await leave();
      expect(code, said).toBe(0);
      expect(await rows(output)).toMatchObject([
        { prompt: "p", chosen: wanted, votes: [{ labeller: "Ann", said: "chosen" }] },
      ]);
    }
  });

  it("loses no label and asks for none twice where the process that collects is killed", async () => {
    const invited = await webrlhf("cluster", "invite", "room-14", "--labels", "--cluster_dir", folder);
    const invitation = readInvitation(/^http:\S+$/m.exec(invited.said)?.[0] ?? "");
    if (!invitation) throw new Error("no invitation");
    const own = join(dir, "killed");
    await mkdir(own);
    const input = join(own, "many.jsonl");
    const pairs = Array.from({ length: 60 }, (_, i) => ({ prompt: `p${i}`, chosen: `a${i}`, rejected: `b${i}` }));
    await writeFile(input, pairs.map((row) => `${JSON.stringify(row)}\n`).join(""));
    const [output, votes] = [join(own, "labels.jsonl"), join(own, "votes.jsonl")];
    const words = ["label", input, "--output_file", output, "--votes_file", votes, ...access];
    const decided: string[] = [];
    const decide = async (first: string): Promise<LabelChoice> => {
      await sleep(60);
      decided.push(first.slice(1));
      return first.startsWith("a") ? "first" : "second";
    };
    const killed = inProcess(words);
    const people = [await person(invitation, "Ann", decide), await person(invitation, "Ben", decide)];
    await expect.poll(() => decided.length, { timeout: 60_000, interval: 20 }).toBeGreaterThan(15);
    killed.kill("SIGKILL");
    await once(killed, "exit");
    const then = decided.length;
    expect(then).toBeLessThan(60);
    await expect.poll(() => decided.length, { timeout: 20_000 }).toBeGreaterThan(then + 5); // nobody collects
    const { code, said } = await webrlhf(...words);
    for (const leave of people) await leave();
    expect(code, said).toBe(0);
    const [, before] = /(\d+) of 60 labels were given before/.exec(said) ?? [];
    expect(Number(before)).toBeGreaterThan(5); // what the first one had taken is on its disk
    expect(Number(before)).toBeLessThanOrEqual(then);
    const all = pairs.map((_, i) => String(i)).sort();
    expect([...decided].sort()).toEqual(all);
    for (const file of [output, votes]) {
      expect((await rows(file)).map(({ prompt }) => prompt.slice(1)).sort()).toEqual(all);
    }
    for (const { chosen } of await rows(output)) expect(chosen).toMatch(/^a/);
    expect(await readdir(own)).toEqual(["labels.jsonl", "labels.jsonl.run.json", "many.jsonl", "votes.jsonl"]);
  });

  it("says what is wrong before anybody labels", async () => {
    const missing = await webrlhf("label", join(dir, "nothing.jsonl"), "--output_file", join(dir, "x"), ...access);
    expect(missing).toMatchObject({ code: 1, said: expect.stringContaining("nothing.jsonl") });
    const long = join(dir, "long.jsonl");
    await writeFile(long, `${JSON.stringify({ prompt: "p", responses: ["a", "b".repeat(200_000)] })}\n`);
    const refused = await webrlhf("label", long, "--output_file", join(dir, "y"), ...access);
    expect(refused).toMatchObject({ code: 1, said: expect.stringMatching(/pair 1: .*100000 characters/) });
    const stranger = ["--cluster", url, "--creds", join(folder, "worker.creds")];
    const worker = await webrlhf("label", join(dir, "pair.jsonl"), "--output_file", join(dir, "z"), ...stranger);
    expect(worker).toMatchObject({
      code: 1,
      said: expect.stringMatching(/does not let labels in: take the trainer\.creds/),
    });
    expect((await readdir(dir)).filter((name) => name.includes(".partial-"))).toEqual([]);
  });
});
