/** The methods' names, which are the verbs', and what each does in a line: all that a list of them needs. */

/** The methods by purpose, in the order of lists. */
export const methodNames = {
  "Train on examples": { sft: "Train a language model on prompts with completions, or on text" },
  "Train on another model": { distill: "Train a student to predict what a teacher does, on its own responses" },
  "Train rewards": {
    reward: "Train a reward model on pairs of a better and a worse answer",
    cost: "Train a cost model on pairs of a safer and a less safe answer, each labelled safe or not",
    pairwise: "Train a language model to say which of two answers is better",
    "multi-objective": "Make a reward model of several rated qualities, weighed by the prompt",
  },
  "Train policies on rewards": {
    ppo: "Train a policy against a reward model with PPO",
    grpo: "Train a policy against a reward model by comparing responses in groups (GRPO)",
    rloo: "Train a policy against a reward model with leave-one-out baselines (RLOO)",
    reinforce: "Train a policy against a reward model like PPO, but without a critic (REINFORCE++)",
    raft: "Train a policy on its own best responses by a reward model (RAFT)",
    iterate: "Train a policy by online iterative DPO: sample, score, pair and train, round after round",
  },
  "Train policies on preferences": {
    dpo: "Train a policy on pairs of a better and a worse answer (DPO)",
    kto: "Train a policy on single answers labelled good or bad (KTO)",
    orpo: "Fine-tune on better answers and away from worse ones at once (ORPO)",
    cpo: "Train a policy on pairs without a reference (CPO, SimPO)",
  },
} as const;

/** What each method does, in a line. */
export const summaries = {
  ...methodNames["Train on examples"],
  ...methodNames["Train on another model"],
  ...methodNames["Train rewards"],
  ...methodNames["Train policies on rewards"],
  ...methodNames["Train policies on preferences"],
} as const;

/** A method's name. */
export type MethodName = keyof typeof summaries;
