/** What reward and cost models can be trained with besides the plain loss. */
import { beforeAll, describe, expect, it } from "vitest";
import { type Files, memoryFiles, openDevice } from "webrlhf";
import { preferenceExample } from "webrlhf/data";
import {
  convertModel,
  loadScoreModel,
  mergeAdapter,
  openAdapter,
  readAdapterFolder,
  ScoreModel,
  type Scoring,
} from "webrlhf/nn";
import { openDataset } from "webrlhf/open";
import {
  differing,
  normalize,
  type RewardData,
  reward,
  scorePairs,
  scoreSequences,
  type TrainEvent,
  trainCost,
  trainReward,
} from "webrlhf/rlhf";
import { ODIN_LABELS, plainScoring, readScoring } from "../../../src/nn/scoring.ts";
import { trainedFiles } from "../../../src/nn/trained.ts";
import { alignedPairs } from "../../../src/rlhf/pairs.ts";
import { collect, metricsOf, pairs, sequences, tinyConfig, tokenizer } from "../tiny.ts";

beforeAll(() => openDevice());

const odin = (): { scoring: Scoring } => ({ scoring: plainScoring(ODIN_LABELS) });
const fresh = (head: { scoring?: Scoring; bias?: boolean } = {}, seed = 1) =>
  new ScoreModel(tinyConfig(), "scorer", "float32", head).initialize(seed);
const costModel = () => fresh({ scoring: { ...plainScoring(), type: "cost" } });
const safePairs = (n: number) =>
  pairs(n).map((pair, i) => ({ ...pair, safety: { chosen: true, rejected: i % 3 === 0 } }));
const base = { maxSteps: 12, perDeviceTrainBatchSize: 24, learningRate: 1e-2 };
const running = { normalizerType: "RunningMeanStd" } as const;
type Chosen = Parameters<typeof reward>[0];

const run = async (model: ScoreModel, options: Chosen = {}, data: RewardData = pairs(48)) => {
  const events = await collect(trainReward({ model }, data, { ...base, ...options }));
  return { metrics: metricsOf(events), end: (events.at(-1) as TrainEvent & { type: "end" }).metrics };
};

