/** The run in words: for the status line, the pipeline strip and screen readers. */
import { showNumber } from "webrlhf/report";
import type { Knobs } from "./protocol.ts";
import { gain, type View } from "./view.ts";

export const algorithmName = (algorithm: Knobs["algorithm"]): string => (algorithm === "ppo" ? "PPO" : "RAFT");

export const percent = (share: number | null | undefined): string =>
  share === null || share === undefined ? "–" : `${showNumber(share * 100, 2)} %`;

/** "+0.8 sd" */
export function signed(value: number | null): string {
  if (value === null) return "–";
  const rounded = Math.round(value * 100) / 100;
  return `${rounded > 0 ? "+" : ""}${showNumber(rounded, 3)} sd`;
}

/** What happens right now, e.g. "PPO, step 4 of 30". */
export function activity(view: View, knobs: Knobs): string {
  const { phase, stage } = view;
  if (phase === "idle") return view.device ? "Ready." : "Looking for a WebGPU adapter…";
  if (phase === "done") return `Done. ${outcome(view)}`;
  const doing = {
    load: "Loading the language model",
    reward: `Reward model, step ${view.reward.length} of ${view.rewardSteps}`,
    before: "Answering the held-out prompts before training",
    policy: `${algorithmName(knobs.algorithm)}, step ${view.policy.length} of ${view.policySteps}`,
    after: `Answering the held-out prompts after step ${view.policy.length}`,
  }[stage];
  if (phase === "paused") return `Paused. ${doing}.`;
  if (phase === "pausing") return `Pausing when this step is done. ${doing}.`;
  return `${doing}…`;
}

/** The result in one sentence, as far as there is one. */
export function outcome(view: View): string {
  const latest = view.after ?? view.policy.at(-1)?.metrics;
  const proxy = gain(view, "reward", latest?.reward);
  const gold = gain(view, "gold", latest?.gold);
  if (proxy === null || gold === null || !latest) return "";
  const kl = `KL ${showNumber(latest.kl, 2)}`;
  const verdict =
    gold > 0.1
      ? "the stories got truly better"
      : gold < -0.1
        ? "the stories got truly worse"
        : "the truth hardly moved";
  return `By the reward model ${signed(proxy)}, in truth ${signed(gold)}, ${kl}: ${verdict}.`;
}

/** Tokens through the trainers per second. */
export function speed(view: View): string {
  return view.seconds > 0 ? `${showNumber(view.tokens / view.seconds, 3)} tokens/s` : "";
}

/** What the page must not leave unsaid: which machine, how small a model. */
export function honestLabel(view: View): string {
  const { device, parameters } = view;
  const parts: string[] = [];
  if (device) {
    parts.push(
      device.kind === "hardware"
        ? `Runs on your GPU: ${device.name}`
        : `Runs on the CPU through a software adapter, slowly: ${device.name}`,
    );
  }
  if (parameters > 0) parts.push(`toy model of ${parameters.toLocaleString("en")} parameters`);
  const rate = speed(view);
  if (rate) parts.push(rate);
  return parts.join(" · ");
}
