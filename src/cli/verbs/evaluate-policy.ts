/** What `evaluate` measures of a policy. */
import type { PolicyResult } from "../../report/data.ts";
import { evaluatePolicy } from "../../rlhf/evaluate.ts";
import type { Files } from "../../runtime/files.ts";
import { heldOut, promptData } from "../data/datasets.ts";
import { labelAt } from "../models/hub.ts";
import { goldOf, withModels } from "../models/models.ts";
import { ModelOpener, openReward } from "../models/opener.ts";
import type { Values } from "../option.ts";
import type { evaluateOptions } from "../options/evaluate.ts";
import { short } from "../progress.ts";
import type { Context } from "../verb.ts";
import type { Evaluation } from "./collect.ts";
import { perplexities } from "./perplexity.ts";

/** Prompts where the options do not say how many. */
const PROMPTS = 256;

export async function policyResult(
  files: Files,
  o: Values<typeof evaluateOptions>,
  path: string,
  { terminal, label }: Context,
): Promise<NonNullable<Evaluation["policy"]>> {
  const opener = new ModelOpener(files, o);
  const tokenizer = await opener.tokenizer(path);
  const policy = await opener.frozenPolicy(path, labelAt(path));
  tokenizer.checkFits(policy.config.vocabSize);
  const reward = await openReward(opener, o.reward_model_path!, tokenizer);
  const reference = o.ref_model_name_or_path === null ? null : await opener.frozenPolicy(o.ref_model_name_or_path);
  return withModels(opener.opened, async () => {
    const { choice, part } = heldOut(o, o.num_prompts ?? PROMPTS);
    const room = { context: policy.config.maxPositions, response: o.response_length };
    const prompts = await promptData(choice, part, tokenizer, room, terminal);
    const gold = goldOf(o.dataset_name);
    const { metrics, samples } = await evaluatePolicy(
      { policy, tokenizer, prompts, reward, ...(reference && { reference }), ...(gold && { gold }) },
      { seed: o.seed, responseLength: o.response_length, temperature: o.temperature, bestOf: o.best_of },
    );
    if (o.perplexity_dataset_name !== null) {
      const held = { ...choice, dataset_name: o.perplexity_dataset_name, test_size: 0 };
      Object.assign(metrics, await perplexities(policy, tokenizer, held, o.evaluate_block_size, terminal));
    }
    const result: PolicyResult = {
      label: o.label ?? labelAt(path),
      n: metrics.prompts,
      reward: metrics.reward,
      reward_std: metrics.reward_std,
      gold: metrics.gold ?? null,
      gold_std: metrics.gold_std ?? null,
      kl: metrics.kl ?? null,
      mean_length: metrics.mean_length,
      distinct_1: metrics.distinct_1,
      distinct_2: metrics.distinct_2,
      unique_1: metrics.unique_1,
      unique_2: metrics.unique_2,
      msttr_100: metrics.msttr_100 ?? null,
      perplexity: metrics.perplexity ?? null,
      text_perplexity: metrics.text_perplexity ?? null,
      text_perplexity_by_window: metrics.text_perplexity_by_window ?? null,
    };
    terminal.line(
      `${label}: ${Object.entries(metrics)
        .map(([name, value]) => `${name} ${short(value)}`)
        .join("  ")}`,
    );
    const shown = samples.map((s) => ({
      prompt: s.prompt,
      text: s.response,
      reward: s.reward ?? null,
      gold: s.gold ?? null,
    }));
    return { ...result, samples: shown };
  });
}
