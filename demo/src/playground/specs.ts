/** The charts of a run. */
import { type ChartBand, type ChartPoint, type ChartSpec, smooth } from "webrlhf/report";
import type { Knobs } from "./protocol.ts";
import type { OtherSeed, Recorded } from "./recording.ts";
import { curve, gain, type View } from "./view.ts";
import { algorithmName } from "./words.ts";

export type ChartId = "accuracy" | "rewards" | "kl";

/** The y axis of the rewards: beyond it stories are babble, and how bad babble is tells nothing. */
const readable = [-3, 4] as const;

/** @param behind a recorded run to compare with: pale behind this one, if it is another */
export function chartSpecs(view: View, knobs: Knobs, behind: Recorded | null = null): Record<ChartId, ChartSpec> {
  const past = behind && behind.view !== view ? behind.view : null;
  const step = `${algorithmName(knobs.algorithm)} step`;
  const rewards = (["reward", "gold"] as const).map((name, look) => ({
    name: name === "reward" ? "reward model" : "truth",
    points: gains(view, name),
    dashed: name === "reward",
    look,
    ...(behind && { band: bandOf(behind, name) }),
  }));
  const judged = accuracies(view);
  return {
    accuracy: {
      id: "accuracy",
      title: "The judge: pairs called right",
      xLabel: "reward model step",
      yLabel: "share, smoothed",
      series: [
        { name: "training pairs", points: judged, look: 0 },
        ...ghost(past && accuracies(past), view.rewardSteps, 0),
      ],
      references: [
        ...(view.ceiling === null ? [] : [{ name: "a perfect judge", y: view.ceiling }]),
        ...(view.accuracy === null ? [] : [{ name: "held-out pairs", y: view.accuracy }]),
      ],
    },
    rewards: {
      id: "rewards",
      title: "The stories: judged and true reward",
      xLabel: step,
      yLabel: "sd above the start",
      zero: true,
      within: readable,
      series: [
        ...rewards,
        ...ghost(past && gains(past, "reward"), view.policySteps, 0),
        ...ghost(past && gains(past, "gold"), view.policySteps, 1),
      ],
    },
    kl: {
      id: "kl",
      title: "The distance from the start",
      xLabel: step,
      yLabel: "KL, nats per response",
      zero: true,
      series: [
        { name: "KL", points: curve(view.policy, "kl"), look: 2, dashed: false },
        ...ghost(past && curve(past.policy, "kl"), view.policySteps, 2),
      ],
    },
  };
}

/** @param steps of the run in front: a longer one behind it must not press it together */
const ghost = (points: readonly ChartPoint[] | null, steps: number, look: number) =>
  points ? [{ name: "recorded", points: points.filter(([x]) => x <= (steps || Infinity)), look, faint: true }] : [];

/** From the lowest to the highest of all recorded seeds, at each step. */
function bandOf({ view, others }: Recorded, name: "reward" | "gold"): ChartBand[] {
  if (others.length === 0) return [];
  return gains(view, name).map(([x, y]): ChartBand => {
    const all = [y, ...others.map((other: OtherSeed) => other[name][x - 1])].filter(Number.isFinite);
    return [x, Math.min(...all), Math.max(...all)];
  });
}

function accuracies(view: View): ChartPoint[] {
  const accuracy = curve(view.reward, "accuracy");
  return smooth(accuracy, accuracy.length / 20); // batches are small
}

const gains = (view: View, name: "reward" | "gold"): ChartPoint[] =>
  curve(view.policy, name).flatMap(([x, y]): ChartPoint[] => {
    const scaled = gain(view, name, y);
    return scaled === null ? [] : [[x, scaled]];
  });
