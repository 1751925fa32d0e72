/** Every number that RAFT reports, in its steps and its tables, against float64; see `ppo-metrics.test.ts`. */
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { type Response, trainRaft } from "webrlhf/rlhf";
import { gpuReady } from "../../helpers.ts";
import { collect } from "../tiny.ts";
import {
  distinct,
  evener,
  eventsOf,
  expectMetrics,
  grouped,
  languageModel,
  longer,
  mean,
  nll,
  predicted,
  prompts,
  Recorder,
  responseTokens,
  richer,
  scripted,
  share,
  sum,
  variance,
  words,
  wordTokenizer,
} from "./rollout-reference.ts";

beforeAll(gpuReady);
afterEach(() => void vi.restoreAllMocks());

const ROUNDS = 3;
const EPOCHS = 2;
const THRESHOLD = 0.5;
const sizes = {
  maxSteps: ROUNDS,
  numTrainEpochs: EPOCHS,
  perDeviceTrainBatchSize: 2,
  gradientAccumulationSteps: 2,
  responseLength: 7,
  learningRate: 0.02,
  maxGradNorm: 0.5,
  rewardWeights: [0.7, -1.2],
  monitorThreshold: THRESHOLD,
  showSamples: 2,
  showCandidates: true,
  seed: 5,
} as const;
const rewardOf = (r: Response): number => 0.7 * longer(r) - 1.2 * evener(r);

/** Takes the last of many words away. */
const shortened = (text: string): string => (words(text).length > 4 ? words(text).slice(0, -1).join(" ") : text);

/** What the reference has to know of a variant, in words of its own. */
interface Rules {
  settings: Record<string, unknown>;
  clean: boolean;
  discards: (response: Response) => boolean;
  /** Responses to a prompt. */
  samples: number;
  klBeta: number;
  /** Places of what is learned, from the scores that rank. */
  keep: (scores: number[], allowed: boolean[]) => number[];
  withPrompt: boolean;
  withEnd: boolean;
  /** Of the last of a round's optimizer steps. */
  rate: (round: number, steps: number) => number;
}

/** The place of the best among some, the first on ties. */
const best = (scores: number[], among: number[]): number => among.reduce((a, b) => (scores[b] > scores[a] ? b : a));

const variants: Record<string, Rules> = {
  "the best of each prompt": {
    settings: {
      raftBatchSize: 8,
      topRewardPercentage: 0.34,
      klBeta: 0.1,
      outputMinLength: null,
      lrSchedulerType: "linear-per-iteration",
      warmupSteps: 1,
    },
    clean: true,
    discards: (r) => responseTokens(r)[0] % 2 === 0,
    samples: 3,
    klBeta: 0.1,
    keep: (scores, allowed) =>
      scores.flatMap((_, i) => {
        if (i % 3 !== 0) return [];
        const among = [i, i + 1, i + 2].filter((at) => allowed[at]);
        return among.length > 0 ? [best(scores, among)] : [];
      }),
    withPrompt: true,
    withEnd: false,
    rate: (_, steps) => 0.02 * (1 - (steps - 2) / (steps - 1)),
  },
  "the best of all": {
    settings: {
      dialect: "corrected",
      collectionStrategy: "top",
      raftBatchSize: 5,
      topRewardPercentage: 0.5,
      outputMinLength: 3,
      inferenceBatchSizePerDevice: 2,
      lrSchedulerType: "cosine",
      warmupSteps: 2,
    },
    clean: false,
    discards: (r) => responseTokens(r)[0] % 4 === 0,
    samples: 1,
    klBeta: 0,
    keep: (scores, allowed) => {
      const left = scores.map((_, i) => i).filter((i) => allowed[i]);
      return left.sort((a, b) => scores[b] - scores[a] || b - a).slice(0, 5);
    },
    withPrompt: false,
    withEnd: true,
    rate: (round, steps) => {
      const planned = EPOCHS * 2;
      const at = (round + (steps - 1) / steps) * planned;
      return 0.02 * 0.5 * (1 + Math.cos((Math.PI * (at - 2)) / (ROUNDS * planned - 2)));
    },
  },
};

