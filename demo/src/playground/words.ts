/** The run in words: for the status line, the pipeline strip and screen readers. */
import { showNumber } from "webrlhf/report";
import { type Change, direction } from "./paired.ts";
import type { Knobs } from "./protocol.ts";
import { change, type View } from "./view.ts";

export const algorithmName = (algorithm: Knobs["algorithm"]): string => (algorithm === "ppo" ? "PPO" : "RAFT");

export const percent = (share: number | null | undefined): string =>
  share === null || share === undefined ? "–" : `${showNumber(share * 100, 2)} %`;

/** "+0.8 ± 0.15 sd", the standard error behind the sign. */
export function signed(moved: Change | null): string {
  if (moved === null) return "–";
  const mean = hundredths(moved.mean);
  return `${mean > 0 ? "+" : ""}${showNumber(mean, 3)} ± ${showNumber(hundredths(moved.error), 3)} sd`;
}

const hundredths = (value: number) => Math.round(value * 100) / 100;

const verdicts = {
  up: "the stories got truly better",
  down: "the stories got truly worse",
  unknown: "it cannot be told whether the stories got truly better or worse",
};

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
  if (phase === "broken") return `Broken off. ${doing}.`;
  if (phase === "paused") return `Paused. ${doing}.`;
  if (phase === "pausing") return `Pausing when this step is done. ${doing}.`;
  return `${doing}…`;
}

/** The result in one sentence, as far as there is one. */
export function outcome(view: View): string {
  const { after } = view;
  const reward = change(view, "reward");
  const gold = change(view, "gold");
  if (!reward || !gold || !after) return "";
  const { step, metrics } = after;
  const where = `on ${metrics.prompts} held-out prompts after step ${step}`;
  const numbers = `By the reward model ${signed(reward)}, in truth ${signed(gold)}, KL ${showNumber(metrics.kl, 2)}`;
  return `${numbers}, ${where}: ${verdicts[direction(gold)]}.`;
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
