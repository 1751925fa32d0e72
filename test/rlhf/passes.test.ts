import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { finish, openDevice, stats, tensor } from "webrlhf";
import { CausalLM } from "webrlhf/nn";
import { localSource, type Response, type RolloutSource, responseLogProbs, type Sequence } from "webrlhf/rlhf";
import { Ahead } from "../../src/rlhf/ahead.ts";
import { inTurn } from "../../src/rlhf/in-turn.ts";
import { bothOf } from "../../src/rlhf/measure.ts";
import { measuredWhileDrawn } from "../../src/rlhf/measured-while-drawn.ts";
import { Passes } from "../../src/rlhf/passes.ts";
import { prompts, tinyConfig, tokenizer } from "./tiny.ts";

let policy: CausalLM;
let reference: CausalLM;
beforeAll(async () => {
  await openDevice();
  [policy, reference] = [5, 6].map((seed) => new CausalLM(tinyConfig()).initialize(seed));
});
afterAll(() => {
  for (const model of [policy, reference]) model.destroy();
});

/** Responses of three parts: more than 16,384 tokens. */
const responses = Array.from({ length: 640 }, (_, i): Response => {
  const ids = Uint32Array.from({ length: 20 + (i % 23) }, (_, t) => 1 + ((i * 7 + t * 5) % (tokenizer.vocabSize - 1)));
  return {
    ...{ ids, promptLength: 4 + (i % 3), prompt: i >> 1, sample: i % 2 },
    ...{ promptText: "", text: `${i}`, ended: true },
  };
});
const tokens = responses.reduce((sum, { ids }) => sum + ids.length, 0);

const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

describe("work in turn", () => {
  it("begins in its order, two pieces at a time, in whatever order they end", async () => {
    const ends: ((value: number) => void)[] = [];
    const begun: number[] = [];
    const all = inTurn([0, 1, 2, 3, 4], (k) => {
      begun.push(k);
      return new Promise<number>((resolve) => {
        ends[k] = resolve;
      });
    });
    await settled();
    expect(begun).toEqual([0, 1]);
    ends[1](10);
    await settled();
    expect(begun).toEqual([0, 1]);
    ends[0](0);
    await settled();
    expect(begun).toEqual([0, 1, 2, 3]);
    for (const k of [3, 2]) ends[k](10 * k);
    await settled();
    ends[4](40);
    expect(await all).toEqual([0, 10, 20, 30, 40]);
  });

  it("begins nothing after what failed, and waits for what is under way", async () => {
    const begun: number[] = [];
    let ended = false;
    const failing = inTurn([0, 1, 2, 3], async (k) => {
      begun.push(k);
      if (k === 0) throw new Error("the first one fails");
      await settled();
      ended = true;
    });
    await expect(failing).rejects.toThrow("the first one fails");
    expect([begun, ended]).toEqual([[0, 1], true]);
    expect(await inTurn([], async () => 1)).toEqual([]);
  });
});

describe("passes", () => {
  const of = (count: number): Sequence[] =>
    Array.from({ length: count }, (_, i) => ({ ids: new Uint32Array(5000).fill(i), promptLength: 1 }));
  const room = { tokensPerPass: 8192 };

  it("are enqueued while the one before is read, and never more than two", async () => {
    const events: string[] = [];
    let open = 0;
    const passes = new Passes(room, {
      compute(part, first) {
        open += 1;
        expect(open).toBeLessThanOrEqual(2);
        events.push(`compute ${first}`);
        return tensor(Float32Array.of(part[0].ids[0]));
      },
      receive([value], _, first) {
        open -= 1;
        events.push(`receive ${first}`);
        return value;
      },
    });
    passes.add(of(5));
    expect(await passes.end()).toEqual([0, 1, 2, 3, 4]);
    expect(events.slice(0, 3)).toEqual(["compute 0", "compute 1", "receive 0"]);
    for (let k = 0; k < 3; k++) {
      expect(events.indexOf(`receive ${k}`)).toBeLessThan(events.indexOf(`compute ${k + 2}`));
    }
  });

  it("begin as soon as they are whole, and give back what they took where one fails", async () => {
    const made: ReturnType<typeof tensor>[] = [];
    const passes = new Passes(room, {
      compute(_, first) {
        if (first === 1) throw new Error(`pass ${first} fails`);
        made.push(tensor(Float32Array.of(first)));
        return made[made.length - 1];
      },
      receive: ([value]) => value,
    });
    passes.add(of(1));
    await settled();
    expect(made).toHaveLength(0); // the next one might have been of the same part
    passes.add(of(1));
    await settled();
    expect(made).toHaveLength(1);
    passes.add(of(3));
    await expect(passes.end()).rejects.toThrow("pass 1 fails");
    for (const values of made) await expect(values.read()).rejects.toThrow(/after scoring freed it/);
  });
});