describe("training", () => {
  it("learns token by token", async () => {
    const { metrics, end } = await run(fresh(), { lossType: "token-wise" }, { train: pairs(48), eval: pairs(48) });
    expect(metrics[0].loss).toBeCloseTo(Math.LN2, 1);
    expect(end.loss).toBeLessThan(metrics[0].loss - 0.02);
    expect(end.eval_accuracy).toBeGreaterThan(0.55);
  });

  it("learns from margins: wanting more leaves more to learn", async () => {
    const wide = pairs(48).map((pair) => ({ ...pair, margin: 2 }));
    const model = fresh();
    model.score.value.write(new Float32Array(model.score.size));
    const { metrics } = await run(model, {}, wide);
    expect(metrics[0].loss).toBeCloseTo(Math.log1p(Math.exp(2)), 4);
    expect(metrics.at(-1)?.loss).toBeLessThan(metrics[0].loss);
  });

  it("takes the length out of ODIN's reward", async () => {
    const train = pairs(48);
    const lossType = "odin";
    const plain = await run(fresh(odin()), { lossType, odinLengthCoef: 0, maxSteps: 16 }, train);
    const apart = await run(fresh(odin()), { lossType, odinLengthCoef: 1, maxSteps: 16 }, train);
    const last = (all: Record<string, number>[]) => Math.abs(all.at(-1)?.length_correlation as number);
    expect(last(apart.metrics)).toBeLessThan(0.3);
    expect(last(apart.metrics)).toBeLessThan(last(plain.metrics));
  });

  it("teaches a cost model order and sign", async () => {
    const train = safePairs(48);
    const model = fresh();
    const data = { train, eval: train };
    const events = await collect(trainCost({ model }, data, { ...base, regularizationOver: "sum", maxSteps: 20 }));
    const { metrics: end } = events.at(-1) as TrainEvent & { type: "end" };
    expect(model.scoring.type).toBe("cost");
    expect(end.eval_accuracy_sign).toBeGreaterThan(0.6);
    expect(Object.keys(end)).toContain("eval_cost_mean");
  });

  it("reports what it thinks of the batch, before the step", async () => {
    const model = fresh();
    const train = pairs(8);
    const { chosen, rejected } = await scorePairs(model, train);
    const [metrics] = (await run(model, { perDeviceTrainBatchSize: 8, maxSteps: 1 }, train)).metrics;
    const differences = chosen.map((c, i) => c - rejected[i]);
    const all = [...chosen, ...rejected];
    const mean = (values: readonly number[]) => values.reduce((a, b) => a + b) / values.length;
    expect(metrics.margin).toBeCloseTo(mean(differences), 5);
    expect(metrics.accuracy).toBe(differences.filter((d) => d > 0).length / 8);
    expect(metrics.mean_reward).toBeCloseTo(mean(all), 5);
    expect(metrics.min_reward).toBeCloseTo(Math.min(...all), 5);
    expect(metrics.max_reward).toBeCloseTo(Math.max(...all), 5);
    expect(metrics.loss).toBeCloseTo(mean(differences.map((d) => Math.log1p(Math.exp(-d)))), 5);
  });

  it("keeps statistics of the scores that are those of all steps", async () => {
    const model = fresh();
    const train = pairs(8);
    await run(model, { ...running, learningRate: 0, perDeviceTrainBatchSize: 8, maxSteps: 3 }, train);
    const both = train.flatMap((p) => [p.chosen, p.rejected]).map((ids) => ({ ids, promptLength: 1 }));
    const scores = [...(await scoreSequences(model, both))];
    const mean = scores.reduce((a, b) => a + b) / scores.length;
    const found = model.scoring.normalizer;
    expect(found?.count).toBe(48);
    expect(found?.mean).toBeCloseTo(mean, 5);
    const squares = scores.reduce((a, s) => a + (s - mean) ** 2, 0);
    // Three batches of the same scores: each brings its unbiased variance.
    expect(found?.variance).toBeCloseTo(squares / 15, 6);
  });

  it("leaves them alone while nothing is normalised, as PaddleNLP", async () => {
    const model = fresh();
    await run(model, { ...running, normalizerUpdates: "normalizing", maxSteps: 2 });
    expect(model.scoring.normalizer).toMatchObject({ mean: 0, variance: 1, count: 0 });
  });

  it("gives normalised scores", async () => {
    const model = fresh();
    await run(model, { ...running, normalizeScoreDuringTraining: true, maxSteps: 4 });
    const some = sequences(4);
    const normalised = await scoreSequences(model, some);
    const { normalizer } = model.scoring;
    model.scoring.doNormalize = false;
    const raw = [...(await scoreSequences(model, some))];
    if (!normalizer) throw new Error("no statistics");
    expect(normalizer.count).toBe(4 * 48);
    raw.forEach((score, i) => {
      expect(normalised[i]).toBeCloseTo(normalize(normalizer, score), 4);
    });
  });

  it("refuses what does not go together", async () => {
    const tokenWise = { lossType: "token-wise" } as const;
    await expect(run(fresh(odin()), tokenWise)).rejects.toThrow(/token-wise loss is for reward models with one output/);
    await expect(run(fresh(odin()), { ...running, lossType: "odin" })).rejects.toThrow(
      /kept for models with one output/,
    );
    await expect(run(fresh(odin()))).rejects.toThrow(/a head for the length .* train it with lossType odin/);
    await expect(run(fresh(), { lossType: "odin" })).rejects.toThrow(
      /odin is for models with the outputs length, quality/,
    );
    await expect(collect(trainCost({ model: fresh() }, pairs(4)))).rejects.toThrow(
      /pair 1 does not say which of its answers are safe/,
    );
    await expect(collect(trainCost({ model: fresh(odin()) }, safePairs(4)))).rejects.toThrow(
      /cost model has one output/,
    );
    await expect(run(fresh(), { normalizeScoreDuringTraining: true })).rejects.toThrow(
      /need statistics: choose them with normalizerType/,
    );
    expect(() => reward({ ...tokenWise, truncationSide: "left" })).toThrow(
      /lossType token-wise .* truncationSide left does not go with it/,
    );
    const three = fresh({ scoring: plainScoring(["a", "b", "c"]) });
    await expect(run(three)).rejects.toThrow(/outputs a, b, c is not trained on pairs/);
  });
});

describe("a dataset", () => {
  const row = { prompt: "Today Tim the cat", chosen: " Tim ran.", rejected: " Mia sat." };
  const opened = () => {
    const model = fresh();
    model.tokenizer = tokenizer;
    return { model };
  };

  it("gives pairs by the model's tokenizer, without those that are equal once they are cut", async () => {
    const maxLength = tokenizer.encode(row.prompt).length + 1;
    const data = openDataset([row, { ...row, rejected: " Tim sat down." }, row]);
    const events = await collect(trainReward(opened(), data, { maxLength, truncationSide: "right", maxSteps: 1 }));
    const text = "1 of 3 pairs left out: both answers have the same tokens";
    expect(events.slice(0, 2)).toMatchObject([{ type: "note", step: 0, text }, { type: "start" }]);
    expect(metricsOf(events)).toHaveLength(1);
  });

  it("without labels is none for a cost model, which names the row", async () => {
    await expect(collect(trainCost(opened(), openDataset([row])))).rejects.toThrow(
      /rows, row 1: it does not say which of its answers are safe: the columns "chosen_is_safe"/,
    );
  });
});

