/** A run as a file to take away. */
import { algorithmParam, numberSpecs } from "./knobs.ts";
import type { Knobs } from "./protocol.ts";
import type { View } from "./view.ts";

/**
 * JSON Lines: first the settings, as the address names them, with the device; then the metrics of every step and look in
 * order, each line with its stage.
 * @param link where the same question can be asked again
 */
export function runLines(view: View, knobs: Knobs, link: string): string {
  const { device, parameters, ceiling, accuracy, before, after } = view;
  const settings = Object.fromEntries(numberSpecs.map(({ key, param }) => [param, knobs[key]]));
  const look = (stage: string, metrics: object | null) => (metrics ? [{ stage, ...metrics }] : []);
  const lines: object[] = [
    { stage: "settings", [algorithmParam]: knobs.algorithm, ...settings, device: device?.name, parameters, link },
    ...view.reward.map(({ step, metrics }) => ({ stage: "reward", step, ...metrics })),
    ...look("reward held out", accuracy === null ? null : { accuracy, noise_ceiling: ceiling }),
    ...look("before", before),
    ...view.policy.map(({ step, metrics }) => ({ stage: "policy", step, ...metrics })),
    ...look("after", after && { step: after.step, ...after.metrics }),
  ];
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}

/** "webrlhf-ppo-seed42.jsonl" */
export const fileName = ({ algorithm, seed }: Knobs): string => `webrlhf-${algorithm}-seed${seed}.jsonl`;
