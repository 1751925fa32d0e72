/** Every training method by names: which models and data its settings name, and the trainer that takes them. */
import type { Method } from "./method.ts";
import { criticFreeMethods } from "./methods/critic-free.ts";
import { distillMethods } from "./methods/distill.ts";
import { multiObjectiveMethods } from "./methods/multi-objective.ts";
import type { methodNames } from "./methods/names.ts";
import { preferenceMethods } from "./methods/preferences.ts";
import { rewardMethods } from "./methods/rewards.ts";
import { roundMethods } from "./methods/rounds.ts";
import { sftMethods } from "./methods/sft.ts";
import { criticMethods } from "./methods/with-critic.ts";

/** The methods by purpose, and there by their names, which are the verbs'; in the order of lists. */
export const methodGroups = {
  "Train on examples": sftMethods,
  "Train on another model": distillMethods,
  "Train rewards": { ...rewardMethods, ...multiObjectiveMethods },
  "Train policies on rewards": { ...criticMethods, ...criticFreeMethods, ...roundMethods },
  "Train policies on preferences": preferenceMethods,
} as const satisfies { [H in keyof typeof methodNames]: Record<keyof (typeof methodNames)[H], Method> };

/** The methods by their names, which are the verbs'. */
export const methods = {
  ...methodGroups["Train on examples"],
  ...methodGroups["Train on another model"],
  ...methodGroups["Train rewards"],
  ...methodGroups["Train policies on rewards"],
  ...methodGroups["Train policies on preferences"],
} as const;
