import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { diagnose, diagnoses, type Evidence, type SeenResponse } from "webrlhf/report";

type Numbers = Record<string, number>;
type Kept = { verb: string; settings: object; metrics: Numbers[]; rollouts: SeenResponse[]; seconds: number[] };

const healthy = JSON.parse(await readFile("test/fixtures/healthy-runs.json", "utf8")) as Record<string, Kept>;

const evidenceOf = ({ verb, settings, metrics, rollouts, seconds }: Kept): Evidence => ({
  verb,
  settings: settings as Record<string, unknown>,
  steps: metrics.filter((row) => "tokens" in row),
  evals: metrics.filter((row) => !("tokens" in row)),
  rollouts,
  seconds,
});

/** A healthy run, changed. */
const like = (name: string, change: (run: Evidence) => Partial<Evidence>): Evidence => {
  const run = evidenceOf(healthy[name]);
  return { ...run, ...change(run) };
};

/** So many steps with numbers by step, from 1. */
const steps = (count: number, of: (step: number) => Numbers) =>
  Array.from({ length: count }, (_, i) => ({ step: i + 1, epoch: 1, tokens: 1, ...of(i + 1) }));

/** A run of nothing but these steps. */
const bare = (verb: string, count: number, of: (step: number) => Numbers, evals: Numbers[] = []): Evidence => ({
  ...{ verb, settings: {}, steps: steps(count, of), evals },
});

/** Noise that is the same every time. */
const noise = (step: number) => Math.sin(12.9898 * step);

/** Responses of one step, each changed. */
const shown = (count: number, of: (i: number) => Partial<SeenResponse>): Evidence => ({
  ...bare("grpo", 12, () => ({})),
  rollouts: Array.from({ length: count }, (_, i) => ({
    ...{ step: 12, prompt: `prompt ${i}`, response: `response ${i}`, ended: true, score: i },
    ...of(i),
  })),
});

/** For each diagnosis a run with its fault. */
const faults: Record<string, Evidence> = {
  "not-finite": like("sft", ({ steps }) => ({ steps: [...steps.slice(0, -1), { ...steps.at(-1), loss: Number.NaN }] })),
  "skipped-steps": like("sft", ({ steps }) => ({
    steps: steps.map((row, i) => ({ ...row, skipped_steps: i % 3 ? 0 : 1 })),
  })),
  "loss-scale": like("sft", ({ steps }) => ({ steps: steps.map((row, i) => ({ ...row, loss_scale: 2 ** (10 - i) })) })),
  "gradient-spike": like("sft", ({ steps }) => ({
    steps: steps.map((row, i) => ({ ...row, grad_norm: Number(row.grad_norm) * (i === 7 ? 100 : 1) })),
  })),
  "always-clipped": like("sft", ({ steps }) => ({
    settings: { max_grad_norm: 1 },
    steps: steps.map((row) => ({ ...row, grad_norm: 50 + Number(row.grad_norm) })),
  })),
  "no-gradient": bare("grpo", 12, (n) => ({ grad_norm: n % 3 ? 0 : 1 })),
  "no-rate": bare("sft", 12, (n) => ({ learning_rate: n > 9 ? 1e-4 : 0 })),
  slower: { ...bare("ppo", 20, () => ({})), seconds: Array.from({ length: 20 }, (_, i) => 1 + i) },
  "loss-rises": bare("sft", 12, (n) => ({ loss: 2 + 0.2 * n })),
  "eval-loss-rises": bare("sft", 12, (n) => ({ loss: 2 - 0.1 * n }), [
    { step: 4, eval_loss: 2 },
    { step: 8, eval_loss: 1.8 },
    { step: 12, eval_loss: 2.1 },
  ]),
  "loss-flat": bare("dpo", 40, (n) => ({ loss: 0.69 + 1e-4 * noise(n) })),
  "loss-memorised": bare("sft", 40, (n) => ({ loss: 2 / n ** 2 })),
  "reward-at-chance": bare("reward", 30, (n) => ({ accuracy: 0.5 + 0.1 * noise(n) }), [
    { step: 30, eval_accuracy: 0.51 },
  ]),
  "reward-upside-down": bare("reward", 30, () => ({ accuracy: 0.6 }), [{ step: 30, eval_accuracy: 0.3 }]),
  "reward-overfit": bare("reward", 30, (n) => ({ accuracy: Math.min(1, 0.5 + n / 30) }), [
    { step: 30, eval_accuracy: 0.62 },
  ]),
  "reward-drifts": bare("reward", 30, (n) => ({ mean_reward: n, margin: 1 })),
  "reward-likes-length": bare("reward", 30, () => ({ length_correlation: 0.9 })),
  "chosen-falls": bare("dpo", 30, (n) => ({ "logps/chosen": -40 - n, "logps/rejected": -40 - 3 * n })),
  "margins-saturate": bare("dpo", 30, (n) => ({ loss: 0.6 / n ** 2, "rewards/accuracies": n > 5 ? 1 : 0.6 })),
  "kl-negative": bare("grpo", 12, (n) => ({ kl_per_token: -0.01 * n })),
  "kl-explodes": bare("ppo", 12, (n) => ({ kl_per_token: 0.2 * n })),
  "kl-zero": bare("ppo", 12, (n) => ({ kl_per_token: 1e-9 * n, learning_rate: 1e-9 })),
  "kl-coef-runs": bare("ppo", 12, (n) => ({ kl_coef: 0.1 * 1.5 ** n })),
  "penalty-eats-reward": bare("ppo", 20, (n) => ({ reward: n / 10, reward_with_kl_penalty: -n / 5 })),
  "clip-fraction": bare("ppo", 12, (n) => ({ bound_fraction: 0.05 * n })),
  "first-ratio": bare("ppo", 12, () => ({ first_ratio: 1.2 })),
  "entropy-collapse": like("grpo", ({ steps }) => ({
    steps: steps.map((row, i) => ({ ...row, entropy: Number(row.entropy) * 0.6 ** i })),
  })),
  "entropy-rises": bare("grpo", 12, (n) => ({ entropy: 0.5 * n })),
  "reward-falls": bare("ppo", 20, (n) => ({ reward: -n / 10 + 0.05 * noise(n) })),
  "reward-flat": bare("ppo", 40, (n) => ({ reward: n % 2 })),
  "reward-with-length": bare("ppo", 20, (n) => ({ reward: n + noise(n), mean_length: 20 + 2 * n })),
  "over-optimised": bare("ppo", 30, (n) => ({ reward: n, gold: 10 - (n - 10) ** 2 / 40 })),
  "prompts-by-heart": bare("ppo", 20, (n) => ({ reward: n / 10 + 0.05 * noise(n) }), [
    { step: 0, eval_reward: 0.5 },
    { step: 20, eval_reward: 0.2 },
  ]),
  "value-clip": bare("ppo", 12, () => ({ value_clip_fraction: 0.7 })),
  "value-explains-nothing": like("ppo", ({ steps: own, rollouts = [] }) => ({
    steps: Array.from({ length: 60 }, (_, i) => own[i % own.length]),
    rollouts: rollouts.map((row) => ({ ...row, values: row.values?.map((_, t) => 100 * noise(t)) ?? [] })),
  })),
  "groups-without-variance": bare("grpo", 12, (n) => ({ frac_reward_zero_std: Math.min(1, n / 12) })),
  "never-ends": bare("grpo", 12, () => ({ eos_rate: 0 })),
  truncated: bare("grpo", 12, (n) => ({ eos_rate: 1 - 0.06 * n })),
  "ends-at-once": bare("ppo", 12, (n) => ({ mean_length: 30 / n })),
  repetitive: bare("ppo", 12, (n) => ({ distinct_2: 0.8 / n })),
  "one-answer": shown(8, (i) => (i > 1 ? { response: "yes" } : {})),
  "one-score": shown(8, () => ({ score: 0.25 })),
  "same-samples": shown(8, (i) => ({ prompt: `prompt ${i >> 2}`, response: `response ${i >> 2}` })),
  "kl-in-few-tokens": shown(8, () => ({ kl: [...Array<number>(11).fill(0.01), 5] })),
};

