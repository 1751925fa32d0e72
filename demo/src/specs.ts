/** The charts of a run. */
import { type ChartPoint, type ChartSpec, smooth } from "webrlhf/report";
import type { Knobs } from "./protocol.ts";
import { curve, gain, type View } from "./view.ts";
import { algorithmName } from "./words.ts";

export type ChartId = "accuracy" | "rewards" | "kl";

export function chartSpecs(view: View, knobs: Knobs): Record<ChartId, ChartSpec> {
  const accuracy = curve(view.reward, "accuracy");
  return {
    accuracy: {
      id: "accuracy",
      title: "The judge: pairs called right",
      xLabel: "step of the reward model",
      yLabel: "share, smoothed",
      series: [{ name: "training pairs", points: smooth(accuracy, accuracy.length / 20) }], // batches are small
      references: [
        ...(view.ceiling === null ? [] : [{ name: "a perfect judge", y: view.ceiling }]),
        ...(view.accuracy === null ? [] : [{ name: "held-out pairs", y: view.accuracy }]),
      ],
    },
    rewards: {
      id: "rewards",
      title: "The stories: judged and true reward",
      xLabel: `step of ${algorithmName(knobs.algorithm)}`,
      yLabel: "sd above the start",
      zero: true,
      series: [
        { name: "reward model", points: gains(view, "reward"), dashed: true },
        { name: "truth", points: gains(view, "gold"), dashed: false },
      ],
    },
    kl: {
      id: "kl",
      title: "The distance from the start",
      xLabel: `step of ${algorithmName(knobs.algorithm)}`,
      yLabel: "KL, nats per response",
      zero: true,
      series: [{ name: "KL", points: curve(view.policy, "kl"), look: 2, dashed: false }],
    },
  };
}

const gains = (view: View, name: "reward" | "gold"): ChartPoint[] =>
  curve(view.policy, name).flatMap(([x, y]): ChartPoint[] => {
    const scaled = gain(view, name, y);
    return scaled === null ? [] : [[x, scaled]];
  });
