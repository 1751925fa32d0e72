/** What the verbs that learn from preferences without a reward model share: models, data and options of a run. */
import type { Tokenizer } from "../../data/tokenizer.ts";
import type { CausalLM } from "../../nn/models.ts";
import { diskFiles, type Files } from "../../runtime/files.ts";
import { openGpu } from "../gpu.ts";
import type { Values } from "../option.ts";
import type { pairCuts, preferenceBasics, referenceOptions } from "../options/preference.ts";
import { trainingOptions } from "../train.ts";
import type { Context } from "../verb.ts";
import { contextOf, tokenizerFiles, withModels } from "./models.ts";
import { ModelOpener } from "./opener.ts";

type Basics = Values<typeof preferenceBasics>;

/** Everything that is open while a policy is trained. */
export interface PreferenceRun {
  policy: CausalLM;
  tokenizer: Tokenizer;
  opener: ModelOpener;
  maxLength: number;
  /** Options of every trainer, data apart. */
  training: ReturnType<typeof runOptions>;
}

/** Opens the policy and its tokenizer, and gives everything back when `work` is done. */
export async function withPolicy(
  o: Basics,
  context: Context,
  work: (run: PreferenceRun) => Promise<void>,
): Promise<void> {
  const files = await diskFiles();
  await openGpu(context.terminal);
  const opener = new ModelOpener(files, o);
  const start = o.model_name_or_path!;
  const tokenizer = await opener.trainingTokenizer(start);
  const policy = await opener.policy(start);
  await withModels(opener.opened, async () => {
    tokenizer.checkFits(policy.config.vocabSize);
    const maxLength = contextOf(policy, o.max_length);
    await work({ policy, tokenizer, opener, maxLength, training: runOptions(o, context, files, tokenizer) });
  });
}

const runOptions = (o: Basics, context: Context, files: Files, tokenizer: Tokenizer) => ({
  ...trainingOptions(o, context),
  fp16: o.fp16,
  epochs: o.num_train_epochs,
  maxSteps: o.max_steps ?? 0,
  disableDropout: o.disable_dropout,
  run: { files, path: o.output_dir, besides: tokenizerFiles(tokenizer), keep: o.save_total_limit },
  resume: o.resume || context.resume,
});

/** The reference: a copy of the policy as it starts, its base where it is a new adapter, or another model. */
export const openReference = (opener: ModelOpener, o: Basics & Values<typeof referenceOptions>): Promise<CausalLM> =>
  opener.frozenPolicy(o.ref_model_name_or_path ?? o.model_name_or_path!);

/** How long pairs are cut. */
export const cutOptions = (o: Values<typeof pairCuts>, maxLength: number) => ({
  maxLength,
  maxPromptLength: o.max_prompt_length,
  truncationSide: o.truncation_mode === "keep_end" ? ("left" as const) : ("right" as const),
});

/** How the reference follows the policy. */
export const syncOptions = (o: Values<typeof referenceOptions>) => ({
  syncReference: o.sync_ref_model,
  mixupAlpha: o.ref_model_mixup_alpha,
  syncSteps: o.ref_model_sync_steps,
});