/** Runs a variant and keeps everything that the reference needs. */
async function observed({ settings, clean, discards }: Rules) {
  const policy = languageModel(1, "policy");
  const reference = languageModel(2, "reference");
  const recorder = new Recorder([policy, reference], { policy: [1] });
  const drawn: Response[][] = [];
  const judged: Response[][] = [];
  let now = 100;
  vi.spyOn(performance, "now").mockImplementation(() => now * 1000);
  const draw = scripted([6, -7, 2, 7, -3, 7, 7], () => {
    recorder.mark();
    now += 2;
  });
  const models = {
    policy,
    reference,
    tokenizer: wordTokenizer,
    rewards: {
      longer: (all: readonly Response[]) => {
        judged.push([...all]);
        return all.map(longer);
      },
      evener: (all: readonly Response[]) => all.map(evener),
    },
    gold: richer,
    sampler: async (...asked: Parameters<typeof draw>) => {
      drawn.push(await draw(...asked));
      return drawn[drawn.length - 1];
    },
    clean: (text: string) => (clean ? shortened(text) : text),
    discard: discards as (response: Response) => boolean,
  };
  try {
    const events = await collect(trainRaft(models, prompts(6), { ...sizes, ...settings }));
    const weights = await reference.store.read();
    return {
      events,
      drawn,
      judged,
      reference: weights,
      passes: recorder.rollouts("policy"),
      steps: await recorder.steps("policy"),
    };
  } finally {
    recorder.close();
  }
}

type Observed = Awaited<ReturnType<typeof observed>>;

/** log p(y|x) / p0(y|x) at temperature 1. */
function logRatio(
  own: Parameters<typeof predicted>[0],
  reference: typeof own,
  { ids, promptLength }: Response,
): number {
  const under = (weights: typeof own) => sum(predicted(weights, ids, promptLength).logProbs);
  return under(own) - under(reference);
}