describe("diagnoses", () => {
  it.each(diagnoses.map(({ id }) => id))("%s shows in a run that has it", (id) => {
    expect(diagnose(faults[id]).map((finding) => finding.id)).toContain(id);
  });

  it.each(Object.keys(healthy))("say nothing of the healthy run %s", (name) => {
    expect(diagnose(evidenceOf(healthy[name]))).toEqual([]);
  });

  it("are silent on what was not logged, and on three steps", () => {
    for (const verb of ["sft", "reward", "dpo", "ppo", "grpo", "unheard-of", null]) {
      expect(diagnose({ verb, settings: {}, steps: [], evals: [] })).toEqual([]);
      const some = { loss: 1, kl: 0.1, kl_per_token: 0.01, reward: 1, eos_rate: 1, entropy: 1, mean_length: 9 };
      const run = { steps: steps(3, () => some), evals: [], rollouts: [], seconds: [1, 2, 3] };
      expect(diagnose({ verb, settings: {}, ...run })).toEqual([]);
    }
  });

  it("have ids of their own, and their words in the page that findings name", async () => {
    expect(new Set(diagnoses.map(({ id }) => id)).size).toBe(diagnoses.length);
    const page = await readFile("docs/diagnoses.md", "utf8");
    for (const { id, title, when, advice } of diagnoses) {
      expect(page).toContain(`## ${id}\n`);
      for (const words of [title, when, advice]) expect(page).toContain(words);
    }
    expect(diagnose(faults["never-ends"])[0]).toMatchObject({ page: "docs/diagnoses.md#never-ends" });
  });

  it("say what they saw in the run's own numbers", () => {
    const text = (id: string) => diagnose(faults[id]).find((finding) => finding.id === id)?.text;
    expect(text("reward-with-length")).toMatch(/^The reward rises with the length: r = 0\.99, 25 to 57 tokens\.$/);
    expect(text("clip-fraction")).toBe("55 % of the tokens are clipped (bound_fraction).");
    expect(text("not-finite")).toBe("loss is not a number at step 32.");
    expect(text("truncated")).toBe("66 % of the responses are cut off at the longest length.");
  });
});
