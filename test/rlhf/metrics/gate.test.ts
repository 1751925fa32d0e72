/** The metrics of a multi-objective reward model's gate, recomputed: see reference.ts. */
import { beforeAll, describe, expect, it } from "vitest";
import { dropout, noGrad, openDevice, scope, tensor } from "webrlhf";
import { MultiObjectiveHead, type PairFeatures, trainGate } from "webrlhf/rlhf";
import { normal, permutation, randomInt, streamId } from "../../../src/runtime/rng.ts";
import { follow, logSigmoid, logSoftmax, mean, sum } from "./reference.ts";

beforeAll(() => openDevice());

const WIDTH = 5;
const HIDDEN = 6;
const TEMPERATURE = 0.8;
const attributes = ["helpful", "verbose", "correct"];
const penalties = [0.3, 1, 0.15];
const VERBOSITY = 1;
const PAIRS = 13;
const BATCH = 6;
const SEED = 9;
const rate = 5e-2;

const regression = Array.from({ length: attributes.length * WIDTH }, (_, i) => normal(61, i));
/** Rows of M: what each plain reward adds to each reward without verbosity. */
const transform = attributes.flatMap((_, j) =>
  attributes.map((_, k) => Number(j === k) - (j === VERBOSITY ? penalties[k] : 0)),
);

function newHead(): MultiObjectiveHead {
  const config = {
    base_model_name_or_path: "base",
    attributes,
    verbosity_attribute: attributes[VERBOSITY],
    verbosity_penalties: penalties,
    prompt_pattern: null,
    hidden_size: WIDTH,
    gating: { hidden_size: HIDDEN, n_hidden: 2, temperature: TEMPERATURE },
    attribute_weights: null,
    regression: [],
  };
  const gate = MultiObjectiveHead.gateOf(config);
  gate?.store.initialize(4);
  gate?.logit_scale.value.write(Float32Array.of(1.3));
  return new MultiObjectiveHead(config, { regression, transform }, gate);
}

const order = [...permutation(PAIRS, SEED, streamId("multi-objective/pairs"))];
const held = order.slice(0, 4); // 0.3 of 13
const train = order.slice(4);

const drawn = (step: number): number[] =>
  Array.from(
    { length: BATCH },
    (_, i) => train[randomInt(train.length, SEED, step, i, streamId("multi-objective/batch"))],
  );

const features = (key: number) => {
  const rows = Array.from({ length: PAIRS }, (_, i) => Array.from({ length: WIDTH }, (_, j) => normal(62, key, i, j)));
  return { rows, features: { data: Float32Array.from(rows.flat()), width: WIDTH } };
};
const [chosen, rejected, prompts, others] = [0, 1, 2, 3].map(features);
/** Two pairs of equal answers, a held-out one among them: ties, as long as nothing drops out. */
for (const i of [held[1], drawn(0)[0]]) {
  rejected.rows[i] = chosen.rows[i];
  rejected.features.data.set(chosen.rows[i], i * WIDTH);
  others.rows[i] = prompts.rows[i];
  others.features.data.set(prompts.rows[i], i * WIDTH);
}
const pairs: PairFeatures = {
  chosen: { last: chosen.features, prompt: prompts.features },
  rejected: { last: rejected.features, prompt: others.features },
  groups: Array.from({ length: PAIRS }, (_, i) => (i % 3 === 0 ? "code" : "chat")),
};

type Masks = number[][][] | null;

/** What drops out of each hidden layer in a step, as factors: [layer][row][unit]. */
async function masksOf(step: number, share: number): Promise<Masks> {
  if (share === 0) return null;
  const ones = new Float32Array(2 * BATCH * HIDDEN).fill(1);
  const layers: number[][][] = [];
  for (const layer of [0, 1]) {
    const key = { seed: SEED, step, pass: 0, rate: share, layer };
    const mask = scope(() => noGrad(() => dropout(tensor(ones, [2 * BATCH, HIDDEN]), key)));
    const values = Array.from(await mask.read());
    mask.free("the reference");
    layers.push(Array.from({ length: 2 * BATCH }, (_, row) => values.slice(row * HIDDEN, (row + 1) * HIDDEN)));
  }
  return layers;
}

