import { grpo, trainGrpo } from "../../rlhf/grpo.ts";
import { reinforce, trainReinforce } from "../../rlhf/reinforce.ts";
import { rloo, trainRloo } from "../../rlhf/rloo.ts";
import type { ResolvedSettings } from "../../settings/index.ts";
import { environmentIn } from "../environments.ts";
import type { RunSurroundings } from "../method.ts";
import type { ModelOpener } from "../opener.ts";
import * as named from "../settings.ts";
import { openAligned } from "./aligned.ts";
import { drawnBy } from "./drawn.ts";
import { summaries } from "./names.ts";
import { onDataset } from "./on-dataset.ts";

const groupNames = {
  ...named.actingSettings,
  ...named.moreRewardSettings,
  ...named.heldOutSettings,
  ...named.serverSettings,
};

/** Without a KL penalty there is no second copy of the weights, unless it costs nothing: an adapter's base. */
const openGroup = async (
  o: ResolvedSettings<typeof groupNames> & { beta: number; maxSteps: number | null; seed: number },
  opener: ModelOpener,
  around: RunSurroundings,
) => {
  const { rewards: own, ...acting } = await environmentIn(o);
  const { rewards, gold, ...opened } = await openAligned(o, opener, o.beta !== 0 || o.usePeft);
  const drawn = await drawnBy(o, around, opened, o.maxSteps);
  const judged = { rewards: [...own, ...rewards], gold: acting.environment ? undefined : gold };
  return { ...opened, ...judged, ...acting, ...drawn };
};

/** GRPO and its variants, by names. */
const grpoMethod = onDataset(
  grpo,
  groupNames,
  {
    summary: summaries.grpo,
    examples: [
      "webrlhf grpo --model_name_or_path out/sft --reward_model_path out/reward --generation_batch_size 64",
      "webrlhf grpo --model_name_or_path out/sft --environment ./my-environment.ts --max_turns 4",
      "webrlhf grpo --config grpo.yaml --epsilon_high 0.28 --dynamic_filtering --overlong_buffer_len 8",
    ],
  },
  openGroup,
  (models, dataset, o, run) => trainGrpo(models, models.data ?? dataset, o, run),
);

/** RLOO, by names. */
const rlooMethod = onDataset(
  rloo,
  groupNames,
  {
    summary: summaries.rloo,
    examples: [
      "webrlhf rloo --model_name_or_path out/sft --reward_model_path out/reward --num_generations 4",
      "webrlhf rloo --config rloo.yaml --beta 0.1",
    ],
  },
  openGroup,
  (models, dataset, o, run) => trainRloo(models, models.data ?? dataset, o, run),
);

/** REINFORCE++, by names. */
const reinforceMethod = onDataset(
  reinforce,
  groupNames,
  {
    summary: summaries.reinforce,
    examples: [
      "webrlhf reinforce --model_name_or_path out/sft --reward_model_path out/reward --generation_batch_size 128",
      "webrlhf reinforce --config reinforce.yaml --gamma 0.99",
    ],
  },
  openGroup,
  (models, dataset, o, run) => trainReinforce(models, models.data ?? dataset, o, run),
);

/** Methods with a reward and no critic. */
export const criticFreeMethods = { grpo: grpoMethod, rloo: rlooMethod, reinforce: reinforceMethod };
