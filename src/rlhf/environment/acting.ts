/** A run whose policy acts in an environment. */
import type { CausalLM } from "../../nn/models.ts";
import type { TextTokenizer } from "../../nn/text-tokenizer.ts";
import { UserError } from "../../runtime/errors.ts";
import type { AlignmentModels } from "../partners.ts";
import type { RewardParts } from "../rewards.ts";
import type { Sampler } from "../sampler.ts";
import type { Tell } from "../telling.ts";
import type { Environment } from "./environment.ts";
import { environmentReward } from "./reward.ts";
import { environmentSampler } from "./sampler.ts";
import type { EnvironmentSettings } from "./settings.ts";

/** The environment of a run, where its policy acts in one. */
export interface ActingModels {
  /**
   * Makes every response an episode of several turns, of which only what the policy writes is learned. Its rewards stand among
   * the others as `environmentReward`.
   */
  environment?: Environment | undefined;
}

/** How a run's episodes are drawn. */
export interface Acting {
  sampler: Sampler;
  /** Tells of the responses that were left out since it was asked last. */
  tell(tell: Tell, step: number): Promise<void>;
}

/**
 * Plays a run's episodes; null where there is no environment.
 * @param parts the run's rewards; null where nothing is learned from them
 * @param policy who plays
 * @param measuredAt see `EnvironmentSamplerOptions`
 * @throws UserError where somebody else is to draw, and where the environment's rewards would not be learned from
 */
export function actingIn(
  { environment, sampler, source }: ActingModels & Pick<AlignmentModels, "sampler" | "source">,
  parts: RewardParts | null,
  { policy, tokenizer }: { policy: CausalLM; tokenizer: TextTokenizer },
  measuredAt: number | null,
  o: EnvironmentSettings,
): Acting | null {
  if (!environment) return null;
  if (sampler || source) {
    throw new UserError(
      "an environment answers the policy here, turn by turn: a server, a cluster or another sampler cannot draw its responses",
    );
  }
  if (parts && !parts.functions.includes(environmentReward)) {
    throw new UserError(
      "what the environment gives would not be learned from: put environmentReward among the rewards",
    );
  }
  const reasons: string[] = [];
  const { maxTurns, environmentTimeout, environmentFailure } = o;
  const limits = { maxTurns, environmentTimeout, environmentFailure };
  const dropped = (reason: string) => void reasons.push(reason);
  return {
    sampler: environmentSampler({ policy, tokenizer, environment, measuredAt, dropped, ...limits }),
    async tell(tell, step) {
      for (const reason of reasons.splice(0)) {
        await tell({ type: "warning", step, text: `the responses to a prompt are left out: ${reason}` });
      }
    },
  };
}
