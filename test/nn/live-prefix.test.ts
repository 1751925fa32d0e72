/** What may come next, token by token: against the whole text at once, and against sampling parameters by their definitions. */
import { beforeAll, describe, expect, it } from "vitest";
import { CausalLM, decoderConfig, generate, type NextToken, openPrefix, promptLogProbs } from "webrlhf/nn";
import { poolStats } from "../../src/gpu/pool.ts";
import { trim } from "../../src/gpu/stream.ts";
import gpt2 from "../fixtures/models-gpt2.json" with { type: "json" };
import llama from "../fixtures/models-llama.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";
import { cases, open } from "./family-cases.ts";
import { openLM, type ReferenceLM } from "./reference-model.ts";

beforeAll(gpuReady);

const references = [
  ...[gpt2, llama].map((fixture, i) => {
    const reference = fixture as unknown as ReferenceLM;
    return [["GPT-2", "Llama with grouped queries"][i], reference.ids, () => openLM(reference)] as const;
  }),
  ...cases.map(([name, c]) => [name, c.ids, () => open(c)] as const),
];

const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
const tiny = (maxPositions = 64) =>
  new CausalLM(
    decoderConfig({ family: "llama", vocabSize: 23, hiddenSize: 16, layers: 2, heads: 2, maxPositions, eosId: 1 }),
    "model",
  ).initialize(4);

describe.each(references)("a prefix of %s", (_, texts, opened) => {
  it("says at every token what the whole text says", async () => {
    const model = await opened();
    for (const text of texts.map((ids) => Uint32Array.from(ids)).filter(({ length }) => length > 2)) {
      const whole = await promptLogProbs(model, text, 4);
      const live = await openPrefix(model, text.subarray(0, 1));
      const check = (where: string) => {
        const place = live.ids.length - 1;
        expectClose([live.next().of(text[place + 1]).logProb], [whole.logProbs[place]], 2e-5, 1e-5, where);
        const { logProbs } = whole.top[place];
        const found = live.top(4);
        const own = found.map(({ logProb }) => logProb);
        expectClose(own, logProbs, 2e-5, 1e-5, where);
        expect(found.map(({ rank }) => rank)).toEqual([0, 1, 2, 3]);
      };
      check("the first token");
      for (const id of text.subarray(1, -1)) {
        await live.push(id);
        check(`after ${live.ids.length} tokens`);
      }
      expect(live.ids).toEqual(text.subarray(0, -1));
      // Back, another way, back again, and on by several at once.
      await live.rewind(text.length - 2);
      check("rewound");
      await live.push([2, 2]);
      await live.rewind(2);
      await live.push(text.subarray(1, -1));
      check("pushed together");
      live.free();
    }
    model.destroy();
  });
});

