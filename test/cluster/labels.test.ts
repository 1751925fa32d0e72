/** Pairs that people label: how labels come to whoever collects them, by a real server, without losing one or taking one twice. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type LabelChoice, type LabellerState, runLabeller, type ShownPair } from "webrlhf/cluster";
import { LabelDesk, type LabelDeskOptions, type LabelTask, type TakenVote } from "../../src/cluster/label-desk.ts";
import { encodeLabelJob, encodeVote, type LabelJob } from "../../src/cluster/label-messages.ts";
import { jobSubject, VOTES, voteSubject } from "../../src/cluster/names.ts";
import { RunQueue } from "../../src/cluster/queue.ts";
import { jobsConsumer, streamsOf } from "../../src/cluster/streams.ts";
import { natsServer, TestCluster } from "./server.ts";

describe.skipIf(!natsServer)("labels of a cluster", { timeout: 60_000 }, () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await TestCluster.start();
    for (const name of ["room", "strict", "other", "cheat", "brief"]) await cluster.folder.invite("labeller", name);
  });
  afterAll(() => cluster?.close());
  afterEach(() => cluster.part());

  const said: string[] = [];
  const desk = async (run: string, options: Partial<LabelDeskOptions> = {}): Promise<LabelDesk> => {
    const say = (line: string) => void said.push(line);
    const one = await LabelDesk.open(await cluster.join("trainer"), {
      run,
      who: "test",
      say,
      waitsMs: 1500,
      ...options,
    });
    cluster.closing(() => one.close());
    return one;
  };
  const job = (pair: number, vote: number): LabelJob => ({
    ...{ id: `${pair}/${vote}`, pair, prompt: `question ${pair}` },
    ...(vote % 2 === 0 ? { first: `good ${pair}`, second: "bad" } : { first: "bad", second: `good ${pair}` }),
  });
  const tasks = (pairs: number, votes = 1): LabelTask[] =>
    Array.from({ length: pairs * votes }, (_, number) => ({
      number,
      job: job(number % pairs, Math.floor(number / pairs)),
    }));

  /** Collects; gives the labels by their tasks' numbers, and how to stop. */
  const collecting = (one: LabelDesk, wanted: readonly LabelTask[], kept = new Map<number, TakenVote>()) => {
    const stop = new AbortController();
    const before = [...kept].map(([number, { who }]) => ({ pair: wanted[number].job.pair, who }));
    const keep = async ({ number }: LabelTask, vote: TakenVote) => {
      if (kept.has(number)) throw new Error(`label ${number} came twice`);
      kept.set(number, vote);
    };
    const left = wanted.filter(({ number }) => !kept.has(number));
    const done = one.collect({ tasks: left, before, keep, signal: stop.signal });
    cluster.closing(async () => {
      stop.abort();
      await done.catch(() => {});
    });
    return { done, stop: () => stop.abort(), kept };
  };

  /** Somebody who labels as well as they can. */
  const person = async (
    name: string,
    more: {
      member?: string;
      decide?: (pair: ShownPair, alive: () => void, signal: AbortSignal) => Promise<LabelChoice | null>;
      leaseMs?: number;
      labelled?: Set<string>;
    } = {},
  ) => {
    const connection = await cluster.join(more.member ?? "room");
    const stop = new AbortController();
    const pairs: ShownPair[] = [];
    const states: LabellerState[] = [];
    const better = async (pair: ShownPair): Promise<LabelChoice> =>
      pair.first.startsWith("good") ? "first" : "second";
    const decide = more.decide ?? better;
    const done = runLabeller(connection, {
      ...{ labeller: `person-${name}`, name, labelled: more.labelled ?? new Set(), signal: stop.signal },
      decide: (pair, alive, signal) => {
        pairs.push(pair);
        return decide(pair, alive, signal);
      },
      watch: (state) => void states.push(state),
      ...(more.leaseMs !== undefined && { leaseMs: more.leaseMs }),
    });
    cluster.closing(async () => {
      stop.abort();
      await done.catch(() => {});
    });
    return { done, stop: () => stop.abort(), pairs, states };
  };

  it("come from whoever is there, each pair once, with who said what", async () => {
    const one = await desk("plain");
    const { done, kept } = collecting(one, tasks(20));
    const ann = await person("Ann");
    const ben = await person("Ben", { decide: async () => "none" });
    await done;
    expect(kept.size).toBe(20);
    expect(one.counts).toEqual({ taken: 20, double: 0, refused: 0, askedAgain: 0 });
    for (const { name, choice, who } of kept.values()) {
      expect(choice).toBe(name === "Ann" ? "first" : "none");
      expect(who).toBe(`room/person-${name}`);
    }
    expect(ann.pairs.length + ben.pairs.length).toBe(20);
    ann.stop();
    expect(await ann.done).toEqual({ done: ann.pairs.length, end: "stopped" });
    expect(
      await new RunQueue(await streamsOf((await cluster.join("trainer")).nc), "label", "plain").unfinished(),
    ).toEqual(new Set());
  });

  it("of one pair come from different people, in different links and in one", async () => {
    const one = await desk("twice");
    const { done, kept } = collecting(one, tasks(12, 3));
    const labelled = new Set<string>();
    await person("Ann", { labelled });
    await sleep(300);
    await person("Ben");
    await person("Cem", { member: "other" });
    await done;
    for (let pair = 0; pair < 12; pair++) {
      const votes = [pair, pair + 12, pair + 24].map((number) => kept.get(number) as TakenVote);
      expect(new Set(votes.map(({ who }) => who)).size, String(pair)).toBe(3);
      expect(votes.map(({ choice }) => choice)).toEqual(["first", "second", "first"]);
    }
    expect(labelled.size).toBe(12);
  });

  it("wait for somebody else where one person has said all that they may", async () => {
    const one = await desk("alone");
    const { done, stop, kept } = collecting(one, tasks(3, 2));
    const ann = await person("Ann");
    await expect.poll(() => ann.states.at(-1)?.forOthers, { timeout: 10_000 }).toBe(true);
    expect(kept.size).toBe(3);
    stop();
    await done;
    expect(kept.size).toBe(3);
  });

  it("of a pair that was given back come from somebody else at once, and of one whose tab died, too", async () => {
    const one = await desk("left");
    const { done, kept } = collecting(one, tasks(2));
    const away = await person("Away", {
      decide: (_, __, signal) => new Promise((r) => signal.addEventListener("abort", () => r(null))),
    });
    await expect.poll(() => away.pairs.length).toBe(1);
    const ben = await person("Ben");
    await expect.poll(() => kept.size).toBe(1);
    away.stop(); // as a page that is closed
    await done;
    expect(ben.pairs).toHaveLength(2);
    expect([...kept.values()].map(({ name }) => name)).toEqual(["Ben", "Ben"]);
  });

  it("of a pair before which nobody gives a sign come from somebody else when its time is over", async () => {
    const one = await desk("asleep");
    const { done, kept } = collecting(one, tasks(1));
    const began = Date.now();
    let signs = 0;
    const asleep = await person("Asleep", {
      leaseMs: 700,
      decide: async (_, alive, signal) => {
        for (; signs < 4; signs++) {
          alive();
          await sleep(300);
        }
        await new Promise((r) => signal.addEventListener("abort", r));
        return null;
      },
    });
    expect(await asleep.done).toEqual({ done: 0, end: "idle" });
    expect(Date.now() - began).toBeGreaterThan(1500);
    await person("Ben");
    await done;
    expect([...kept.values()].map(({ name }) => name)).toEqual(["Ben"]);
  });

  it("are not lost and not taken twice when whoever collects is killed, or stops, and comes again", async () => {
    const kept = new Map<number, TakenVote>();
    const wanted = tasks(30, 2);
    const slowly = async (pair: ShownPair): Promise<LabelChoice> => {
      await sleep(40);
      return pair.first.startsWith("good") ? "first" : "second";
    };
    const killed = await LabelDesk.open(await cluster.join("trainer"), { run: "again", who: "first", say: () => {} });
    const first = collecting(killed, wanted, kept);
    const people = [await person("Ann", { decide: slowly }), await person("Ben", { decide: slowly })];
    await expect.poll(() => kept.size, { interval: 10 }).toBeGreaterThan(8);
    // Killed: the connection is gone without a word, and what is said meanwhile waits at the server.
    // biome-ignore lint/complexity/useLiteralKeys: its connection is nobody else's
    await killed["post"].connection.nc.close();
    await first.done.catch(() => {});
    const then = kept.size;
    await expect.poll(() => people[0].pairs.length + people[1].pairs.length).toBeGreaterThan(then + 10);
    const second = collecting(await desk("again", { waitsMs: 20_000 }), wanted, kept);
    await expect.poll(() => kept.size, { interval: 10, timeout: 30_000 }).toBeGreaterThan(then + 15);
    second.stop();
    await second.done;
    await cluster.part();
    expect(kept.size).toBeLessThan(60);
    const labelled = people.map(({ pairs }) => new Set(pairs.map(({ prompt }) => `again.${String(prompt).slice(9)}`)));
    const third = await desk("again", { waitsMs: 20_000 });
    const last = collecting(third, wanted, kept);
    await person("Ann", { labelled: labelled[0] });
    await person("Ben", { labelled: labelled[1] });
    await person("Cem");
    await last.done;
    expect(kept.size).toBe(60);
    for (let pair = 0; pair < 30; pair++) expect(kept.get(pair)?.who).not.toBe(kept.get(pair + 30)?.who);
  });

  it("are asked for again where the server has lost everything", async () => {
    const one = await desk("wiped");
    const { done, kept } = collecting(one, tasks(30));
    const people = [await person("Ann", { decide: () => sleep(50).then(() => "first") })];
    await expect.poll(() => kept.size, { interval: 10 }).toBeGreaterThan(5);
    await cluster.kill();
    await cluster.wipe();
    await cluster.up();
    people.push(await person("Ben"));
    await done;
    expect(kept.size).toBe(30);
    expect(new Set([...kept.values()].map(({ name }) => name)).has("Ben")).toBe(true);
  });

  it("are believed only where they can be: not garbage, not others', not a second one, not of too many people", async () => {
    const one = await desk("strict", { mostLabellers: 2 });
    said.length = 0;
    const wanted = tasks(3, 2);
    const { done, kept } = collecting(one, wanted);
    const { nc } = await cluster.join("cheat");
    const { js } = await streamsOf(nc);
    const keys = await Promise.all(wanted.map(async (task) => (await encodeLabelJob("strict", task.job)).key));
    const vote = (labeller: string, choice: LabelChoice = "first") => ({
      labeller,
      name: labeller,
      choice,
      seconds: 1,
    });
    const send = (key: string, bytes: Uint8Array) => js.publish(voteSubject("cheat", "strict", key), bytes);
    await expect.poll(() => one.onTables()).not.toBeNull();
    for (const [i, key] of keys.entries()) {
      await send(key, new Uint8Array(50).fill(i));
      await send(key, encodeVote(key, vote("somebody", "both" as "none")));
      await send(key, encodeVote(keys[(i + 1) % keys.length], vote("somebody")));
      await send(key, encodeVote(key, { ...vote("somebody"), name: "x".repeat(3000) }));
      await send(`made-up-${i}`, encodeVote(`made-up-${i}`, vote("somebody")));
    }
    expect(kept.size).toBe(0);
    await send(keys[0], encodeVote(keys[0], vote("person-1", "second")));
    await send(keys[0], encodeVote(keys[0], vote("person-1"))); // another answer, too late
    await send(keys[3], encodeVote(keys[3], vote("person-1"))); // the same pair's second label
    await send(keys[3], encodeVote(keys[3], vote("person-2")));
    await send(keys[1], encodeVote(keys[1], vote("person-3"))); // one too many
    await expect.poll(() => kept.size).toBe(2);
    expect(kept.get(0)).toMatchObject({ choice: "second", who: "cheat/person-1" });
    expect(kept.get(3)).toMatchObject({ who: "cheat/person-2" });
    await person("Ann");
    await person("Ben");
    await done;
    expect([...kept.keys()].sort()).toEqual([0, 1, 2, 3, 4, 5]);
    for (const number of [1, 2, 4, 5]) expect(kept.get(number)?.who).toMatch(/^room\//);
    expect(said.filter((line) => line.startsWith("cheat sent"))).toHaveLength(1);
    expect(said.join("\n")).toMatch(/more than 2 people label by the link of cheat/);
  });

  it("are let in by a credential that lets in nothing else", async () => {
    const one = await desk("closed");
    collecting(one, tasks(1));
    const { nc } = await cluster.join("strict");
    let seen: string[] = [];
    void (async () => {
      for await (const status of nc.status()) if (status.type === "error") seen.push(status.error.message);
    })();
    const refused = async (subject: string, hear = false) => {
      seen = [];
      if (hear) nc.subscribe(subject, { callback: () => {} });
      else nc.publish(subject, "x");
      await nc.flush();
      await sleep(5);
      return seen.some((message) => /permissions violation/i.test(message) && message.includes(`"${subject}"`));
    };
    for (const subject of [
      "vote.other.closed.key",
      "result.strict.run.key",
      "hello.strict",
      jobSubject("label", "closed", "key", 0),
      "job.sample.run.key.0",
      "$JS.API.CONSUMER.MSG.NEXT.JOBS.sample",
      "$JS.API.CONSUMER.INFO.JOBS.sample",
      "$JS.API.CONSUMER.MSG.NEXT.SCORES.score",
      "$JS.API.DIRECT.GET.OBJ_blobs",
      `$JS.API.DIRECT.GET.${VOTES}`,
      `$JS.API.STREAM.MSG.GET.${VOTES}`,
      `$JS.API.CONSUMER.CREATE.${VOTES}`,
      "$JS.API.STREAM.INFO.LABELS",
      "$JS.API.STREAM.PURGE.LABELS",
      "$JS.API.CONSUMER.DELETE.LABELS.label",
      "$KV.runs.closed",
    ]) {
      expect(await refused(subject), subject).toBe(true);
    }
    for (const subject of ["vote.>", "result.>", "job.>", "hello.>", "_INBOX_room.>", "_INBOX_trainer.>"]) {
      expect(await refused(subject, true), subject).toBe(true);
    }
    expect(await refused("vote.strict.closed.key")).toBe(false);
  });

  it("are refused to who is invited to compute, and to who collects for a run that somebody has", async () => {
    await desk("owned");
    await expect(desk("owned")).rejects.toThrow(/labels for this file are collected already, by test/);
    const wrong = await person("Wrong", { member: "worker" });
    await expect(wrong.done).rejects.toThrow(/not for labelling .* --labels makes one/);
    const foreign = LabelDesk.open(await cluster.join("worker"), {
      run: "x",
      who: "test",
      say: () => {},
      waitsMs: 1000,
    });
    await expect(foreign).rejects.toThrow(/does not let labels in: take the trainer\.creds/);
  });

  it("go on past somebody who takes pairs and says nothing", async () => {
    const one = await desk("hoard");
    const { done, kept } = collecting(one, tasks(4));
    const streams = await streamsOf((await cluster.join("cheat")).nc);
    await expect.poll(async () => (await jobsConsumer(streams, "label")) !== null).toBe(true);
    const taken = await (await jobsConsumer(streams, "label"))?.fetch({ max_messages: 2, expires: 1000 });
    let count = 0;
    for await (const _ of taken ?? []) count++;
    expect(count).toBe(2);
    await person("Ann");
    await expect.poll(() => kept.size).toBe(2);
    const now = Date.now;
    try {
      Date.now = () => now() + 11 * 60_000; // ten minutes later they are taken back, whatever their taker says
      await sleep(4000);
      Date.now = () => now() + 22 * 60_000;
      await done;
    } finally {
      Date.now = now;
    }
    expect(kept.size).toBe(4);
    expect(one.counts.askedAgain).toBe(2);
  });
});
