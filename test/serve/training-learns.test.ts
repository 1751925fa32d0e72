/** What a training server is for, from a client's side: models that get better, and are sampled as they have become. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Parameter } from "webrlhf";
import { normal } from "../../src/runtime/rng.ts";
import { type Datum, datum, type TinyTraining, TrainingClient, tinyTraining } from "./training-client.ts";

let tiny: TinyTraining;
let client: TrainingClient;
beforeAll(async () => {
  // An adapter leaves the head as it is: with small weights there all ids stay about as probable.
  tiny = await tinyTraining({}, {}, ({ store }) => {
    const { value, size } = store.parameters.find(({ name }) => name === "decoder.embed.weight") as Parameter;
    value.write(Float32Array.from({ length: size }, (_, i) => 0.4 * normal(3, i)));
  });
  client = await new TrainingClient(tiny.server.url).open();
});
afterAll(() => tiny.stop());

const prompt = [40, 41, 42];
const mean = (numbers: readonly number[]): number => numbers.reduce((sum, one) => sum + one, 0) / numbers.length;

/** A client that samples from the weights as they are now. */
let sessions = 0;
async function samplerOf(model: string): Promise<string> {
  const request = { sampling_session_seq_id: sessions++ };
  return String((await client.ordered("save_weights_for_sampler", model, request)).sampling_session_id);
}

describe("a model that is trained over HTTP", () => {
  it("learns an answer by heart: its loss falls, and then it gives the answer", async () => {
    const model = await client.createModel({ rank: 8, seed: 1 });
    const answer = [60, 61];
    const greedy = { max_tokens: answer.length, temperature: 0, stop: [] };
    expect((await client.sample(await samplerOf(model), prompt, greedy)).sequences[0].ids).not.toEqual(answer);
    const ids = [...prompt, ...answer];
    const weights = ids.slice(1).map((_, i) => (i + 1 < prompt.length ? 0 : 1 / answer.length));
    const losses: number[] = [];
    for (let step = 0; step < 40; step++) {
      losses.push((await client.pass(model, { loss_fn: "cross_entropy", data: [datum(ids, { weights })] })).loss);
      await client.step(model, { learning_rate: 0.01 });
    }
    const [first, ...later] = [0, 10, 20, 30].map((from) => mean(losses.slice(from, from + 10)));
    for (const [i, loss] of later.entries())
      expect(loss, `steps from ${10 * (i + 1)}`).toBeLessThan([first, ...later][i]);
    expect(losses.at(-1)).toBeLessThan(0.3 * losses[0]);
    expect((await client.sample(await samplerOf(model), prompt, greedy)).sequences[0].ids).toEqual(answer);
  });

  it("learns from rewards of what it says: they rise", async () => {
    const model = await client.createModel({ rank: 8, seed: 2 });
    const drawing = { max_tokens: 4, temperature: 1, stop: [] };
    const rewards: number[] = [];
    for (let round = 0; round < 14; round++) {
      const sampler = await samplerOf(model);
      const { sequences } = await client.sample(sampler, prompt, { ...drawing, seed: round }, { num_samples: 16 });
      const each = sequences.map(({ ids }) => ids.filter((id) => id % 2 === 0).length / ids.length);
      rewards.push(mean(each));
      const nothing = prompt.slice(1).map(() => 0);
      const data = sequences.map(
        ({ ids, logProbs }, i): Datum =>
          datum([...prompt, ...ids], {
            logprobs: [...nothing, ...(logProbs as number[])],
            advantages: [...nothing, ...ids.map(() => (each[i] - mean(each)) / 16)],
          }),
      );
      await client.pass(model, { loss_fn: "importance_sampling", data });
      await client.step(model, { learning_rate: 0.01 });
    }
    expect(mean(rewards.slice(-4))).toBeGreaterThan(mean(rewards.slice(0, 4)) + 0.2);
  });
});
