/** Loads one training method without the others. */
import type { Method } from "../method.ts";
import type { MethodName } from "./names.ts";

const critic = () => import("./with-critic.ts");
const criticFree = () => import("./critic-free.ts");
const preferences = () => import("./preferences.ts");
const rewards = () => import("./rewards.ts");
const rounds = () => import("./rounds.ts");

/** Each method by its name, loaded when it is asked for. */
export const methodLoaders: Readonly<Record<MethodName, () => Promise<Method>>> = {
  sft: async () => (await import("./sft.ts")).sftMethods.sft,
  distill: async () => (await import("./distill.ts")).distillMethods.distill,
  reward: async () => (await rewards()).rewardMethods.reward,
  cost: async () => (await rewards()).rewardMethods.cost,
  pairwise: async () => (await rewards()).rewardMethods.pairwise,
  "multi-objective": async () => (await import("./multi-objective.ts")).multiObjectiveMethods["multi-objective"],
  ppo: async () => (await critic()).criticMethods.ppo,
  grpo: async () => (await criticFree()).criticFreeMethods.grpo,
  rloo: async () => (await criticFree()).criticFreeMethods.rloo,
  reinforce: async () => (await criticFree()).criticFreeMethods.reinforce,
  raft: async () => (await rounds()).roundMethods.raft,
  iterate: async () => (await rounds()).roundMethods.iterate,
  dpo: async () => (await preferences()).preferenceMethods.dpo,
  kto: async () => (await preferences()).preferenceMethods.kto,
  orpo: async () => (await preferences()).preferenceMethods.orpo,
  cpo: async () => (await preferences()).preferenceMethods.cpo,
};
