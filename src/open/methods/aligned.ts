/** What methods open that train a policy on rewards of its own responses. */
import type { ResolvedSettings } from "../../settings/index.ts";
import type { ModelOpener } from "../opener.ts";
import { goldOf, openRewards } from "../rewards.ts";
import type * as named from "../settings.ts";
import { openPolicy } from "./on-dataset.ts";

type Names = ResolvedSettings<typeof named.alignmentSettings> &
  Partial<ResolvedSettings<typeof named.moreRewardSettings>>;

/** Opens the policy and its rewards, and where it is compared with it, the policy as it starts. */
export async function openAligned(o: Names, opener: ModelOpener, compared = true) {
  const path = o.modelNameOrPath as string;
  const { policy, tokenizer } = await openPolicy(opener, path);
  const reference = compared ? await opener.frozenPolicy(path) : undefined;
  // An environment gives rewards of its own.
  const rewardPaths = [...(o.rewardModelPath === null ? [] : [o.rewardModelPath]), ...(o.rewardFuncs ?? [])];
  const rewards = await openRewards(rewardPaths, { ...o, opener, policyTokenizer: tokenizer });
  return { policy, reference, rewards, tokenizer, gold: goldOf(o.datasetName) };
}
