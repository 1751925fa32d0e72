/** The prompts that RAFT learns from, and those that it is evaluated on. */
import { counted } from "../../data/counts.ts";
import type { CausalLM } from "../../nn/models.ts";
import type { TextTokenizer } from "../../nn/text-tokenizer.ts";
import { UserError } from "../../runtime/errors.ts";
import { spelled } from "../../settings/index.ts";
import type { RunFolder } from "../checkpoint.ts";
import { evaluateResponses } from "../evaluate.ts";
import type { TrainerSteps } from "../loop.ts";
import type { RewardParts } from "../rewards.ts";
import type { RolloutOptions } from "../rollout.ts";
import { type Prompt, policySampler, type Response, type Sampler } from "../sampler.ts";

/** Prompts of at most so many tokens, and what there is to say of the others. */
export function shortEnough(
  all: readonly Prompt[],
  o: { maxPromptLength: number },
): { prompts: readonly Prompt[]; left: string | null } {
  const limit = o.maxPromptLength;
  const prompts = all.filter(({ ids }) => ids.length <= limit);
  const out = all.length - prompts.length;
  if (out === all.length) {
    throw new UserError(`all ${out} prompts have more than ${limit} tokens: raise ${spelled(o, "maxPromptLength")}`);
  }
  const left = out > 0 ? `${out} of ${all.length} prompts left out: more than ${limit} tokens` : null;
  return { prompts: counted(prompts, all, { dropped: { "it is too long": out }, limit }), left };
}

/** Evaluations on held-out prompts, whose responses the policy itself draws, whoever draws those it learns from. */
export function heldOutEvaluation(
  run: {
    policy: CausalLM;
    tokenizer: TextTokenizer;
    /** The policy in its environment, where there is one. */
    sampler?: Sampler | undefined;
    parts: RewardParts;
    reference?: CausalLM | undefined;
    gold?: ((response: Response) => number) | undefined;
  },
  prompts: readonly Prompt[],
  o: Omit<RolloutOptions, "numGenerations" | "tempered" | "clipRangeScore">,
  folder: RunFolder | undefined,
): Pick<TrainerSteps, "evaluate" | "evaluateFirst"> {
  const { policy, tokenizer, parts: rewards, reference, gold } = run;
  const sampler = run.sampler ?? policySampler(policy, tokenizer);
  const inputs = { policy, tokenizer, sampler, rewards, prompts, reference: reference ?? null, ...(gold && { gold }) };
  const options = { ...o, numGenerations: 1, tempered: "never" as const, clipRangeScore: null };
  return { evaluate: (done) => evaluateResponses(inputs, done, options, folder), evaluateFirst: true };
}
