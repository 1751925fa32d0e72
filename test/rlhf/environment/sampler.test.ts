/** Episodes of a policy on the GPU: whatever takes long, and whatever is played beside them, changes no bit of them. */
import { beforeAll, describe, expect, it } from "vitest";
import {
  type Environment,
  type EnvironmentSamplerOptions,
  environmentSampler,
  type Prompt,
  type Response,
  responseLogProbs,
  sampleResponses,
} from "webrlhf/rlhf";
import { gpuReady } from "../../helpers.ts";
import { keeper } from "../../keep.ts";
import { wordPolicy, wordTokenizer } from "./words.ts";

beforeAll(gpuReady);

const keep = keeper();
const tokenizer = wordTokenizer(["go", "on", "and", "a", "b", "c", "d"]);
const policy = () => keep(wordPolicy(tokenizer, 1, { hiddenSize: 16 }));

const later = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Goes on as long as the policy's turns are long, and its row's time after each. */
const echo = (wait: (row: number, turn: number) => number): Environment => ({
  name: "echo",
  async reset({ prompt: { row } }) {
    await later(wait(Number(row?.id), -1));
    return {
      observation: [{ role: "user", content: "go" }],
      async step({ ids, turn }) {
        await later(wait(Number(row?.id), turn));
        const again = Array.from({ length: 1 + (ids.length % 3) }, () => "on").join(" and ");
        return { observation: [{ role: "user", content: again }], reward: ids.length, done: ids.length > 6 };
      },
    };
  },
});

const prompts = (n: number): Prompt[] =>
  Array.from({ length: n }, (_, id) => ({ text: "", ids: new Uint32Array(0), row: { id } }));
const options = { maxNewTokens: 24, samples: 2, seed: 5, iteration: 3, temperature: 1 };
const sampler = (model: ReturnType<typeof policy>, environment: Environment, some = {}) => {
  const o: EnvironmentSamplerOptions = {
    policy: model,
    tokenizer,
    environment,
    maxTurns: 3,
    environmentTimeout: 20,
    environmentFailure: "stop",
    ...some,
  };
  return environmentSampler(o);
};
const bits = (responses: readonly Response[]) =>
  responses.map(({ ids, learned, logProbs, turns, ended, prompt, sample }) => ({
    ids: [...ids],
    learned: [...(learned ?? [])],
    logProbs: [...(logProbs ?? [])],
    turns,
    ended,
    prompt,
    sample,
  }));

