/** A training server whose GPU device is lost: it goes on on a new one, and what was saved can be gone on from. */
import { expect, it } from "vitest";
import { device } from "../../src/gpu/device.ts";
import { datum, TrainingClient, tinyTraining } from "./training-client.ts";

it("says which models are gone, samples from what is saved, and trains on from it", async () => {
  const tiny = await tinyTraining();
  const client = await new TrainingClient(tiny.server.url).open();
  const data = [datum([40, 41, 42, 43], { weights: [1, 1, 1] })];
  const learn = async (model: string) => {
    const passed = await client.pass(model, { loss_fn: "cross_entropy", data });
    await client.step(model, { learning_rate: 1e-2 });
    return passed;
  };
  const [model, other] = [await client.createModel(), await client.createModel()];
  await learn(model);
  const { path } = await client.ordered("save_weights", model, { path: "before" });
  const { path: named } = await client.ordered("save_weights_for_sampler", model, { path: "before" });
  const sampler = await client.sampler({ model_path: named });
  const params = { max_tokens: 4, temperature: 0, stop: [] };
  const drawn = await client.sample(sampler, [40, 41], params);
  const expected = await learn(model);

  device().destroy();
  await expect(learn(model)).rejects.toThrow(/device was lost/);
  await expect(learn(model)).rejects.toThrow(/this model is gone/);
  await expect(learn(other)).rejects.toThrow(/this model is gone/);
  expect((await client.sample(sampler, [40, 41], params)).sequences[0].ids).toEqual(drawn.sequences[0].ids);
  expect(await learn(await client.createFrom(String(path), true))).toEqual(expected);

  device().destroy();
  expect((await client.sample(sampler, [40, 41], params)).sequences[0].ids).toEqual(drawn.sequences[0].ids);
  await tiny.stop();
});
