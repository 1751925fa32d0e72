import { beforeAll, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { CausalLM } from "webrlhf/nn";
import { trainSft } from "webrlhf/rlhf";
import expected from "../fixtures/twenty-steps.json" with { type: "json" };
import { collect, metricsOf, sequences, tinyConfig } from "./tiny.ts";

beforeAll(() => openDevice());

/**
 * The losses of 20 training steps are the same in every runtime and on every adapter: this file runs in Node, Deno and
 * Chromium and holds each against one list, which is what Node printed on lavapipe (`console.log` of `losses`).
 */
for (const family of ["llama", "gpt2"] as const) {
  it(`20 steps of ${family} give the same losses everywhere`, async () => {
    const model = new CausalLM(tinyConfig(family)).initialize(7);
    const settings = { maxSteps: 20, perDeviceTrainBatchSize: 8, learningRate: 5e-3, seed: 3 };
    const losses = metricsOf(await collect(trainSft({ policy: model }, sequences(64), settings))).map((m) => m.loss);
    expect(losses).toHaveLength(20);
    expect(losses[19]).toBeLessThan(losses[0] - 0.8);
    losses.forEach((loss, i) => {
      expect(Math.abs(loss / expected[family][i] - 1), `step ${i + 1}`).toBeLessThan(1e-4);
    });
  });
}
