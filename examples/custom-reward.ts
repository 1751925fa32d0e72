/**
 * A reward of one's own that looks at a column of the dataset: GRPO teaches a small fresh model to speak in words that begin
 * with the letter of its prompt's row; a second, lighter reward asks for different ones.
 *
 * In a file of its own, with the function as default export, the same reward works from the command line:
 * `webrlhf grpo --reward ./my-reward.ts --dataset ./my-data.ts`.
 */

import { openDevice } from "webrlhf";
import { worldTokenizer } from "webrlhf/data";
import { CausalLM, decoderConfig } from "webrlhf/nn";
import { openDataset, openRewards } from "webrlhf/open";
import { type Response, trainGrpo } from "webrlhf/rlhf";

/** The share of a response's words that begin with its row's letter. */
function letters(responses: readonly Response[]): number[] {
  return responses.map(({ text, row }) => {
    const words = text.split(/\s+/).filter((word) => word !== "");
    return words.filter((word) => word.startsWith(String(row?.letter))).length / Math.max(1, words.length);
  });
}

/** The share of different words among a response's; it may as well be async, and ask somebody else. */
async function variety(responses: readonly Response[]): Promise<number[]> {
  return responses.map(({ text }) => {
    const words = text.split(/\s+/);
    return new Set(words).size / words.length;
  });
}
variety.weight = 0.1; // rewards are added by their weights, and each is logged

/** Trains for a moment; throws where the model did not learn what the reward is for. */
export async function main(log: (line: string) => void = console.log): Promise<void> {
  await openDevice();
  const tokenizer = worldTokenizer();
  const policy = new CausalLM(
    decoderConfig({
      family: "llama",
      vocabSize: tokenizer.vocabSize,
      hiddenSize: 32,
      layers: 1,
      heads: 2,
      maxPositions: 32,
      eosId: tokenizer.eosId ?? null,
      padId: tokenizer.padId ?? null,
    }),
  ).initialize(1);
  policy.tokenizer = tokenizer;
  const data = openDataset([
    { prompt: "a boy", letter: "s" },
    { prompt: "a girl", letter: "b" },
  ]);
  const rewards = await openRewards([letters, variety]);
  const settings = {
    maxSteps: 40,
    perDeviceTrainBatchSize: 32,
    numGenerations: 16,
    responseLength: 8,
    learningRate: 1e-2,
    lrSchedulerType: "constant",
  } as const;
  const means: number[] = [];
  for await (const event of trainGrpo({ policy, rewards }, data, settings)) {
    if (event.type !== "step") continue;
    means.push(event.metrics["rewards/letters"]);
    const { reward, "rewards/letters": right, "rewards/variety": different } = event.metrics;
    const numbers = [reward, right, different].map((x) => x.toFixed(2));
    if (event.step % 10 === 0)
      log(`step ${event.step}: reward ${numbers[0]}, letters ${numbers[1]}, variety ${numbers[2]}`);
  }
  policy.destroy();
  const [first, last] = [means[0], means.slice(-5).reduce((sum, x) => sum + x, 0) / 5];
  log(`words with the right letter: ${(100 * first).toFixed(0)} % at first, ${(100 * last).toFixed(0)} % in the end`);
  if (!(last > 0.8)) throw new Error(`the policy should have learned the letters, but has ${last}`);
}
