/** What `evaluate` measures of a policy. */

import { openDataset } from "../../open/datasets.ts";
import { openEnvironment, ownPrompts } from "../../open/environments.ts";
import { labelOf } from "../../open/hub.ts";
import { withModels } from "../../open/models.ts";
import { ModelOpener } from "../../open/opener.ts";
import { goldOf, openReward } from "../../open/rewards.ts";
import type { Evaluation, PolicyResult } from "../../report/data.ts";
import { evaluatePolicy } from "../../rlhf/evaluate.ts";
import { perplexities } from "../../rlhf/perplexity.ts";
import { diskFiles } from "../../runtime/files.ts";
import { drawingElsewhere } from "../join-cluster.ts";
import { pairs } from "../progress.ts";
import { surroundings } from "../surroundings.ts";
import type { Context } from "../verb.ts";
import type { evaluateSettings } from "./evaluate-settings.ts";

/** Prompts where the settings do not say how many. */
const PROMPTS = 256;

/** Measures a policy on held-out prompts. */
export async function policyResult(
  o: ReturnType<typeof evaluateSettings>,
  name: string,
  context: Context,
): Promise<NonNullable<Evaluation["policy"]>> {
  const { terminal, label } = context;
  const around = surroundings(context);
  const opener = new ModelOpener({ ...o, ...around });
  const tokenizer = await opener.tokenizer(name);
  const own = labelOf(await opener.locate(name));
  await opener.refuseJudge(name);
  const policy = await opener.frozenPolicy(name, own);
  tokenizer.checkFits(policy.config.vocabSize);
  const environment = o.environment === null ? null : await openEnvironment(o.environment);
  const rewardPath = o.rewardModelPath; // an environment rewards by itself
  const reward =
    rewardPath === null ? null : await openReward(rewardPath, { ...o, opener, policyTokenizer: tokenizer });
  const reference = o.refModelNameOrPath === null ? null : await opener.frozenPolicy(o.refModelNameOrPath);
  const where = { path: o.outputDir, files: await diskFiles(), terminal, signal: context.signal, keepsNothing: true };
  const drawing = await drawingElsewhere(o, { policy, tokenizer }, where);
  const measured = withModels(opener.opened, async () => {
    opener.refuseUnusedBase();
    const most = o.numPrompts ?? PROMPTS;
    const { dataset, part } = openDataset(o.datasetName, { ...o, ...around }).heldOut(most);
    const room = { context: policy.config.maxPositions, response: o.responseLength };
    const made = environment && ownPrompts(environment, o);
    const prompts = made?.(most, o.seed, "test") ?? (await dataset.prompts(tokenizer, room))[part];
    const gold = environment ? undefined : goldOf(o.datasetName);
    const { metrics, samples, warnings } = await evaluatePolicy(
      {
        policy,
        tokenizer,
        prompts,
        ...(reward && { reward }),
        ...(environment && { environment }),
        ...(reference && { reference }),
        ...(gold && { gold }),
        ...(drawing && { sampler: drawing.sampler }),
      },
      {
        promptsPerJob: o.promptsPerJob,
        seed: o.seed,
        responseLength: o.responseLength,
        temperature: o.temperature,
        bestOf: o.bestOf,
        maxTurns: o.maxTurns,
        environmentTimeout: o.environmentTimeout,
        environmentFailure: o.environmentFailure,
        successReward: o.successReward,
        resamples: o.bootstrapSamples,
      },
    );
    for (const text of warnings) terminal.line(terminal.style("yellow", text));
    if (o.perplexityDatasetName !== null) {
      const held = dataset.with({ testSize: 0 }, o.perplexityDatasetName);
      Object.assign(metrics, await perplexities(policy, tokenizer, held, o.evaluateBlockSize));
    }
    const result: PolicyResult = {
      label: o.label ?? own,
      n: metrics.prompts,
      reward: metrics.reward,
      reward_std: metrics.reward_std,
      gold: metrics.gold ?? null,
      gold_std: metrics.gold_std ?? null,
      kl: metrics.kl ?? null,
      mean_length: metrics.mean_length,
      ...(environment && episodesOf(metrics)),
      distinct_1: metrics.distinct_1,
      distinct_2: metrics.distinct_2,
      unique_1: metrics.unique_1,
      unique_2: metrics.unique_2,
      msttr_100: metrics.msttr_100 ?? null,
      perplexity: metrics.perplexity ?? null,
      text_perplexity: metrics.text_perplexity ?? null,
      text_perplexity_by_window: metrics.text_perplexity_by_window ?? null,
    };
    terminal.line(`${label}: ${pairs(metrics)}`);
    const shown = samples.map((s) => ({
      prompt: s.prompt,
      text: s.response,
      reward: s.reward ?? null,
      gold: s.gold ?? null,
    }));
    return { ...result, samples: shown };
  });
  return measured.finally(() => drawing?.close());
}

/** What is said of episodes alone. */
const episodesOf = (metrics: Readonly<Record<string, number>>): Partial<PolicyResult> => ({
  reward_low: metrics.reward_low ?? null,
  reward_high: metrics.reward_high ?? null,
  success_rate: metrics.success_rate ?? null,
  success_low: metrics.success_low ?? null,
  success_high: metrics.success_high ?? null,
  mean_turns: metrics.mean_turns,
  mean_episode_length: metrics.mean_episode_length,
  eos_rate: metrics.eos_rate,
});
