/** What can go wrong with any training. */
import { median } from "../../runtime/median.ts";
import { showNumber } from "../text.ts";
import { correlation, course, type Diagnosis, everyPoint, mean, numberIn, percent, values } from "./evidence.ts";

const NORMS = ["grad_norm", "actor_grad_norm", "critic_grad_norm"];
const LOSSES = ["loss", "actor_loss", "critic_loss", "kl", ...NORMS];
const SCALES = ["loss_scale", "critic_loss_scale"];

export const every: readonly Diagnosis[] = [
  {
    id: "not-finite",
    title: "A number is not finite",
    when: "At the first loss, KL or gradient norm that is NaN or infinite: nothing that follows can be trusted.",
    advice:
      "Go back to the checkpoint before it with a lower learning_rate or max_grad_norm; look at that step's data.",
    look({ steps }) {
      for (const name of LOSSES) {
        const odd = everyPoint(steps, name).find(([, value]) => !Number.isFinite(value));
        if (odd) return `${name} is ${showNumber(odd[1])} at step ${odd[0]}.`;
      }
      return null;
    },
  },
  {
    id: "skipped-steps",
    title: "Steps are skipped",
    when: "More than one step in ten: the loss scale of f16 skips a few as it finds its size, and then next to none.",
    advice: "Train in f32, or lower the learning rate: gradients overflow.",
    look({ steps }) {
      const skipped = values(steps, "skipped_steps").filter((n) => n > 0).length;
      const share = skipped / steps.length;
      return steps.length >= 10 && share > 0.1
        ? `Optimizer steps were skipped in ${percent(share)} of the steps.`
        : null;
    },
  },
  {
    id: "loss-scale",
    title: "The loss scale has nowhere to fall",
    when: "Below 1 at the end: then even unscaled gradients overflow f16.",
    advice: "Train in f32 (leave fp16 out).",
    look({ steps }) {
      for (const name of SCALES) {
        const last = values(steps, name).at(-1);
        if (last !== undefined && last < 1) return `${name} fell to ${showNumber(last)}.`;
      }
      return null;
    },
  },
  {
    id: "gradient-spike",
    title: "A gradient stands out",
    when: "More than 20 times the run's median: batches of healthy runs differ by a few times.",
    advice: "Look at the data of that step for broken or extremely long rows; max_grad_norm bounds what it does.",
    look({ steps }) {
      for (const name of NORMS) {
        const points = everyPoint(steps, name).filter(([, value]) => Number.isFinite(value) && value > 0);
        if (points.length < 10) continue;
        const usual = median(points.map(([, value]) => value));
        const top = points.reduce((a, b) => (b[1] > a[1] ? b : a));
        if (top[1] > 20 * usual) {
          return `${name} is ${showNumber(top[1])} at step ${top[0]}, ${Math.round(top[1] / usual)} times the median.`;
        }
      }
      return null;
    },
  },
  {
    id: "always-clipped",
    title: "The gradient clip sets every step",
    when: "When nine of ten gradients are more than ten times max_grad_norm: then learning_rate is not what it says.",
    advice: "Raise max_grad_norm, or take the clip for what it is and tune both together.",
    look(run) {
      const most = numberIn(run, "max_grad_norm");
      if (!most) return null;
      for (const name of ["grad_norm", "actor_grad_norm"]) {
        const norms = values(run.steps, name);
        const share = mean(norms.map((norm) => Number(norm > 10 * most)));
        if (norms.length >= 10 && share >= 0.9) {
          return `${percent(share)} of the gradients are more than ten times max_grad_norm ${most}: the median is ${showNumber(median(norms))}.`;
        }
      }
      return null;
    },
  },
  {
    id: "no-gradient",
    title: "Nothing is learned",
    when: "When more than half of the steps have a gradient of exactly zero: rounding alone would give more.",
    advice: "Look for rewards without differences, masks that leave no token, or an adapter that is frozen.",
    look({ steps }) {
      for (const name of ["grad_norm", "actor_grad_norm"]) {
        const norms = values(steps, name);
        const share = mean(norms.map((norm) => Number(norm === 0)));
        if (norms.length >= 5 && share > 0.5) return `The gradient is zero in ${percent(share)} of the steps.`;
      }
      return null;
    },
  },
  {
    id: "no-rate",
    title: "The learning rate is zero",
    when: "When more than half of the steps have it: a warmup or a schedule's end takes fewer.",
    advice: "Look at warmup_steps, lr_scheduler_type and max_steps: the schedule may be meant for another length.",
    look({ steps }) {
      const rates = values(steps, "learningRate");
      const share = mean(rates.map((rate) => Number(rate === 0)));
      return rates.length >= 5 && share > 0.5 ? `learning_rate is 0 in ${percent(share)} of the steps.` : null;
    },
  },
  {
    id: "slower",
    title: "Steps take ever longer",
    when: "When the last fifth takes more than three times as long as the first and time grows with the steps (r of 0.8), not by a jump: the very first step compiles, and does not count.",
    advice: "Responses that grow explain it; else something fills up: memory, a disk, a server's queue.",
    look({ seconds = [] }) {
      const rows = seconds.slice(1).map((value, step) => ({ step, value }));
      const times = course(rows, "value", 15);
      if (!times || times.first <= 0 || times.last <= 3 * times.first) return null;
      const r = correlation(
        times.all,
        times.all.map((_, i) => i),
      );
      if (r === null || r < 0.8) return null;
      return `A step took ${showNumber(times.first)} s at first and takes ${showNumber(times.last)} s now.`;
    },
  },
];
