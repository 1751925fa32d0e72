import { type DpoLossName, dpoDefaults, trainDpo } from "../../rlhf/preference/dpo.ts";
import { precomputeReference } from "../../rlhf/preference/reference.ts";
import { UserError } from "../../runtime/errors.ts";
import { consume } from "../consume.ts";
import { pairData } from "../data/datasets.ts";
import { cutOptions, openReference, type PreferenceRun, syncOptions, withPolicy } from "../models/preference.ts";
import { didYouMean } from "../nearest.ts";
import type { Values } from "../option.ts";
import { type dpoLoss, dpoOptions, lossNames } from "../options/dpo.ts";
import type { Terminal } from "../terminal.ts";
import { defineVerb } from "../verb.ts";

type Options = Values<typeof dpoOptions>;

export const dpoVerb = defineVerb({
  name: "dpo",
  summary: "Train a policy on pairs of a better and a worse answer (DPO)",
  options: dpoOptions,
  examples: [
    "webrlhf dpo --model_name_or_path out/sft --output_dir out/dpo",
    "webrlhf dpo --model_name_or_path out/sft --dataset_name pairs.jsonl --loss_type ipo --beta 0.05",
    "webrlhf dpo --model_name_or_path out/sft --use_peft --loss_type sigmoid,bco_pair,sft --loss_weights 0.8,0.2,1",
  ],
  async run(o, context) {
    const loss = lossOptions(o);
    await withPolicy(o, context, async (run) => {
      const { policy, opener, tokenizer, maxLength, training } = run;
      const data = await pairData(o, tokenizer, cutOptions(o, maxLength), context.terminal);
      const { reference, ...pairs } = o.precompute_ref_log_probs
        ? { reference: "precomputed" as const, ...(await precomputed(o, run, data, context.terminal)) }
        : { reference: await openReference(opener, o), ...data };
      const options = {
        ...dpoDefaults,
        ...training,
        ...syncOptions(o),
        ...pairs,
        ...loss,
      };
      await consume(trainDpo({ policy, reference }, options), o, context);
    });
  },
});

type Pairs = Awaited<ReturnType<typeof pairData>>;

/** Both parts with the reference's log-probabilities; the policy itself is the reference, as long as it is not trained. */
async function precomputed(o: Options, { policy, opener }: PreferenceRun, data: Pairs, terminal: Terminal) {
  const other = o.ref_model_name_or_path !== null || o.use_peft;
  const model = other ? await openReference(opener, o) : policy;
  const total = data.train.length + data.eval.length;
  let before = 0;
  const add = async (pairs: Pairs["train"]) => {
    const progress = (done: number) => {
      const text = `computing the reference's log-probabilities: ${before + done} of ${total} pairs`;
      if (terminal.tty) terminal.write(`\r${text}`);
    };
    const found = await precomputeReference(model, pairs, { fp16: o.fp16, progress });
    before += pairs.length;
    return found;
  };
  const found = { train: await add(data.train), eval: await add(data.eval) };
  if (terminal.tty) terminal.write("\r\x1b[2K");
  terminal.line(`computed the reference's log-probabilities of ${total} pairs`);
  return found;
}

/** The loss that the options describe, as the trainer's record. */
export const lossOptions = (o: Values<typeof dpoLoss>) => ({
  losses: lossesOf(o),
  beta: o.beta,
  labelSmoothing: o.label_smoothing,
  divergence: o.f_divergence_type,
  alphaCoefficient: o.f_alpha_divergence_coef,
  lengthPenalty: o.len_penalty,
  rpoAlpha: o.rpo_alpha,
  rpoOver: o.rpo_over,
  ldAlpha: o.ld_alpha,
  useWeighting: o.use_weighting,
  discopopTau: o.discopop_tau,
  ipoAverage: o.ipo_average,
  bcoRunningMean: o.bco_running_mean,
});

function lossesOf({
  loss_type: types,
  loss_weights: weights,
}: Values<typeof dpoLoss>): { type: DpoLossName; weight: number }[] {
  const wrong = types.find((type) => !lossNames.includes(type));
  if (wrong !== undefined) {
    throw new UserError(
      `loss_type: there is no "${wrong}"${didYouMean(wrong, lossNames)}; there are ${lossNames.join(", ")}`,
    );
  }
  const numbers = weights?.map(Number) ?? types.map(() => 1);
  if (numbers.length !== types.length || !numbers.every(Number.isFinite)) {
    const count = types.length === 1 ? "1 number" : `${types.length} numbers`;
    throw new UserError(`loss_weights must be ${count}, one for each of loss_type, not ${weights}`);
  }
  return types.map((type, i) => ({ type: type as DpoLossName, weight: numbers[i] }));
}
