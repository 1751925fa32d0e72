/**
 * An environment of one's own: a small fresh policy is shown a number and says it, is shown another, and says that, too. Both turns are
 * one sequence, of which only what the policy says is learned, each turn by its own reward.
 *
 * In a file of its own, with the environment as default export, it works from the command line as well:
 * `webrlhf grpo --environment ./my-environment.ts`.
 */

import { openDevice } from "webrlhf";
import { Tokenizer, trainBpe } from "webrlhf/data";
import { CausalLM, decoderConfig } from "webrlhf/nn";
import { type Environment, environmentPrompts, environmentReward, trainRloo } from "webrlhf/rlhf";

const echo: Environment = {
  name: "echo",
  /** What episodes begin from: a dataset's rows would come in their place. */
  rows: (n) => Array.from({ length: n }, (_, i) => ({ numbers: [1 + (i % 2), 1 + (Math.floor(i / 2) % 2)] })),
  reset({ prompt }) {
    const numbers = prompt.row?.numbers as number[];
    return {
      observation: ` ${numbers[0]}:`,
      step({ text, turn }) {
        const reward = text.trim() === String(numbers[turn]) ? 0.5 : 0;
        return turn === 0 ? { reward, observation: ` ${numbers[1]}:` } : { reward, done: true };
      },
    };
  },
};

/** Trains for a moment; throws where the policy did not learn to say what it is shown. */
export async function main(log: (line: string) => void = console.log): Promise<void> {
  await openDevice();
  const tokenizer = Tokenizer.fromTrained(
    trainBpe([" 1", " 2", ":"], { vocabSize: 16, minFrequency: 1, alphabet: "seen" }),
  );
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
  const settings = {
    maxSteps: 50,
    maxTurns: 2,
    perDeviceTrainBatchSize: 64,
    numGenerations: 16,
    responseLength: 12,
    learningRate: 5e-3,
    lrSchedulerType: "constant",
    beta: 0,
  } as const;
  const models = { policy, environment: echo, rewards: environmentReward };
  const means: number[] = [];
  for await (const event of trainRloo(models, environmentPrompts(echo, 4, 1), settings)) {
    if (event.type !== "step") continue;
    means.push(event.metrics.reward);
    if (event.step % 10 === 0) log(`step ${event.step}: reward ${event.metrics.reward.toFixed(2)} of 1`);
  }
  policy.destroy();
  const last = means.slice(-3).reduce((sum, x) => sum + x, 0) / 3;
  log(`${(100 * means[0]).toFixed(0)} % of the numbers are right at first, ${(100 * last).toFixed(0)} % in the end`);
  if (!(last > 0.9)) throw new Error(`the policy should have learned to say what it is shown, but has ${last}`);
}
