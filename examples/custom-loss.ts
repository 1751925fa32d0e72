/**
 * A preference loss of one's own: DPO's, but pairs whose order is right already count for less, the surer the policy is
 * ("focal" weights, after Lin et al. 2017, arXiv 1708.02002). Registered, it is named like any other, also on the command
 * line: `webrlhf dpo --plugin ./my-loss.js --loss_type focal`.
 */
import { detach, logSigmoid, mul, neg, openDevice, scale, sigmoid } from "webrlhf";
import { worldTokenizer } from "webrlhf/data";
import { CausalLM, decoderConfig } from "webrlhf/nn";
import { openDataset } from "webrlhf/open";
import { preferenceLosses, registerPreferenceLoss, trainDpo } from "webrlhf/rlhf";

/** Trains for a moment; throws where the policy did not learn to tell the answers apart. */
export async function main(log: (line: string) => void = console.log): Promise<void> {
  await openDevice();
  if (!Object.hasOwn(preferenceLosses, "focal")) {
    registerPreferenceLoss("focal", {
      of: "delta", // made of the log-ratios' difference alone
      loss({ delta }, { beta }) {
        const x = scale(delta, beta);
        const wrong = detach(sigmoid(neg(x))); // the chance that the policy gives to the wrong order: a weight, not a path
        return neg(mul(wrong, logSigmoid(x)));
      },
    });
  }
  const tokenizer = worldTokenizer();
  const { vocabSize, eosId = null, padId = null } = tokenizer;
  const shape = { vocabSize, hiddenSize: 32, layers: 1, heads: 2, maxPositions: 64, eosId, padId };
  const policy = new CausalLM(decoderConfig({ family: "llama", ...shape })).initialize(1);
  const data = openDataset("builtin:world", { maxTrainSamples: 256, maxEvalSamples: 48 });
  const settings = {
    lossType: ["focal"],
    maxSteps: 32,
    perDeviceTrainBatchSize: 16,
    learningRate: 3e-3,
    maxLength: 64,
  };
  let accuracy = 0;
  for await (const event of trainDpo({ policy, tokenizer }, data, settings)) {
    if (event.type === "step" && event.step % 8 === 0) log(`step ${event.step}: loss ${event.metrics.loss.toFixed(3)}`);
    if (event.type === "eval") accuracy = event.metrics["eval_rewards/accuracies"];
  }
  policy.destroy();
  log(`held-out pairs in the right order: ${(100 * accuracy).toFixed(0)} %`);
  if (!(accuracy > 0.6)) throw new Error(`the policy should tell more than 60 % of the pairs apart, not ${accuracy}`);
}
