/** A recorded run for the first screen: something moves before anything was loaded. */

import { stepCurve } from "../../lib/lesson/numbers.ts";
import { recordingsOf } from "../../lib/lesson/registry.ts";

export const load = async () => {
  const [first] = await recordingsOf("ppo");
  return {
    judge: stepCurve(first.events, "ppo", "reward"),
    truth: stepCurve(first.events, "ppo", "gold"),
    device: first.device,
  };
};
