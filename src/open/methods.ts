/** Every training method by names: which models and data its settings name, and the trainer that takes them. */
import type { Method } from "./method.ts";
import { grpoMethod, reinforceMethod, rlooMethod } from "./methods/critic-free.ts";
import { multiObjectiveMethod } from "./methods/multi-objective.ts";
import { cpoMethod, dpoMethod, ktoMethod, orpoMethod } from "./methods/preferences.ts";
import { costMethod, pairwiseMethod, rewardMethod } from "./methods/rewards.ts";
import { iterateMethod, raftMethod } from "./methods/rounds.ts";
import { sftMethod } from "./methods/sft.ts";
import { ppoMethod } from "./methods/with-critic.ts";

/** The methods by purpose, and there by their names, which are the verbs'; in the order of lists. */
export const methodGroups = {
  "Train on examples": { sft: sftMethod },
  "Train rewards": {
    reward: rewardMethod,
    cost: costMethod,
    pairwise: pairwiseMethod,
    "multi-objective": multiObjectiveMethod,
  },
  "Train policies on rewards": {
    ppo: ppoMethod,
    grpo: grpoMethod,
    rloo: rlooMethod,
    reinforce: reinforceMethod,
    raft: raftMethod,
    iterate: iterateMethod,
  },
  "Train policies on preferences": { dpo: dpoMethod, kto: ktoMethod, orpo: orpoMethod, cpo: cpoMethod },
} as const satisfies Record<string, Record<string, Method>>;

/** The methods by their names, which are the verbs'. */
export const methods = {
  ...methodGroups["Train on examples"],
  ...methodGroups["Train rewards"],
  ...methodGroups["Train policies on rewards"],
  ...methodGroups["Train policies on preferences"],
} as const;
