/** The models of a run: the policy, and what stands beside it, made from it where nobody gave it. */

import { copyValues } from "../nn/lora.ts";
import { CausalLM, type Model, ScoreModel } from "../nn/models.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import type { Rewards } from "./rewards.ts";
import type { Response, Sampler } from "./sampler.ts";
import type { RolloutSource } from "./source.ts";

/** The models of a run that trains a policy on rewards of its own responses, whatever the method. */
export interface AlignmentModels {
  /** Trained in place: a whole model, or an adapter on a base. */
  policy: CausalLM;
  rewards: Rewards;
  /** Default: the policy's own. */
  tokenizer?: TextTokenizer | undefined;
  /** Draws responses instead of the policy here: a server, other machines. */
  source?: RolloutSource | undefined;
  /** Draws responses instead of a source, as a function that is called when an iteration begins. */
  sampler?: Sampler | undefined;
  /** The true reward, where there is one: reported, never trained on. */
  gold?: ((response: Response) => number) | undefined;
}

/** The policy as it is now, in memory of its own. Throws a UserError for an adapter, which has its base to compare with. */
export function copyOf(policy: CausalLM, label: string): CausalLM {
  if (policy.adapter) throw new UserError(`a ${label} beside an adapter needs a model of its own: give one`);
  const copy = new CausalLM(policy.config, label);
  copyParameters(policy, copy);
  return copy;
}

/** The model that a policy's adapter stands on, which is the policy as it started; null for a policy of its own weights. */
export const baseOf = ({ baseModel }: CausalLM): CausalLM | null => (baseModel instanceof CausalLM ? baseModel : null);

/** A critic with the policy's body and a fresh score head; of an adapter, another adapter on the same base. */
export function criticOf(policy: CausalLM, seed: number): ScoreModel {
  const { baseModel, adapter } = policy;
  if (adapter && baseModel) {
    return new ScoreModel({ base: baseModel, lora: adapter.options }, "critic").initialize(seed);
  }
  const critic = new ScoreModel(policy.config, "critic").initialize(seed);
  copyParameters(policy, critic);
  return critic;
}

/** Copies the parameters that both have. */
function copyParameters(from: Model, to: Model): void {
  const sources = new Map(from.parameters().map(({ name, value }) => [name, value]));
  for (const { name, value } of to.parameters()) {
    const source = sources.get(name);
    if (source) copyValues(source, value);
  }
}
