/** All numbers of one token with the formulas that made them, filled in. */
import { showNumber } from "webrlhf/report";
import type { Text } from "../../lib/language.ts";
import type { OpenedRow } from "./opened.ts";
import { percent } from "./stations.ts";

/** The clip of the probability ratio in this lesson. */
export const CLIP = 0.2;

export interface Line {
  id: string;
  name: Text;
  /** "log p − log p_ref = −1.47 − (−1.62)" */
  formula: string;
  /** What comes out of it. */
  value: number;
  /** Besides the number: what follows from it. */
  note?: Text;
}

/** Numbers as they stand in formulas: negative ones in brackets. */
const inside = (value: number): string => (value < 0 ? `(${show(value)})` : show(value));
const show = (value: number): string => showNumber(value, 3);

/** What is known of the token at place `t` of a response, in the order in which it was made. */
export function linesOf(row: OpenedRow, t: number, knobs: { lam: number; klCoef: number }): Line[] {
  const { lam, klCoef } = knobs;
  const lines: Line[] = [];
  const add = (id: string, name: Text, formula: string, value: number, note?: Text) =>
    lines.push({ id, name, formula, value, ...(note && { note }) });

  const logProb = row.logProbs[t];
  const probability = Math.exp(logProb);
  add("sample", names.sample, `p = exp(${show(logProb)}) = ${percent(probability)}`, probability);
  const reference = row.refLogProbs?.[t];
  const kl = row.kl?.[t];
  if (reference !== undefined && kl !== undefined) {
    const likely = Math.exp(reference);
    add("reference", names.reference, `p_ref = exp(${show(reference)}) = ${percent(likely)}`, likely);
    add("kl", names.kl, `k = log p − log p_ref = ${show(logProb)} − ${inside(reference)}`, kl);
  }
  const last = t === row.ids.length - 1;
  if (row.rewards && kl !== undefined && row.finalScore !== undefined) {
    const penalty = `${show(klCoef)} × ${inside(kl)}`;
    const formula = last ? `r = score − β·k = ${show(row.finalScore)} − ${penalty}` : `r = −β·k = −${penalty}`;
    add("reward", names.reward, formula, row.rewards[t]);
  }
  if (row.values && row.advantages && row.returns && row.rewards) {
    const { values, advantages, returns, rewards } = row;
    const next = last ? 0 : values[t + 1];
    const after = last ? 0 : advantages[t + 1];
    const surprise = rewards[t] + next - values[t];
    add("value", names.value, "V", values[t]);
    add(
      "surprise",
      names.surprise,
      `δ = r + V′ − V = ${show(rewards[t])} + ${inside(next)} − ${inside(values[t])}`,
      surprise,
    );
    add(
      "advantage",
      names.advantage,
      `A = δ + λ·A′ = ${show(surprise)} + ${show(lam)} × ${inside(after)}`,
      advantages[t],
    );
    add("return", names.return, `R = A + V = ${show(advantages[t])} + ${inside(values[t])}`, returns[t]);
  }
  for (const [i, { ratios, clipped }] of row.updates.entries()) {
    const now = probability * ratios[t];
    const formula = `ρ = p_new / p = ${percent(now)} / ${percent(probability)}`;
    add(`policy-${i + 1}`, names.policy(i + 1), formula, ratios[t], clipped[t] ? names.clipped : undefined);
  }
  for (const [i, { values }] of row.valueUpdates.entries()) {
    add(`critic-${i + 1}`, names.critic(i + 1), `V → R = ${show(row.returns?.[t] ?? Number.NaN)}`, values[t]);
  }
  return lines;
}

const names = {
  sample: { en: "sampled with probability", zh: "被采样的概率" },
  reference: { en: "probability under the reference", zh: "参考模型下的概率" },
  kl: { en: "KL of this token", zh: "该词元的 KL" },
  reward: { en: "reward", zh: "奖励" },
  value: { en: "value: what the critic expects from here", zh: "价值:评论家从此处起的预期" },
  surprise: { en: "surprise: how the expectation changed here", zh: "意外:预期在此处的变化" },
  advantage: { en: "advantage", zh: "优势" },
  return: { en: "return: what the value is to become", zh: "回报:价值应当变成的值" },
  policy: (i: number): Text => ({ en: `ratio after update ${i}`, zh: `第 ${i} 次更新后的比值` }),
  critic: (i: number): Text => ({ en: `value after the critic's update ${i}`, zh: `评论家第 ${i} 次更新后的价值` }),
  clipped: {
    en: `clipped: already beyond ${1 - CLIP} or ${1 + CLIP} the way it was asked to go, no gradient`,
    zh: `被裁剪:已朝要求的方向越过 ${1 - CLIP} 或 ${1 + CLIP},没有梯度`,
  },
};
