/** An entropy bonus that keeps a policy from settling, with a fixed weight or one that follows a target. */
import { UserError } from "../runtime/errors.ts";
import { group, needs, type ResolvedSettings } from "../settings/index.ts";

const method = group("Method");
const adapted = { effect: needs("useAdaptiveEntropy") };

/** The bonus as settings, by TRL's names. */
export const entropySettings = {
  entropyCoef: method.float(0, "Weight of an entropy bonus: of the mean over an optimizer step's tokens, in nats", {
    min: 0,
    aka: ["entropy_coeff"],
  }),
  useAdaptiveEntropy: method.bool(false, "Let that weight follow the entropy: see entropy_target (Skywork-OR1)"),
  entropyTarget: method.float(0.2, "The bonus counts, and grows, where the entropy of a step is at most this", adapted),
  entropyCoefDelta: method.float(0.005, "What the weight grows or shrinks by after each optimizer step", {
    min: 0,
    exclusiveMin: true,
    ...adapted,
  }),
  entropyCoefMin: method.float(0, "The smallest weight", { min: 0, ...adapted }),
  entropyCoefMax: method.float(1, "The largest weight", { min: 0, ...adapted }),
};

/** The settings of an entropy bonus, resolved. */
export type EntropySettings = ResolvedSettings<typeof entropySettings>;

/** Throws a UserError for bounds that leave the weight nowhere to be. */
export function checkEntropy(o: EntropySettings, name: (key: keyof EntropySettings) => string): void {
  const { useAdaptiveEntropy, entropyCoef, entropyCoefMin: least, entropyCoefMax: most } = o;
  if (!useAdaptiveEntropy) return;
  if (least > most) {
    throw new UserError(`${name("entropyCoefMin")} ${least} is more than ${name("entropyCoefMax")} ${most}`);
  }
  if (entropyCoef > most) {
    throw new UserError(`${name("entropyCoef")} ${entropyCoef} is more than ${name("entropyCoefMax")} ${most}`);
  }
}

/** What checkpoints keep by this name. */
const STATE = "entropy_bonus";

/**
 * The weight of the bonus from one optimizer step to the next. One that adapts counts in a step where the entropy of the step
 * before was at most the target; it grows by `entropyCoefDelta` after such steps and shrinks by it after others (He et al. 2025).
 */
export class EntropyBonus {
  /** Whether losses have a bonus at all. */
  readonly on: boolean;
  #coef: number;
  #last: number | null = null;
  readonly #o: EntropySettings;

  constructor(o: EntropySettings) {
    this.on = o.entropyCoef !== 0 || o.useAdaptiveEntropy;
    this.#coef = o.entropyCoef;
    this.#o = o;
  }

  /** Whether each step's entropy must be known before the next step begins. */
  get adapts(): boolean {
    return this.#o.useAdaptiveEntropy;
  }

  /** The weight after the steps so far. */
  get coef(): number {
    return this.#coef;
  }

  /** What the bonus counts in the next step. */
  get applied(): number {
    if (!this.adapts) return this.#coef;
    return this.#last !== null && this.#last <= this.#o.entropyTarget ? this.#coef : 0;
  }

  /** Hears of an optimizer step's mean entropy, in nats per token. */
  took(entropy: number): void {
    const { entropyTarget, entropyCoefDelta: delta, entropyCoefMin, entropyCoefMax } = this.#o;
    if (!this.adapts) return;
    const moved = this.#coef + (entropy <= entropyTarget ? delta : -delta);
    this.#coef = Math.min(Math.max(moved, entropyCoefMin), entropyCoefMax);
    this.#last = entropy;
  }

  /** What checkpoints keep; nothing where the weight is fixed. */
  save(): Record<string, unknown> {
    return this.adapts ? { [STATE]: { coef: this.#coef, last: this.#last } } : {};
  }

  /** Takes what `save` gave. */
  load({ [STATE]: saved }: Record<string, unknown>): void {
    if (!this.adapts || !saved) return;
    const { coef, last } = saved as { coef: number; last: number | null };
    this.#coef = coef;
    this.#last = last;
  }
}
