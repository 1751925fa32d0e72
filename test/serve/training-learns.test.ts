/** What a training server is for, from a client's side: models that get better, and are sampled as they have become. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Datum, datum, type TinyTraining, TrainingClient, tinyTraining } from "./training-client.ts";

let tiny: TinyTraining;
let client: TrainingClient;
beforeAll(async () => {
  tiny = await tinyTraining();
  client = await new TrainingClient(tiny.server.url).open();
});
afterAll(() => tiny.stop());

const prompt = [40, 41, 42];

/** A client that samples from the weights as they are now. */
let sessions = 0;
async function samplerOf(model: string): Promise<string> {
  const request = { sampling_session_seq_id: sessions++ };
  return String((await client.ordered("save_weights_for_sampler", model, request)).sampling_session_id);
}

describe("a model that is trained over HTTP", () => {
  it("learns an answer by heart: its loss falls step by step, and then it gives the answer", async () => {
    const model = await client.createModel({ rank: 8, seed: 1 });
    const answer = [60, 61, 62, 63];
    const greedy = { max_tokens: answer.length, temperature: 0, stop: [] };
    expect((await client.sample(await samplerOf(model), prompt, greedy)).sequences[0].ids).not.toEqual(answer);
    const ids = [...prompt, ...answer];
    const weights = ids.slice(1).map((_, i) => (i + 1 < prompt.length ? 0 : 1 / answer.length));
    const losses: number[] = [];
    for (let step = 0; step < 12; step++) {
      losses.push((await client.pass(model, { loss_fn: "cross_entropy", data: [datum(ids, { weights })] })).loss);
      await client.step(model, { learning_rate: 0.02 });
    }
    for (const [i, loss] of losses.slice(1).entries()) expect(loss, `step ${i + 1}`).toBeLessThan(losses[i]);
    expect(losses.at(-1)).toBeLessThan(0.1 * losses[0]);
    expect((await client.sample(await samplerOf(model), prompt, greedy)).sequences[0].ids).toEqual(answer);
  });

  it("learns from rewards of what it says: they rise from round to round", async () => {
    const model = await client.createModel({ rank: 8, seed: 2 });
    const drawing = { max_tokens: 4, temperature: 1, stop: [] };
    const rewards: number[] = [];
    for (let round = 0; round < 10; round++) {
      const sampler = await samplerOf(model);
      const { sequences } = await client.sample(sampler, prompt, { ...drawing, seed: round }, { num_samples: 16 });
      const each = sequences.map(({ ids }) => ids.filter((id) => id % 2 === 0).length / ids.length);
      const mean = each.reduce((sum, reward) => sum + reward, 0) / each.length;
      rewards.push(mean);
      const nothing = prompt.slice(1).map(() => 0);
      const data = sequences.map(
        ({ ids, logProbs }, i): Datum =>
          datum([...prompt, ...ids], {
            logprobs: [...nothing, ...(logProbs as number[])],
            advantages: [...nothing, ...ids.map(() => (each[i] - mean) / 16)],
          }),
      );
      await client.pass(model, { loss_fn: "importance_sampling", data });
      await client.step(model, { learning_rate: 0.02 });
    }
    const [first, last] = [rewards.slice(0, 2), rewards.slice(-2)].map(([a, b]) => (a + b) / 2);
    expect(first).toBeLessThan(0.7);
    expect(last).toBeGreaterThan(0.9);
  });
});