describe("sampling parameters", () => {
  const model = () => tiny();
  const prompt = [3, 5, 7, 5];

  /** What is drawn how often, by the definitions: penalties, temperature, the k likeliest, the fewest with p, a share of the best. */
  function expected(
    logits: readonly number[],
    drawn: readonly number[],
    o: Record<string, number>,
    ends: number[] = [],
  ) {
    const { temperature = 1, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1 } = o;
    const z = logits.map((v, id) => {
      const times = drawn.filter((one) => one === id).length;
      let own = v + (id === 9 ? (o.bias ?? 0) : 0);
      if (prompt.includes(id) || times > 0) own = own > 0 ? own / repetitionPenalty : own * repetitionPenalty;
      own -= times * (o.frequencyPenalty ?? 0) + (times > 0 ? (o.presencePenalty ?? 0) : 0);
      return ends.includes(id) && drawn.length < (o.minNewTokens ?? 0) ? Number.NEGATIVE_INFINITY : own;
    });
    let left = z.map((v, id) => ({ id, weight: Math.exp(v / temperature) })).sort((a, b) => b.weight - a.weight);
    if (topK > 0) left = left.slice(0, topK);
    const total = sum(left.map(({ weight }) => weight));
    left = left.filter((_, i) => sum(left.slice(0, i).map(({ weight }) => weight)) < topP * total);
    left = left.filter(({ weight }) => weight >= minP * left[0].weight);
    const mass = sum(left.map(({ weight }) => weight));
    return new Map(left.map(({ id, weight }) => [id, weight / mass]));
  }

  it.each([
    {},
    { temperature: 0.6 },
    { topK: 5 },
    { topP: 0.7 },
    { minP: 0.5, temperature: 1.7 },
    { temperature: 1.3, topK: 9, topP: 0.8, minP: 0.2 },
    { repetitionPenalty: 1.8, presencePenalty: 0.4, frequencyPenalty: 0.3, temperature: 0.8 },
    { bias: 2.5, minNewTokens: 3, topP: 0.9 },
  ] as Record<string, number>[])("leave what their definitions say: %o", async (o) => {
    const lm = model();
    const live = await openPrefix(lm, prompt);
    const drawn = [11, 12, 11].slice(0, o.minNewTokens ? 2 : 3);
    await live.push(drawn);
    const { bias, ...params } = o;
    const next = live.next({ ...params, ...(bias && { logitBias: new Map([[9, bias]]) }) });
    const all = next.top(23);
    const raw = [...all].sort((a, b) => a.id - b.id).map(({ logProb }) => logProb);
    expect(sum(raw.map(Math.exp))).toBeCloseTo(1, 12);
    // Penalties look at the sign of a logit.
    const { logProbs } = await promptLogProbs(lm, Uint32Array.from([...prompt, ...drawn, 0]));
    expect(raw[0]).toBeCloseTo(logProbs.at(-1) as number, 4);
    const shift = await meanLogit(lm, [...prompt, ...drawn]);
    const logits = raw.map((p) => p - sum(raw) / raw.length + shift);
    const wanted = expected(logits, drawn, o, [1]);
    expect(next.kept).toBe(wanted.size);
    for (const { id, sampledLogProb, rank } of all) {
      expect(Math.exp(sampledLogProb), `token ${id}`).toBeCloseTo(wanted.get(id) ?? 0, 5);
      expect(all[rank].id).toBe(id);
      expect(next.of(id)).toEqual(all[rank]);
    }
    const order = [...wanted.keys()];
    expect(all.slice(0, next.kept).map(({ id }) => id)).toEqual(order);
    // Equal shares of [0, 1) draw every token by its probability.
    const counts = new Map<number, number>();
    for (let i = 0; i < 4000; i++) {
      const { id } = next.draw((i + 0.5) / 4000);
      counts.set(id, (counts.get(id) ?? 0) + 1 / 4000);
    }
    for (const [id, share] of counts) expect(Math.abs(share - (wanted.get(id) ?? 0))).toBeLessThan(1 / 2000);
    live.free();
    lm.destroy();
  });

  it("are what generate draws by", async () => {
    const lm = model();
    const params = { temperature: 1.2, topK: 12, topP: 0.85, minP: 0.05, repetitionPenalty: 1.5 };
    const n = 6000;
    const options = { ...params, maxNewTokens: 1, samples: n, seed: 3, batchSize: n };
    const drawn = await generate(lm, [Uint32Array.from(prompt)], options);
    const live = await openPrefix(lm, prompt);
    const next = live.next(params);
    const found = next.top(23);
    const kept = found.filter(({ sampledLogProb }) => sampledLogProb > Number.NEGATIVE_INFINITY);
    expect(next.kept).toBe(kept.length);
    expect(kept.length).toBeLessThan(12); // top-p and min-p bite
    for (const { id, sampledLogProb } of found) {
      const p = Math.exp(sampledLogProb);
      const share = drawn.filter(({ ids }) => ids[0] === id).length / n;
      expect(Math.abs(share - p), `token ${id}`).toBeLessThanOrEqual(4.5 * Math.sqrt((p * (1 - p)) / n));
    }
    const one = drawn[0];
    expect(live.next().of(one.ids[0]).logProb).toBeCloseTo(one.logProbs[0], 4);
    live.free();
    lm.destroy();
  });

  it("at temperature 0 leave the likeliest", async () => {
    const lm = model();
    const live = await openPrefix(lm, prompt);
    const [best, second] = live.top(2, { temperature: 0 });
    const [{ ids }] = await generate(lm, [Uint32Array.from(prompt)], { maxNewTokens: 1, temperature: 0, seed: 0 });
    const without = ({ id, sampledLogProb }: NextToken) => ({ id, sampledLogProb });
    expect(without(best)).toEqual({ id: ids[0], sampledLogProb: 0 });
    expect(second.sampledLogProb).toBe(Number.NEGATIVE_INFINITY);
    expect(live.next({ temperature: 0 }).draw(0.999).id).toBe(ids[0]);
    expect(() => live.next({ topP: 2 })).toThrow(/top_p must be/);
    expect(() => live.next().of(23)).toThrow(RangeError);
    live.free();
    lm.destroy();
  });
});