/** The gate's weights of the attributes for each prompt, by the network's parameters of now. */
async function gatesOf(head: MultiObjectiveHead, rows: readonly number[][], masks: Masks): Promise<number[][]> {
  const values = await head.store.read();
  const get = (name: string) => Array.from(values.get(name) as Float32Array);
  return rows.map((row, r) => {
    let h = row;
    for (const layer of [0, 1, 2]) {
      const [weight, bias] = [get(`layers.${layer}.weight`), get(`layers.${layer}.bias`)];
      const width = h.length;
      h = bias.map((b, i) => b + sum(h.map((x, j) => weight[i * width + j] * x)));
      if (layer < 2) h = h.map((x, i) => Math.max(0, x) * (masks ? masks[layer][r][i] : 1));
    }
    return logSoftmax(h.map((x) => x / TEMPERATURE)).map((l) => get("logit_scale")[0] * Math.exp(l));
  });
}

/** Rewards of the attributes, with verbosity or without. */
function rewardsOf(row: readonly number[], debiased: boolean): number[] {
  const weights = (k: number) => Array.from(Float32Array.from(regression.slice(k * WIDTH, (k + 1) * WIDTH)));
  const last = Array.from(Float32Array.from(row));
  const plain = attributes.map((_, k) => sum(weights(k).map((w, j) => w * last[j])));
  return debiased ? plain.map((r, k) => r - penalties[k] * plain[VERBOSITY]) : plain;
}

describe("the gate of a multi-objective reward model", () => {
  for (const { name, dropsOut, debiased } of [
    { name: "with dropout, on rewards without verbosity", dropsOut: 0.4, debiased: true },
    { name: "on plain rewards, with ties", dropsOut: 0, debiased: false },
  ]) {
    it(`publishes what its weights say: ${name}`, async () => {
      const head = newHead();
      const judge = async (those: readonly number[], masks: Masks) => {
        const rows = [...those.map((i) => prompts.rows[i]), ...those.map((i) => others.rows[i])];
        const gates = await gatesOf(head, rows, masks);
        const score = (row: readonly number[], gate: readonly number[]) =>
          sum(rewardsOf(row, debiased).map((r, k) => gate[k] * r));
        const margins = those.map(
          (pair, i) => score(chosen.rows[pair], gates[i]) - score(rejected.rows[pair], gates[those.length + i]),
        );
        const loss = -mean(margins.map(logSigmoid));
        return { loss, accuracy: margins.filter((m) => m > 0).length / margins.length, gates, margins };
      };
      let ties = 0;
      await follow({
        start: (run, every) =>
          trainGate(
            { head },
            pairs,
            {
              ...every,
              maxSteps: 3,
              seed: SEED,
              perDeviceTrainBatchSize: BATCH,
              validationShare: 0.3,
              gatingDropout: dropsOut,
              debiasTraining: debiased,
              learningRate: rate,
              lrSchedulerType: "linear",
            },
            run,
          ),
        store: head.store,
        steps: 3,
        stepsPerEpoch: train.length / BATCH,
        rate: (step) => rate * (1 - step / 3),
        async step(step) {
          const masks = await masksOf(step, dropsOut);
          const { loss, accuracy, margins } = await judge(drawn(step), masks);
          ties += margins.filter((m) => m === 0).length;
          const [scale] = (await head.store.read()).get("logit_scale") as Float32Array;
          return {
            metrics: { loss, accuracy, logit_scale: scale },
            tokens: 0,
            loss: async () => (await judge(drawn(step), masks)).loss,
          };
        },
        async evaluate() {
          const { loss, accuracy, gates } = await judge(held, null);
          const weights = gates.slice(0, held.length);
          const over = (group: string | null, k: number) =>
            mean(weights.filter((_, i) => group === null || pairs.groups?.[held[i]] === group).map((gate) => gate[k]));
          return {
            eval_loss: loss,
            eval_accuracy: accuracy,
            ...Object.fromEntries(
              attributes.flatMap((attribute, k) => [
                [`eval_gate/${attribute}`, over(null, k)],
                [`eval_gate/code/${attribute}`, over("code", k)],
                [`eval_gate/chat/${attribute}`, over("chat", k)],
              ]),
            ),
          };
        },
        undecided: ["accuracy"],
      });
      if (dropsOut === 0) expect(ties).toBeGreaterThan(0);
      head.destroy();
    });
  }
});
