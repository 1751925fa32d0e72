/** A tiny policy learns to find a number by halving, which the best policy always does: the other methods and seeds are in the docs. */
import { beforeAll, expect, it } from "vitest";
import { gpuReady } from "../../helpers.ts";
import { keeper } from "../../keep.ts";
import { metricsOf } from "../tiny.ts";
import { imitating, learning } from "./play.ts";
import { guessing } from "./problems.ts";

beforeAll(gpuReady);

const keep = keeper();

it("RLOO learns which number to name first, and to heed what it is told", async () => {
  const problem = guessing(3);
  const policy = keep(await imitating(problem, 1));
  const rewards: number[] = [];
  for await (const event of learning("RLOO", problem, policy, {
    seed: 1,
    ...problem.learning,
    rate: 0.02,
    steps: 24,
  })) {
    rewards.push(...metricsOf([event]).map(({ reward }) => reward));
  }
  expect(rewards[0]).toBeLessThan(0.75);
  // The last of them was drawn before the last step was taken.
  expect(rewards.at(-1)).toBeGreaterThan(0.95);
});