/** The mean over the vocabulary of what a model gives for the token after these. */
async function meanLogit(model: CausalLM, ids: number[]): Promise<number> {
  const { noGrad, packing, scope, tensor } = await import("webrlhf");
  const host = Uint32Array.from(ids);
  const logits = scope(() =>
    noGrad(() => model.logits(model.hidden({ gpu: tensor(host), host }, packing([ids.length])))),
  );
  const read = [...(await logits.read())];
  logits.free("the test");
  return sum(read) / read.length;
}

describe("a live prefix", () => {
  const long = Uint32Array.from({ length: 600 }, (_, i) => 2 + ((i * i + 3 * i) % 21));
  const held = () => {
    trim();
    return poolStats().poolBytes;
  };

  it("takes long texts in stretches", async () => {
    const model = tiny(640);
    const whole = await promptLogProbs(model, long);
    const live = await openPrefix(model, long.subarray(0, 520), { capacity: 600 });
    expectClose([live.next().of(long[520]).logProb], [whole.logProbs[519]], 2e-5, 1e-5);
    await live.push(long.subarray(520, 599));
    expectClose([live.next().of(long[599]).logProb], [whole.logProbs[598]], 2e-5, 1e-5);
    live.free();
    model.destroy();
  });

  it("is given up when the signal says so, and is what it was", async () => {
    const model = tiny(640);
    const live = await openPrefix(model, long.subarray(0, 3), { capacity: 640 });
    const before = live.top(5);
    const stop = new AbortController();
    const pushed = live.push(long, { signal: stop.signal });
    setTimeout(() => stop.abort(new Error("enough")), 0);
    await expect(pushed).rejects.toThrow("enough");
    expect(live.ids).toEqual(long.subarray(0, 3));
    expect(live.top(5)).toEqual(before);
    await live.push(long.subarray(3, 6));
    const whole = await promptLogProbs(model, long.subarray(0, 7));
    expectClose([live.next().of(long[6]).logProb], [whole.logProbs[5]], 2e-5, 1e-5);
    live.free();
    await expect(live.push(2)).rejects.toThrow(/freed/);
    expect(() => live.next()).toThrow(/freed/);
    model.destroy();
  });

  it("leaves nothing behind, opened or not", async () => {
    const model = tiny(640);
    const visit = async () => {
      const live = await openPrefix(model, long.subarray(0, 5));
      await Promise.all([live.push(3), live.push(4), live.rewind(1)]); // one after the other
      expect([...live.ids]).toEqual([...long.subarray(0, 5), 3]);
      live.free();
      live.free();
      const gone = AbortSignal.abort(new Error("gone"));
      await expect(openPrefix(model, long, { signal: gone })).rejects.toThrow("gone");
      await new Promise((resolve) => setTimeout(resolve, 0));
    };
    await visit();
    const before = held();
    await visit();
    expect(held()).toBe(before);
    model.destroy();
  });

  it("refuses what it cannot hold", async () => {
    const model = tiny();
    await expect(openPrefix(model, [])).rejects.toThrow(/empty/);
    await expect(openPrefix(model, [2], { capacity: 65 })).rejects.toThrow(/at most 64/);
    await expect(openPrefix(model, [2, 23])).rejects.toThrow(/23 is no token/);
    await expect(openPrefix(model, [2, 3], { capacity: 1 })).rejects.toThrow(/longer than its capacity 1/);
    const live = await openPrefix(model, [2, 3], { capacity: 3 });
    await live.push(4);
    await expect(live.push(4)).rejects.toThrow(/capacity 3/);
    await expect(live.rewind(3)).rejects.toThrow(/at least one must stay/);
    expect([...live.ids]).toEqual([2, 3, 4]);
    live.free();
    model.store.parameters[0].value.write(new Float32Array(model.store.parameters[0].size).fill(Number.NaN));
    await expect(openPrefix(model, [2])).rejects.toThrow(/not finite/);
    model.destroy();
  });
});
