/** What can go wrong with learning from examples: fine-tuning, reward models, preferences without a reward model. */
import { showNumber } from "../text.ts";
import { course, type Diagnosis, type Evidence, percent, values } from "./evidence.ts";

const REWARD = ["reward", "pairwise", "cost"];
const PREFERENCE = ["dpo", "cpo", "orpo", "kto"];
const SUPERVISED = ["sft", ...REWARD, ...PREFERENCE];

const among = (verbs: readonly string[], { verb }: Evidence): boolean => verb !== null && verbs.includes(verb);

/** Accuracy on held-out pairs, and on those of training, over the last fifth. */
const accuracies = ({ steps, evals }: Evidence) => ({
  held: values(
    evals.map((row) => ({ ...row, held: row.eval_accuracy ?? row["eval_rewards/accuracies"] ?? null })),
    "held",
  ).at(-1),
  trained: course(steps, "accuracy", 10),
});

export const supervised: readonly Diagnosis[] = [
  {
    id: "loss-rises",
    title: "The loss rises",
    when: "When the last fifth's mean is 1.3 times the first's and 0.1 above it: batches differ by less.",
    advice: "Lower learning_rate, or give it a warmup.",
    look(run) {
      const loss = among(SUPERVISED, run) ? course(run.steps, "loss", 10) : null;
      if (!loss || loss.last <= 1.3 * Math.abs(loss.first) || loss.last <= loss.first + 0.1) return null;
      return `The loss rose from ${showNumber(loss.first)} to ${showNumber(loss.last)}.`;
    },
  },
  {
    id: "eval-loss-rises",
    title: "The held-out loss rises while the training loss falls",
    when: "When the last evaluation is 5 % above the best one and the training loss went on falling: noise of one evaluation is smaller.",
    advice: "Stop at the best evaluation: load_best_model_at_end, early_stopping_patience, or fewer num_train_epochs.",
    look(run) {
      const held = values(run.evals, "eval_loss");
      const loss = among(SUPERVISED, run) ? course(run.steps, "loss") : null;
      if (!loss || held.length < 3) return null;
      const [best, last] = [Math.min(...held), held[held.length - 1]];
      if (last <= best + 0.05 * Math.abs(best) || loss.last >= loss.first) return null;
      return `eval_loss was ${showNumber(best)} at best and is ${showNumber(last)}, while the training loss fell to ${showNumber(loss.last)}.`;
    },
  },
  {
    id: "loss-flat",
    title: "The loss stays where it was",
    when: "When 30 steps changed it by less than 1 %: learning shows sooner where there is something to learn.",
    advice:
      "Raise learning_rate (adapters want ten times what whole models do), and see whether the labels say anything.",
    look(run) {
      const loss = among(SUPERVISED, run) ? course(run.steps, "loss", 30) : null;
      if (!loss || Math.abs(loss.last - loss.first) >= 0.01 * Math.abs(loss.first)) return null;
      return `The loss was ${showNumber(loss.first)} and is ${showNumber(loss.last)} after ${loss.count} steps.`;
    },
  },
  {
    id: "loss-memorised",
    title: "The examples are known by heart",
    when: "Below 0.05 nats a token at the end of fine-tuning: no text that is new is that certain.",
    advice: "Fewer num_train_epochs or more data; look for rows that are there many times.",
    look(run) {
      const loss = run.verb === "sft" ? course(run.steps, "loss", 10) : null;
      return loss && loss.last < 0.05 ? `The training loss is ${showNumber(loss.last)} nats per token.` : null;
    },
  },
  {
    id: "reward-at-chance",
    title: "The model ranks pairs no better than chance",
    when: "Between 45 and 55 % on held-out pairs (or, without any, in training) after 20 steps: on 100 pairs chance itself is within 10 %.",
    advice:
      "Look at a few pairs: are chosen and rejected different, and is the better one chosen? Then raise learning_rate.",
    look(run) {
      if (!among([...REWARD, ...PREFERENCE], run) || run.steps.length < 20) return null;
      const { held, trained } = accuracies(run);
      const right = held ?? trained?.last;
      if (right === undefined || right <= 0.45 || right >= 0.55) return null;
      return `${percent(right)} of the ${held === undefined ? "training" : "held-out"} pairs are ranked rightly.`;
    },
  },
  {
    id: "reward-upside-down",
    title: "The model prefers the rejected answers",
    when: "Below 40 % of held-out pairs: worse than chance is no bad luck.",
    advice: "Chosen and rejected may be swapped in one of the datasets.",
    look(run) {
      if (!among([...REWARD, ...PREFERENCE], run) || run.steps.length < 10) return null;
      const { held } = accuracies(run);
      return held !== undefined && held <= 0.4
        ? `Only ${percent(held)} of the held-out pairs are ranked rightly.`
        : null;
    },
  },
  {
    id: "reward-overfit",
    title: "The model knows its training pairs, and no others",
    when: "When training pairs are right in 95 % and held-out ones 20 points below.",
    advice: "One epoch is usual; take more pairs, a lower learning_rate, or an adapter.",
    look(run) {
      if (!among([...REWARD, ...PREFERENCE], run)) return null;
      const { held, trained } = accuracies(run);
      if (held === undefined || !trained || trained.last < 0.95 || held > trained.last - 0.2) return null;
      return `${percent(trained.last)} of the training pairs are ranked rightly, and ${percent(held)} of the held-out ones.`;
    },
  },
  {
    id: "reward-drifts",
    title: "Scores drift from zero",
    when: "When the mean score is further than 10 from zero and five times the margin: only differences are learned, and a mean that runs away costs precision.",
    advice: "center_rewards_coefficient 0.01 holds the mean.",
    look({ steps }) {
      const [score, margin] = [course(steps, "mean_reward", 10), course(steps, "margin", 10)];
      if (!score || !margin || Math.abs(score.last) <= Math.max(10, 5 * Math.abs(margin.last))) return null;
      return `The mean score is ${showNumber(score.last)} with a margin of ${showNumber(margin.last)}.`;
    },
  },
  {
    id: "reward-likes-length",
    title: "The score follows the length",
    when: "From a correlation of 0.6 on: then length alone explains a third of the scores.",
    advice: "Compare with always preferring the longer answer; balance the pairs' lengths.",
    look({ steps, evals }) {
      const r = course(steps, "length_correlation", 10)?.last ?? values(evals, "eval_length_correlation").at(-1);
      return r !== undefined && Math.abs(r) >= 0.6 ? `Score and length correlate with r = ${showNumber(r, 2)}.` : null;
    },
  },
  {
    id: "chosen-falls",
    title: "The chosen answers become less likely",
    when: "When their log-probability fell by a tenth and by 5 nats: the loss only asks that the rejected ones fall faster.",
    advice:
      "A higher beta, a lower learning_rate, rpo_alpha (the chosen answers' own loss beside it), or fine-tuning on them first.",
    look(run) {
      const chosen = among(PREFERENCE, run) ? course(run.steps, "logps/chosen", 10) : null;
      if (!chosen) return null;
      const fall = chosen.first - chosen.last;
      if (fall <= 5 || fall <= 0.1 * Math.abs(chosen.first)) return null;
      return `logps/chosen fell from ${showNumber(chosen.first)} to ${showNumber(chosen.last)}.`;
    },
  },
  {
    id: "margins-saturate",
    title: "Margins are saturated",
    when: "When 99 % of the training pairs are right at a loss below 0.05: what is left to learn is to be certain.",
    advice:
      "Stop earlier, raise beta, or use the loss ipo, whose margins have an end; label_smoothing where labels are noisy.",
    look(run) {
      if (!among(PREFERENCE, run)) return null;
      const [right, loss] = [course(run.steps, "rewards/accuracies", 10), course(run.steps, "loss", 10)];
      if (!right || !loss || right.last < 0.99 || loss.last >= 0.05) return null;
      return `${percent(right.last)} of the training pairs are right, at a loss of ${showNumber(loss.last)}.`;
    },
  },
];
