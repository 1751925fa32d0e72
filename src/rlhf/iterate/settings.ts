/** The settings of online iterative DPO. */
import { group, settings } from "../../settings/index.ts";
import { aheadSettings, checkAhead } from "../ahead.ts";
import { checkLosses, dpoLossSettings } from "../dpo.ts";
import { environmentSettings } from "../environment/settings.ts";
import * as shared from "../settings.ts";
import { checkPairs, pairSettings } from "./pairs.ts";

const own = group("Iterations");
const { optim, rollout } = shared;

/** Settings of online iterative DPO. The DPO part is one iteration's: its epochs or steps, its own warm-up and decay. */
export const iterate = settings(
  "iterate",
  {
    iterations: own.int(3, "Rounds of sampling, scoring, pairing and training", { min: 1, aka: ["num_iterations"] }),
    promptsPerIteration: own.int(null, "New prompts in each round; default: all prompts shared out evenly", { min: 1 }),
    reference: own.choice(
      ["previous", "initial"],
      "previous",
      "What DPO measures against: the model each round starts from (Online-RLHF), or the run's first (LMFlow, the papers)",
    ),
    numGenerations: rollout.int(8, "Responses per prompt", {
      min: 2,
      aka: ["num_return_sequences", "k", "num_output_sequences"],
    }),
    responseLength: rollout.int(64, "Longest response in tokens", { min: 1, aka: ["max_new_tokens"] }),
    ...shared.sampling,
    ...environmentSettings,
    ...shared.determinism,
    ...shared.caching,
    ...aheadSettings,
    eosTokenId: rollout.numbers(null, "Ids of the tokens that end a response; default: the model's"),
    ...shared.rewardMixture,
    ...pairSettings,
    ...dpoLossSettings,
    disableDropout: optim.bool(true, "Adapters do not drop out"),
    ...shared.duration(2),
    ...shared.optimiser(5e-7, "cosine", 8),
    ...shared.half,
    ...shared.shown,
    ...shared.bestModel,
    ...shared.common,
  },
  (o, name) => {
    checkLosses(o, name);
    checkPairs(o, name);
    checkAhead(o, name);
  },
);

/** Settings of online iterative DPO, resolved. */
export type IterateSettings = ReturnType<typeof iterate>;
