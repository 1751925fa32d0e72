/**
 * PPO by hand, from the library's parts: sample, score, measure, estimate advantages, and take clipped steps. A small fresh
 * model learns to speak in words that begin with "s", without going further from where it started than that takes.
 */
import { add, backward, full, openDevice, scope, tensor } from "webrlhf";
import { worldTokenizer } from "webrlhf/data";
import { AdamW, CausalLM, decoderConfig, ScoreModel } from "webrlhf/nn";
import * as rlhf from "webrlhf/rlhf";

/** The share of words that begin with "s". */
const scoreOf = (text: string): number => {
  const words = text.split(/\s+/).filter((word) => word !== "");
  return words.filter((word) => word.startsWith("s")).length / Math.max(1, words.length);
};

/** Trains for a moment; throws where the policy did not learn. */
export async function main(log: (line: string) => void = console.log): Promise<void> {
  await openDevice();
  const tokenizer = worldTokenizer();
  const { vocabSize, eosId = null, padId = null } = tokenizer;
  const shape = { vocabSize, hiddenSize: 32, layers: 1, heads: 2, maxPositions: 32, eosId, padId };
  const config = decoderConfig({ family: "llama", ...shape });
  const policy = new CausalLM(config).initialize(1);
  const reference = new CausalLM(config).initialize(1);
  const critic = new ScoreModel(config).initialize(2);
  const optimizers = [new AdamW(policy.store), new AdamW(critic.store)];
  const prompts = ["a boy", "a girl", "the cat", "one day"].map((text) => ({
    text,
    ids: Uint32Array.from(tokenizer.encode(text)),
  }));
  const sample = rlhf.policySampler(policy, tokenizer);
  const means: number[] = [];

  for (let iteration = 0; iteration < 20; iteration++) {
    const responses = await sample(prompts, [0, 1, 2, 3], { samples: 12, maxNewTokens: 8, seed: 1, iteration });
    const scores = responses.map(({ text }) => scoreOf(text));
    const { logProbs } = await rlhf.responseLogProbs(policy, responses);
    const { logProbs: refLogProbs } = await rlhf.responseLogProbs(reference, responses);
    const values = await rlhf.responseValues(critic, responses);

    // The score stands at the last token; every token pays for the distance to the reference.
    const rewards = scores.map((score, i) => {
      const kl = logProbs[i].map((p, t) => p - refLogProbs[i][t]);
      return rlhf.shapeRewards(kl, score, { klCoef: 0.02, clipRange: 10, clipWhat: "score" });
    });
    const rollout = { responses, logProbs, refLogProbs, rewards };
    const { experience } = rlhf.gaeExperience(rollout, values, { gamma: 1, lam: 0.95, whitenAdvantages: true });
    const all = (pick: (e: rlhf.Experience) => ArrayLike<number>) => experience.flatMap((e) => Array.from(pick(e)));

    for (let pass = 0; pass < 4; pass++) {
      scope(() => {
        const { ids, packing, starts } = rlhf.pack(responses);
        const { rows, targets } = rlhf.predictions(responses, starts);
        const weights = full([rows.length], 1 / rows.length);
        const old = { oldLogProbs: tensor(all((e) => e.logProbs)), advantages: tensor(all((e) => e.advantages)) };
        const goal = { oldValues: tensor(all((e) => e.values)), returns: tensor(all((e) => e.returns)) };
        const now = policy.logProbs(ids, packing, rows, targets).logProbs;
        const surrogate = rlhf.policyLoss(now, { ...old, weights }, { clipRange: 0.2 });
        const error = rlhf.valueLoss(critic.scores(ids, packing, rows), { ...goal, weights }, 0.2);
        backward(add(surrogate, error));
        for (const optimizer of optimizers) optimizer.step(3e-3);
      });
    }
    means.push(rlhf.average(scores));
    if (iteration % 10 === 9)
      log(`iteration ${iteration + 1}: ${(100 * means[iteration]).toFixed(0)} % begin with "s"`);
  }
  for (const thing of [...optimizers, policy, reference, critic]) thing.destroy();
  const [first, last] = [means[0], rlhf.average(means.slice(-5))];
  if (!(last > first + 0.3))
    throw new Error(`the policy should have learned the letter: ${first} at first, then ${last}`);
}