describe("the token-wise batch", () => {
  it("pads the shorter answer to the longer one's length", () => {
    const pair = { chosen: Uint32Array.of(5, 6, 7), rejected: Uint32Array.of(5, 9, 8, 2), promptLength: 1 };
    const { sequences: made, spans } = alignedPairs([pair], 0);
    expect(spans).toEqual([{ first: 1, end: 4 }]);
    expect([...made[0].ids]).toEqual([5, 6, 7, 0]);
    expect(made.map((s) => s.pads)).toEqual([1, 0]);
  });

  it("scores padded sequences as if they had no padding", async () => {
    const model = fresh();
    const plain = pairs(6)
      .flatMap((p) => [p.chosen, p.rejected])
      .map((ids) => ({ ids, promptLength: 1 }));
    const padded = plain.map((s, i) => ({ ...s, ids: Uint32Array.from([...s.ids, ...new Array(i).fill(7)]), pads: i }));
    const [a, b] = [await scoreSequences(model, plain), await scoreSequences(model, padded)];
    a.forEach((score, i) => {
      expect(b[i]).toBeCloseTo(score, 5);
    });
  });

  it("leaves out pairs whose cut answers are the same", () => {
    const record = {
      kind: "preference",
      prompt: "one two three",
      chosen: " four five six",
      rejected: " four five",
    } as const;
    const short = preferenceExample(record, tokenizer, { maxLength: 11 });
    const long = preferenceExample(record, tokenizer, { maxLength: 40 });
    expect(short.chosen).toEqual(short.rejected);
    expect(differing([short, long])).toEqual([long]);
  });
});

describe("left truncation", () => {
  const record = {
    kind: "preference",
    prompt: "alpha beta gamma delta",
    chosen: " yes it is so",
    rejected: " no",
  } as const;
  const whole = preferenceExample(record, tokenizer, { maxLength: 64 });

  it("keeps the end of each answer", () => {
    const cut = preferenceExample(record, tokenizer, { maxLength: whole.promptLength, truncationSide: "left" });
    expect([...cut.chosen]).toEqual([...whole.chosen.slice(-whole.promptLength)]);
    expect([...cut.rejected]).toEqual([...whole.rejected.slice(-whole.promptLength)]);
    expect(cut.promptLength).toBe(whole.promptLength - (whole.chosen.length - whole.promptLength));
    expect(cut.rejectedPromptLength).toBe(whole.promptLength - (whole.rejected.length - whole.promptLength));
  });

  it("keeps the token that begins every text", () => {
    const begun = Object.create(tokenizer, { prefixIds: { value: [3] } }) as typeof tokenizer;
    const all = preferenceExample(record, begun, { maxLength: 64 });
    expect([...all.chosen]).toEqual([3, ...whole.chosen]);
    for (const maxLength of [all.chosen.length - 1, 6, 3]) {
      const cut = preferenceExample(record, begun, { maxLength, truncationSide: "left" });
      expect([...cut.chosen]).toEqual([3, ...whole.chosen.slice(1 - maxLength)]);
    }
  });

  it("leaves alone what fits, and cuts into the answer where it must", () => {
    expect(preferenceExample(record, tokenizer, { maxLength: 64, truncationSide: "left" })).toEqual(whole);
    const two = preferenceExample(record, tokenizer, { maxLength: 2, truncationSide: "left" });
    expect([...two.chosen]).toEqual([...whole.chosen.slice(-2)]);
    expect(two.promptLength).toBe(0);
  });
});

const variants: [string, () => ScoreModel, Chosen, typeof trainReward | typeof trainCost][] = [
  ["token-wise", () => fresh(), { lossType: "token-wise", regularization: 0.01 }, trainReward],
  ["ODIN", () => fresh(odin()), { lossType: "odin" }, trainReward],
  ["cost with statistics", costModel, { normalizerType: "ExponentialMovingAverage" }, trainCost],
  [
    "normalised, with a bias",
    () => fresh({ bias: true }),
    { ...running, normalizeScoreDuringTraining: true },
    trainReward,
  ],
];

