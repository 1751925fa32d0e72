/**
 * Supervised fine-tuning in a browser's tab: a small fresh model learns to tell the built-in world's stories, step by step,
 * without holding up the page. `npm run examples` serves the page beside this file; the same code runs in Node and Deno.
 */
import { openDevice } from "webrlhf";
import { worldTokenizer } from "webrlhf/data";
import { CausalLM, decoderConfig, generate } from "webrlhf/nn";
import { openDataset } from "webrlhf/open";
import { trainSft } from "webrlhf/rlhf";

/** Trains until the signal stops it, or for sixty steps; throws where nothing was learned. */
export async function main(log: (line: string) => void = console.log, signal?: AbortSignal): Promise<void> {
  await openDevice();
  const tokenizer = worldTokenizer();
  const { vocabSize, eosId = null, padId = null } = tokenizer;
  const shape = { vocabSize, hiddenSize: 48, layers: 1, heads: 2, maxPositions: 64, eosId, padId };
  const policy = new CausalLM(decoderConfig({ family: "llama", ...shape })).initialize(1);
  log(`a model of ${policy.store.count.toLocaleString("en")} parameters`);

  const data = openDataset("builtin:world", { maxTrainSamples: 1024 });
  const settings = { maxSteps: 60, perDeviceTrainBatchSize: 8, learningRate: 1e-2, maxLength: 64 };
  const losses: number[] = [];
  for await (const event of trainSft({ policy, tokenizer }, data, settings, signal ? { signal } : {})) {
    if (event.type !== "step") continue;
    losses.push(event.metrics.loss);
    if (event.step % 20 === 0) log(`step ${event.step}: loss ${event.metrics.loss.toFixed(3)}`);
  }

  const prompt = "Today Tim the cat wanted a hat.";
  const ids = Uint32Array.from(tokenizer.encode(prompt));
  const [answer] = await generate(policy, [ids], { maxNewTokens: 24, temperature: 0, seed: 1 });
  log(`${prompt}${tokenizer.decode(answer.ids)}`);
  policy.destroy();
  const [first, last] = [losses[0], losses[losses.length - 1]];
  if (!signal?.aborted && !(last < first - 2))
    throw new Error(`the loss should have fallen by 2, from ${first} to ${last}`);
}
