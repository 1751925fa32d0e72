/** PPO's KL penalty against the policy's start: how it is set, and how its weight is changed. */
import { UserError } from "../runtime/errors.ts";
import { byDialect, group, needs, type ResolvedSettings } from "../settings/index.ts";
import { positive } from "./settings.ts";

const ppo = group("PPO");

/** What is taken off for a KL divergence, and how much. */
export const klSettings = {
  klCoef: ppo.float(byDialect({ paddle: 0.02, trl: 0.05 }), "Weight of the KL penalty against the start", {
    min: 0,
    aka: ["kl_coeff", "init_kl_coef"],
    live: true,
  }),
  klPlacement: ppo.choice(["reward", "loss"], "reward", "Take the KL penalty off the rewards, or add it to the loss", {
    effect: needs("klCoef"),
  }),
  klEstimator: ppo.choice(["k1", "k2", "k3"], "k1", "Estimator of the KL penalty per token; k2 or k3 in a loss", {
    effect: needs("klCoef"),
  }),
  klClamp: ppo.float(null, "Bound of the KL penalty's absolute value; default: none", {
    ...positive,
    effect: needs("klCoef"),
  }),
  targetKl: ppo.float(null, "Adapt kl_coef towards this KL per response; default: fixed kl_coef", positive),
  klHorizon: ppo.int(10000, "Responses over which kl_coef adapts", {
    min: 1,
    aka: ["horizon"],
    effect: needs("targetKl"),
  }),
};

type KlSettings = ResolvedSettings<typeof klSettings>;

/** Throws `UserError` for a penalty that would hold nothing, and for one that cannot adapt. */
export function checkKl(o: KlSettings, name: (key: keyof KlSettings) => string): void {
  if (o.klPlacement === "loss" && o.klEstimator === "k1" && o.klCoef !== 0) {
    throw new UserError(
      `${name("klPlacement")} loss needs ${name("klEstimator")} k2 or k3: the gradient through k1 is zero on average, so ` +
        "nothing would hold the policy",
    );
  }
  if (o.targetKl !== null && !(o.klCoef > 0)) {
    throw new UserError(
      `${name("targetKl")} multiplies ${name("klCoef")}, which is 0: set it to what it is to begin with`,
    );
  }
}

/** Sets the weight of the penalty, which may have adapted since, and gives what it was. */
export function replaceKlCoef(state: { klCoef: number }, value: number): number {
  const { klCoef } = state;
  state.klCoef = value;
  return klCoef;
}