/** All metrics of all rounds, and how many tokens each had. */
function recomputed({ drawn, judged, reference, passes, steps }: Observed, rules: Rules) {
  let done = 0;
  return judged.map((responses, round) => {
    const own = steps[done].weights;
    const rewards = responses.map(rewardOf);
    const allowed = responses.map((r) => !rules.discards(r));
    const ranks = rewards.map((reward, i) =>
      rules.klBeta === 0 ? reward : reward - rules.klBeta * logRatio(own, reference, responses[i]),
    );
    const kept = rules.keep(ranks, allowed);
    // Cleaned texts were not sampled; limits, however, hold for what was.
    const sampled = rules.clean ? drawn[round] : responses;
    sampled.forEach((r, i) => {
      const whole = responseTokens(drawn[round][i]);
      expect(responseTokens(r)).toEqual(whole.slice(0, responseTokens(r).length));
      expect(r.ended).toBe(drawn[round][i].ended && responseTokens(r).length === whole.length);
    });
    const texts = responses.map(({ text }) => text);
    const all = texts.flatMap(words);
    const windows = Array.from({ length: Math.floor(all.length / 100) }, (_, w) => all.slice(100 * w, 100 * (w + 1)));
    const metrics: Record<string, number> = {
      reward: mean(rewards.filter((_, i) => i % rules.samples === 0)),
      train_reward: mean(kept.map((i) => rewards[i])),
      gold: mean(responses.map(richer)),
      train_gold: mean(kept.map((i) => richer(responses[i]))),
      kl: mean(sampled.filter(({ sample }) => sample === 0).map((r) => logRatio(own, reference, r))),
      "rewards/longer": mean(responses.map(longer)),
      "rewards/evener": mean(responses.map(evener)),
      n_kept: kept.length,
      n_discarded: allowed.filter((one) => !one).length,
      mean_length: mean(responses.map((r) => responseTokens(r).length)),
      eos_rate: share(responses, (r) => responseTokens(r).at(-1) === 1),
      distinct_1: distinct(texts, 1),
      distinct_2: distinct(texts, 2),
    };
    if (windows.length > 0) metrics.msttr_100 = mean(windows.map((window) => new Set(window).size / 100));

    // What was learned: the kept responses, as the settings say, some at a time.
    const lessons = new Map(
      kept.map((i) => {
        const { ids, promptLength, ended } = responses[i];
        const learned = ended && !rules.withEnd ? ids.slice(0, -1) : ids;
        return [learned.join(), { ids: learned, promptLength: rules.withPrompt ? 1 : promptLength }] as const;
      }),
    );
    const updates = grouped(passes[round].slice(rules.klBeta === 0 ? 1 : 2)).map((ofStep) => {
      const sequences = ofStep.flatMap(({ sequences }) => sequences.flatMap((ids) => lessons.get(ids.join()) ?? []));
      expect(sequences).toHaveLength(sum(ofStep.map(({ sequences: { length } }) => length)));
      return { sequences, loss: nll(steps[ofStep[0].steps].weights, sequences) };
    });
    const learned = updates.flatMap(({ sequences }) => sequences);
    expect(learned).toHaveLength(EPOCHS * kept.length);
    expect(updates).toHaveLength(EPOCHS * Math.ceil(kept.length / 4));
    metrics.loss = mean(updates.map(({ loss }) => loss));
    metrics.learning_rate = rules.rate(round, updates.length);
    done += updates.length;
    expect(steps[done - 1].rate).toBeCloseTo(metrics.learning_rate, 12);
    metrics.grad_norm = steps[done - 1].gradNorm;
    metrics.skipped_steps = steps.slice(0, done).filter(({ gradNorm }) => !Number.isFinite(gradNorm)).length;
    return { metrics, kept, ranks, allowed, tokens: sum([...responses, ...learned].map(({ ids }) => ids.length)) };
  });
}

/** Mean of the values of those with the token less that of the others, and Welch's z; 0 with fewer than two of either. */
function compared(values: number[], has: boolean[]): { difference: number; z: number } {
  const [mine, others] = [values.filter((_, i) => has[i]), values.filter((_, i) => !has[i])];
  if (mine.length < 2 || others.length < 2) return { difference: 0, z: 0 };
  const difference = mean(mine) - mean(others);
  return { difference, z: difference / Math.sqrt(variance(mine) / mine.length + variance(others) / others.length) };
}

/** The rows of a round in the table of tokens that rose, surest first. */
function monitored(responses: Response[], first: Response[], iteration: number) {
  const share = (token: string, all: Response[]) =>
    all.filter(({ text }) => words(text).includes(token)).length / all.length;
  const relative = (of: (r: Response) => number) =>
    responses.map((r) => {
      const same = responses.filter(({ prompt }) => prompt === r.prompt);
      return same.length > 1 ? of(r) - mean(same.map(of)) : of(r);
    });
  const [rewards, golds] = [relative(rewardOf), relative(richer)];
  const rows = [...new Set(responses.flatMap(({ text }) => words(text)))].flatMap((token) => {
    const [now, then] = [share(token, responses), share(token, first)];
    if (now <= then) return [];
    const [n, m] = [responses.length, first.length];
    const pooled = (now * n + then * m) / (n + m);
    const has = responses.map(({ text }) => words(text).includes(token));
    const z = (now - then) / Math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m));
    const reward = compared(rewards, has);
    const numbers = {
      iteration,
      frequency: now,
      first_frequency: then,
      frequency_change: now - then,
      frequency_z: z,
      reward_difference: reward.difference,
      reward_z: reward.z,
      gold_difference: compared(golds, has).difference,
      flagged: Number(z > THRESHOLD && reward.z > THRESHOLD && now - then >= 0.05),
    };
    return [{ token, sure: Math.min(z, reward.z), numbers }];
  });
  return rows.sort((a, b) => b.sure - a.sure).filter(({ sure, numbers }, i) => numbers.flagged || (i < 10 && sure > 0));
}