describe("resume", () => {
  it.each(variants)("%s: stopped, the same files bit for bit", async (name, build, own, train) => {
    const stops = /normalised/.test(name) ? [1, 2, 3, 4, 6, 7, 8, 9, 10, 11] : [3, 7];
    const options = { ...base, perDeviceTrainBatchSize: 4, saveSteps: 5, ...own };
    const contents = async (at: readonly number[]) => {
      const files = memoryFiles();
      const runs = [...at, null].map((stop, i) => async () => {
        const { scoring, scoreBias } = build();
        // Whatever a resumed run's model starts from does not count.
        const model = i === 0 ? build() : fresh({ scoring, bias: scoreBias !== null }, 90 + i);
        const controller = new AbortController();
        const run = { folder: { files, path: "run" }, resume: i > 0, signal: controller.signal };
        const trainer = train({ model }, safePairs(12), options, run);
        for await (const event of trainer) if (event.type === "step" && event.step === stop) controller.abort();
        model.destroy();
      });
      for (const run of runs) await run();
      return Promise.all(["model.safetensors", "config.json"].map((name) => files.read(`run/${name}`)));
    };
    const whole = await contents([]);
    expect(whole.every((content) => content !== null)).toBe(true);
    expect(await contents(stops)).toEqual(whole);
  });
});

describe("saved scorers", () => {
  const saved = async (model: ScoreModel, files: Files): Promise<ScoreModel> => {
    await files.writeFolder("m", await trainedFiles(model));
    return loadScoreModel(files, "m");
  };

  it("come back with bias, outputs and statistics", async () => {
    const model = fresh({ ...odin(), bias: true });
    model.scoring.normalizer = {
      kind: "ExponentialMovingAverage",
      momentum: 0.75,
      mean: -0.5,
      variance: 2.25,
      count: 7,
    };
    model.scoreBias?.value.write(Float32Array.of(0.25, -3));
    const back = await saved(model, memoryFiles());
    expect(back.scoring).toEqual(model.scoring);
    const some = sequences(3);
    expect(await scoreSequences(back, some)).toEqual(await scoreSequences(model, some));
    model.scoreBias?.value.write(Float32Array.of(0.25, 0));
    const without = await scoreSequences(model, some);
    (await scoreSequences(back, some)).forEach((score, i) => {
      expect(score).toBeCloseTo(without[i] - 3, 5);
    });
  });

  it("come back as adapters", async () => {
    const files = memoryFiles();
    const stand = fresh();
    const model = new ScoreModel({ base: stand, lora: { rank: 2, alpha: 4 } }, "adapter", "float32", {
      ...odin(),
      bias: true,
    }).initialize(3);
    model.scoreBias?.value.write(Float32Array.of(1, 2));
    await files.writeFolder("a", await trainedFiles(model));
    const folder = await readAdapterFolder(files, "a");
    if (!folder) throw new Error("no adapter");
    const back = await openAdapter(files, folder, stand, "score");
    expect(back.scoring).toEqual(model.scoring);
    const some = sequences(3);
    expect(await scoreSequences(back, some)).toEqual(await scoreSequences(model, some));
  });

  it("stay what they are when they are converted or merged", async () => {
    const files = memoryFiles();
    const some = sequences(3);
    const model = fresh({ ...odin(), bias: true });
    model.scoreBias?.value.write(Float32Array.of(0.5, -1));
    await files.writeFolder("m", await trainedFiles(model));
    await convertModel(files, "m", "converted");
    const converted = await loadScoreModel(files, "converted");
    expect(converted.scoring).toEqual(model.scoring);
    expect(await scoreSequences(converted, some)).toEqual(await scoreSequences(model, some));

    const adapter = new ScoreModel({ base: converted, lora: { rank: 2, alpha: 4 } }, "adapter").initialize(4);
    expect(await scoreSequences(adapter, some)).toEqual(await scoreSequences(model, some));
    adapter.scoreBias?.value.write(Float32Array.of(0, 3));
    const before = await scoreSequences(adapter, some);
    const merged = mergeAdapter(adapter, converted) as ScoreModel;
    expect(await scoreSequences(merged, some)).toEqual(before);
  });

  it("say what is wrong with their fields", () => {
    const read =
      (json: Record<string, unknown>, outputs = 1) =>
      () =>
        readScoring(json, "config.json", outputs);
    expect(read({ score_type: "price" })).toThrow(
      /config.json: score_type must be one of reward, cost, critic, not "price"/,
    );
    expect(read({ normalizer_type: "RunningMeanStd", mean: "x" })).toThrow(/mean must be a number/);
    expect(read({ do_normalize: true })).toThrow(/do_normalize is set, but mean and var are missing/);
    expect(read({ mean: [0.5], var: 4, do_normalize: true })()).toMatchObject({
      normalizer: { mean: 0.5, variance: 4 },
    });
    expect(read({}, 2)().labels).toEqual(["LABEL_0", "LABEL_1"]);
  });

  it("refuse to guess which of several outputs is the score", async () => {
    const model = fresh({ scoring: plainScoring(["a", "b"]) });
    await expect(scoreSequences(model, sequences(1))).rejects.toThrow(
      /2 numbers per token \(a, b\), and none is called quality/,
    );
  });
});