describe("responses that are measured while they are drawn", () => {
  /** One prompt's responses after the other, or in another order, and what was measured before the last came. */
  const drawn = async (order: readonly number[], change = (all: Response[]) => all) => {
    let before = 0;
    const { responses: given, found } = await measuredWhileDrawn([policy, reference], 2, 0.7, async (heard) => {
      const { reads } = stats();
      for (const prompt of order) {
        heard(responses.slice(2 * prompt, 2 * prompt + 2));
        if (prompt % 100 === 0) await settled();
      }
      await finish();
      before = stats().reads - reads;
      return change([...responses]);
    });
    return { given, found, before };
  };
  const forwards = Array.from({ length: 320 }, (_, i) => i);

  it("have the numbers that they have together, in whatever order they come", async () => {
    expect(tokens).toBeGreaterThan(2 * 8192);
    const together = [
      await responseLogProbs(policy, responses, 0.7),
      await responseLogProbs(reference, responses, 0.7),
    ];
    const { given, found, before } = await drawn(forwards);
    expect(given).toEqual(responses);
    expect(found).toEqual(together);
    expect(before).toBe(4); // of both models the two parts that are whole
    const backwards = await drawn([...forwards].reverse());
    expect(backwards.found).toEqual(together);
    const mixed = await drawn(forwards.map((i) => (i * 77) % 320));
    expect(mixed.found).toEqual(together);
    const counted = stats();
    await measuredWhileDrawn([policy, reference], 2, 0.7, async () => responses);
    const [dispatches, reads] = [stats().dispatches - counted.dispatches, stats().reads - counted.reads];
    expect(reads).toBe(6);
    const again = stats();
    await drawn(forwards);
    expect([stats().dispatches - again.dispatches, stats().reads - again.reads]).toEqual([dispatches, reads]);
  });

  it("are measured as they are in the end, where whoever draws makes something else of them", async () => {
    const fewer = (all: Response[]) => all.filter(({ prompt }) => prompt % 3 > 0);
    const { found } = await drawn(forwards, fewer);
    expect(found[1]).toEqual(await responseLogProbs(reference, fewer(responses), 0.7));
  });

  it("leave nobody behind who reads where drawing fails", async () => {
    const before = stats().reads;
    const failing = measuredWhileDrawn([policy], 2, 1, async (heard) => {
      heard(responses);
      throw new Error("nobody draws");
    });
    await expect(failing).rejects.toThrow("nobody draws");
    const { reads } = stats();
    expect(reads - before).toBeGreaterThan(0);
    await settled();
    expect(stats().reads).toBe(reads);
  });

  it("wait for both models where one fails", async () => {
    let late = false;
    const other = settled().then(() => {
      late = true;
    });
    await expect(bothOf(Promise.reject(new Error("one fails")), other)).rejects.toThrow("one fails");
    expect(late).toBe(true);
  });
});

describe("whoever draws ahead", () => {
  const own = prompts(5);
  const options = { maxNewTokens: 4, samples: 2, seed: 3, temperature: 1 };
  const draws = { prompts: own, promptIds: [0, 1, 2, 3, 4] };

  /** What is told of an iteration before all of it is there, and in the end. */
  async function told(source: RolloutSource, maxStaleness: number) {
    const run = { policy, tokenizer, maxSteps: 2, measuredAt: null };
    const upcoming = (iteration: number) => ({ ...draws, options: { ...options, iteration } });
    const ahead = new Ahead(
      { source },
      { ...run, upcoming },
      { maxStaleness, weightSyncSteps: 1, loraWire: "f32" as const, promptsPerJob: 2 },
    );
    const heard: Response[][] = [];
    const iterations: Response[][] = [];
    for (const iteration of [0, 1]) {
      const onResponses = async (some: readonly Response[]) => void heard.push([...some]);
      iterations.push(await ahead.sampler(own, draws.promptIds, { ...options, iteration, onResponses }));
    }
    await ahead.close();
    return { heard, iterations };
  }

  it("tells once of every response, with its prompt, job by job as they come", async () => {
    const here = localSource();
    const requests: Parameters<RolloutSource["request"]>[] = [];
    let waiting = 0;
    /** Draws when it is asked for the results, the last job first. */
    const source: RolloutSource = {
      ...here,
      async request(...asked) {
        requests.push(asked);
      },
      async take(iteration) {
        const [, jobs, { arrived } = {}] = requests.find(([asked]) => asked === iteration) as (typeof requests)[number];
        await here.request(iteration, [...jobs].reverse(), {
          async arrived(result) {
            await arrived?.(result);
            waiting += 1;
          },
        });
        return (await here.take(iteration)).reverse();
      },
    };
    const local = await told(localSource(), 0);
    expect(local.heard.map((some) => some.map(({ prompt }) => prompt))).toEqual(
      [0, 1].flatMap(() => [
        [0, 0, 1, 1],
        [2, 2, 3, 3],
        [4, 4],
      ]),
    );
    const late = await told(source, 0);
    expect(waiting).toBe(6);
    expect(late.heard.map((some) => some.map(({ prompt }) => prompt))).toEqual(
      [0, 1].flatMap(() => [
        [4, 4],
        [2, 2, 3, 3],
        [0, 0, 1, 1],
      ]),
    );
    expect(late.iterations).toEqual(local.iterations);
    for (const { heard, iterations } of [local, late]) {
      expect(heard.flat().filter((response) => !iterations.flat().includes(response))).toEqual([]);
    }
    // What came while another iteration was learned is told of when its turn comes.
    const ahead = await told(localSource(), 1);
    expect(ahead.heard.map((some) => some.length)).toEqual([4, 4, 2, 4, 4, 2]);
    expect(ahead.heard.flat()).toEqual(ahead.iterations.flat());
  });
});