describe("raft", () => {
  it.each(Object.keys(variants))("reports what float64 finds (%s)", async (name) => {
    const rules = variants[name];
    const run = await observed(rules);
    const expected = recomputed(run, rules);
    const steps = eventsOf(run.events, "step");
    expect(steps).toHaveLength(ROUNDS);
    const tables = eventsOf(run.events, "rows");
    const shown = eventsOf(run.events, "samples");
    steps.forEach((step, i) => {
      const { metrics, kept, tokens } = expected[i];
      expectMetrics(step.metrics, metrics, `round ${i + 1}`);
      expect(step).toMatchObject({ step: i + 1, maxSteps: ROUNDS, tokens, seconds: 2 });
      expect(step.epoch).toBeCloseTo(((i + 1) * run.judged[i].length) / rules.samples / 6, 12);
      const [row] = tables.filter(({ table, step }) => table === "raft" && step === i + 1).flatMap(({ rows }) => rows);
      const { train_reward, n_kept, n_discarded, distinct_1, distinct_2, mean_length } = metrics;
      const counted = { train_reward, n_kept, n_discarded, distinct_1, distinct_2, mean_length };
      expectMetrics(row as Record<string, number>, { iteration: i, mean_reward: metrics.reward, ...counted }, "a row");
      expect(shown[i].samples.map(({ response, reward, gold }) => ({ response, reward, gold }))).toEqual(
        kept.slice(0, 2).map((at) => {
          const response = run.judged[i][at];
          return { response: response.text, reward: expect.closeTo(rewardOf(response), 12), gold: richer(response) };
        }),
      );
    });
    run.judged.forEach((responses, i) => {
      const rows = tables
        .filter(({ table, step }) => table === "monitor" && step === i + 1)
        .flatMap(({ rows }) => rows);
      const own = monitored(responses, run.judged[0], i);
      expect(rows.map(({ token }) => token).sort()).toEqual(own.map(({ token }) => token).sort());
      for (const { token, ...row } of rows) {
        const numbers = own.find((one) => one.token === token)?.numbers ?? {};
        expectMetrics({ ...row, flagged: Number(row.flagged) } as Record<string, number>, numbers, `${token}`);
      }
    });
    expect(tables.filter(({ table }) => table === "monitor").length).toBeGreaterThan(0);
    run.judged.forEach((responses, i) => {
      const { kept, ranks, allowed } = expected[i];
      const [{ rows, ...others }, ...more] = tables.filter((t) => t.table === "candidates" && t.step === i + 1);
      expect([others, more]).toEqual([{ type: "rows", step: i + 1, table: "candidates" }, []]);
      expect(rows).toEqual(
        responses.map((r, at) => {
          // Of equal ones the first is before in a prompt's group, the last among all.
          const group = (one: Response) => rules.samples === 1 || one.prompt === r.prompt;
          const before = (other: number) =>
            ranks[other] > ranks[at] || (ranks[other] === ranks[at] && (rules.samples === 1 ? other > at : other < at));
          const better = responses.filter((one, k) => allowed[k] && group(one) && k !== at && before(k)).length;
          return {
            iteration: i,
            prompt_index: r.prompt,
            sample: r.sample,
            prompt: r.promptText,
            response: r.text,
            reward: expect.closeTo(rewardOf(r), 12),
            gold: richer(r),
            score: expect.closeTo(ranks[at], 4),
            ...(allowed[at] && { rank: better + 1 }),
            discarded: !allowed[at],
            chosen: kept.includes(at),
          };
        }),
      );
    });
    expect(eventsOf(run.events, "end")[0].metrics).toEqual(steps[ROUNDS - 1].metrics);
  });
});
