/** The losses that clients name, each a sum over tokens, and what each needs of a sequence. */
import { type Tensor, tensor } from "../../tensor/core.ts";
import { clamp, exp, maximum, minimum, mul, neg, scale, square, sub } from "../../tensor/ops/elementwise.ts";
import { sum } from "../../tensor/ops/reduce.ts";
import { detach } from "../../tensor/ops/shape.ts";
import { ApiError, badField } from "../errors.ts";

/** The numbers of a loss beside the data; the client's, or their defaults. */
export type LossConfig = Readonly<Record<string, number>>;

/** Constants of a pass's tokens, by their names, sequences one after another. */
export type LossInputs = Readonly<Record<string, Float32Array>>;

export interface Loss {
  /** What each sequence must bring, one number per target. */
  readonly needs: readonly string[];
  /** What it may bring. */
  readonly may: readonly string[];
  readonly config: Readonly<Record<string, { default: number; min: number; max: number }>>;
  /** @param logProbs of the targets under the model that is trained, [targets] */
  of(logProbs: Tensor, inputs: LossInputs, config: LossConfig): Tensor;
}

const LIMIT = 20; // of exponents: e^20 is far beyond every clip, and e^89 would be infinite

const ratioOf = (logProbs: Tensor, { logprobs }: LossInputs): Tensor =>
  exp(clamp(sub(logProbs, tensor(logprobs)), -LIMIT, LIMIT));

const [LOW, HIGH] = ["clip_low_threshold", "clip_high_threshold"];
const clipping = {
  [LOW]: { default: 0.8, min: 0, max: 1e6 },
  [HIGH]: { default: 1.2, min: 0, max: 1e6 },
};

/** The ratio between the thresholds: those of the sequence's tokens where it brings them, else the request's. */
function clipped(ratio: Tensor, inputs: LossInputs, config: LossConfig): Tensor {
  const high = inputs[HIGH] ? minimum(ratio, tensor(inputs[HIGH])) : clamp(ratio, 0, config[HIGH]);
  return inputs[LOW] ? maximum(high, tensor(inputs[LOW])) : clamp(high, config[LOW], 3e38);
}

const policy = { needs: ["logprobs", "advantages"], may: [] };

/** Losses by their names. A sum, so that what a token counts for does not hang on what is beside it. */
export const losses: Readonly<Record<string, Loss>> = {
  cross_entropy: {
    needs: ["weights"],
    may: [],
    config: {},
    of: (logProbs, { weights }) => neg(sum(mul(logProbs, tensor(weights)))),
  },
  importance_sampling: {
    ...policy,
    config: {},
    of: (logProbs, inputs) => neg(sum(mul(ratioOf(logProbs, inputs), tensor(inputs.advantages)))),
  },
  ppo: {
    ...policy,
    may: [LOW, HIGH],
    config: clipping,
    of(logProbs, inputs, config) {
      const ratio = ratioOf(logProbs, inputs);
      const advantages = tensor(inputs.advantages);
      return neg(sum(minimum(mul(ratio, advantages), mul(clipped(ratio, inputs, config), advantages))));
    },
  },
  cispo: {
    ...policy,
    may: [LOW, HIGH],
    config: clipping,
    of(logProbs, inputs, config) {
      const bounded = detach(clipped(ratioOf(logProbs, inputs), inputs, config));
      return neg(sum(mul(mul(bounded, tensor(inputs.advantages)), logProbs)));
    },
  },
  dro: {
    ...policy,
    config: { beta: { default: 0.05, min: 0, max: 1e6 } },
    of(logProbs, inputs, { beta }) {
      const gained = sum(mul(logProbs, tensor(inputs.advantages)));
      return sub(scale(sum(square(sub(logProbs, tensor(inputs.logprobs)))), 0.5 * beta), gained);
    },
  },
};

/** The loss of a name. */
export function lossOf(name: string): Loss {
  if (Object.hasOwn(losses, name)) return losses[name];
  throw badField(
    "loss_fn",
    `loss_fn ${JSON.stringify(name.slice(0, 100))} is not known here: there are ${Object.keys(losses).join(", ")}; ` +
      "forward_backward_custom computes any other one on the client's side",
  );
}

/** The numbers of a loss. A name that it does not know is refused: it would change nothing. */
export function lossConfig({ config }: Loss, lossFn: string, given: ReadonlyMap<string, number | string>): LossConfig {
  for (const [name, value] of given) {
    const limits = Object.hasOwn(config, name) ? config[name] : undefined;
    if (!limits) {
      const known = Object.keys(config).join(", ") || "nothing";
      throw badField(
        "loss_fn_config",
        `${lossFn} takes ${known} in loss_fn_config, not ${JSON.stringify(name.slice(0, 100))}`,
      );
    }
    if (typeof value !== "number" || !(value >= limits.min && value <= limits.max)) {
      throw badField("loss_fn_config", `${name} must be a number from ${limits.min} to ${limits.max}, not ${value}`);
    }
  }
  const all = Object.fromEntries(Object.entries(config).map(([name, { default: usual }]) => [name, usual]));
  const found = { ...all, ...Object.fromEntries(given as ReadonlyMap<string, number>) };
  if (found[LOW] > found[HIGH]) throw new ApiError(400, `${LOW} ${found[LOW]} lies above ${HIGH} ${found[HIGH]}`);
  return found;
}