describe("episodes", () => {
  it("are the same however long the environment takes, and whatever is played beside them", async () => {
    const model = policy();
    model.batchInvariant = true; // on GPUs bits depend on the company otherwise
    const all = await sampler(
      model,
      echo(() => 0),
    )(prompts(4), [10, 11, 12, 13], options);
    expect(all.map(({ prompt, sample }) => [prompt, sample])).toEqual(
      [0, 1, 2, 3].flatMap((prompt) => [0, 1].map((sample) => [prompt, sample])),
    );
    expect(all.some(({ turns }) => (turns?.length ?? 0) > 1)).toBe(true);
    // The first prompts are slow, so that the others' turns are drawn in other company.
    const slow = await sampler(
      model,
      echo((row, turn) => (row < 2 ? 30 * (turn + 2) : 0)),
    )(prompts(4), [10, 11, 12, 13], options);
    expect(bits(slow)).toEqual(bits(all));
    const alone = await sampler(
      model,
      echo(() => 0),
    )(prompts(4).slice(2), [12, 13], options);
    expect(bits(alone).map((one) => ({ ...one, prompt: one.prompt + 2 }))).toEqual(bits(all).slice(4));
  });

  it("begin as responses without an environment do, by the same random numbers", async () => {
    const model = policy();
    const ids = Uint32Array.from(tokenizer.encode("<user>go<end><assistant>"));
    const plain = await sampleResponses(model, tokenizer, [{ text: "", ids }], [7], options);
    const episodes = await sampler(
      model,
      echo(() => 0),
      { maxTurns: 1 },
    )(prompts(1), [7], options);
    expect(episodes.map((r) => [...r.ids])).toEqual(plain.map((r) => [...r.ids]));
  });

  it("have the log-probabilities of the policy's own tokens, as measured on the whole sequence", async () => {
    const model = policy();
    const tempered = { ...options, temperature: 0.7 };
    for (const measuredAt of [null, 0.7]) {
      const responses = await sampler(
        model,
        echo(() => 0),
        { measuredAt },
      )(prompts(2), [0, 1], tempered);
      const { logProbs } = await responseLogProbs(model, responses, measuredAt ?? 1);
      for (const [i, response] of responses.entries()) {
        const written = response.learned?.reduce((sum, one) => sum + one, 0);
        expect(response.logProbs).toHaveLength(written as number);
        for (const [t, own] of (response.logProbs as Float32Array).entries())
          expect(own).toBeCloseTo(logProbs[i][t], 4);
      }
    }
  });

  it("get a seed that names the prompt and the sample", async () => {
    const seeds: number[] = [];
    const noting: Environment = {
      reset: ({ seed, prompt }) => {
        seeds.push(seed);
        return {
          observation: [{ role: "user", content: "go" }],
          step: () => ({ done: true, reward: Number(prompt.row?.id) }),
        };
      },
    };
    const model = policy();
    await sampler(model, noting)(prompts(2), [4, 4], options);
    expect(new Set(seeds).size).toBe(4);
    const first = [...seeds];
    seeds.length = 0;
    await sampler(model, noting)(prompts(1), [4], options);
    expect(seeds).toEqual(first.slice(0, 2));
    seeds.length = 0;
    await sampler(model, noting)(prompts(1), [4], { ...options, after: [4] });
    expect(seeds).toEqual(first.slice(2));
  });
});

describe("an environment that fails", () => {
  const failing: Environment = {
    name: "sometimes",
    reset: ({ prompt: { row } }) => ({
      observation: [{ role: "user", content: "go" }],
      step() {
        if (row?.id === 1) throw new Error("no luck");
        return { done: true, reward: 1 };
      },
    }),
  };

  it("stops everything, with the prompt and the turn", async () => {
    await expect(sampler(policy(), failing)(prompts(3), [5, 6, 7], options)).rejects.toThrow(
      /^sometimes, prompt 6, sample 0, turn 1: Error: no luck$/,
    );
  });

  it("leaves all responses to the prompt out where that is asked for, and says why", async () => {
    const reasons: string[] = [];
    const dropping = { environmentFailure: "drop", dropped: (reason: string) => reasons.push(reason) };
    const kept = await sampler(policy(), failing, dropping)(prompts(3), [5, 6, 7], options);
    expect(kept.map(({ prompt, sample }) => [prompt, sample])).toEqual([
      [0, 0],
      [0, 1],
      [2, 0],
      [2, 1],
    ]);
    expect(reasons).toEqual(["sometimes, prompt 6, sample 0, turn 1: Error: no luck"]);
    await expect(sampler(policy(), failing, dropping)(prompts(2).slice(1), [6], options)).rejects.toThrow(/no luck/);
  });

  it("has all of its episodes closed, those that were never played, too", async () => {
    let open = 0;
    const opening: Environment = {
      reset({ prompt: { row } }) {
        if (row?.id === 2) throw new Error("no luck");
        open++;
        return { observation: "go", step: () => ({ done: true }), close: () => void open-- };
      },
    };
    await expect(sampler(policy(), opening)(prompts(3), [0, 1, 2], options)).rejects.toThrow(
      /at its beginning: Error: no luck/,
    );
    expect(open).toBe(0);
    const dropping = { environmentFailure: "drop" };
    expect(await sampler(policy(), opening, dropping)(prompts(3), [0, 1, 2], options)).toHaveLength(4);
    expect(open).toBe(0);
  });

  it("is told from a policy without room for what it shows", async () => {
    const model = policy();
    const most = { ...options, maxNewTokens: 62 };
    await expect(sampler(model, failing)(prompts(1), [0], most)).rejects.toThrow(
      /^sometimes, prompt 0, sample 0: the policy sees 4 tokens first; with 62 more they exceed the context of 64/,
    );
  });
});
