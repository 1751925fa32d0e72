/**
 * The weights that PPO's optimizer steps lead to in every dialect, against the same steps in PyTorch and float64
 * (test/fixtures/README.md): the order of the passes, their averages, clips, schedules.
 */
import { beforeAll, describe, expect, it } from "vitest";
import type { Model } from "webrlhf/nn";
import type { FixtureArray } from "../../fixture.ts";
import fixture from "../../fixtures/ppo-runs.json" with { type: "json" };
import { gpuReady } from "../../helpers.ts";
import { distance, weightsOf } from "../../interop/parity.ts";
import { openLM, openScorer, type ReferenceModel } from "../../nn/reference-model.ts";
import { type GivenRun, trainGiven } from "./given.ts";

beforeAll(gpuReady);

type Case = Omit<GivenRun, "ptx"> & {
  name: string;
  steps: number;
  ptx: boolean;
  policy: Record<string, FixtureArray>;
  critic: Record<string, FixtureArray>;
};
const cases = fixture.cases as unknown as Case[];
const start = fixture as unknown as { policy: ReferenceModel; critic: ReferenceModel };

/** A model's weights, after which it is of no more use. */
async function taken(model: Model) {
  const weights = await weightsOf(model);
  model.destroy();
  return weights;
}

describe("PPO's optimizer steps", () => {
  it.each(cases.map((c) => [c.dialect, c.name, c] as const))("%s: %s", async (_, __, c) => {
    expect(c.steps).toBeGreaterThanOrEqual(8);
    const open = async () => ({ policy: await openLM(start.policy), critic: await openScorer(start.critic) });
    const [models, before] = [await open(), await open()];
    const reference = await openLM(start.policy);
    const run = { ...c, ...(c.ptx ? { ptx: [fixture.supervised] } : { ptx: undefined }) } as unknown as GivenRun;
    await trainGiven({ ...models, reference }, run, { responseLength: fixture.longest });
    reference.destroy();
    const after = {
      policy: await openLM({ ...start.policy, weights: c.policy }),
      critic: await openScorer({ ...start.critic, weights: c.critic }),
    };
    for (const name of ["policy", "critic"] as const) {
      const apart = distance(await taken(models[name]), await taken(after[name]), await taken(before[name]));
      expect(apart.weight, name).toBeLessThan(1e-5);
      expect(apart.update, name).toBeLessThan(1e-3);
    }
  });
});
