/** Opens a step of policy-gradient training up: tells of its parts as they are done, and keeps the rows of its responses. */
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import type { TrainEvent } from "./events.ts";
import type { Taken } from "./minibatches.ts";
import type { Rollout, RolloutInputs } from "./rollout.ts";
import type { Phase, PolicyUpdate, RolloutRow, ValueUpdate } from "./rollout-rows.ts";
import type { Response } from "./sampler.ts";
import type { Tell } from "./telling.ts";

type Learned = { response: Response };
type Measured = Promise<readonly ArrayLike<number>[]>;

/** Of a response; with a critic its values and returns, too. */
interface Estimate {
  advantages: ArrayLike<number>;
  values?: ArrayLike<number>;
  returns?: ArrayLike<number>;
}

/** What an update of the policy is measured by. */
export interface PolicyMeasures {
  logProbs: (shown: readonly Response[]) => Measured;
  /** The ratios of a response's tokens from the changes of their log-probabilities; default: of each token. */
  ratios?: (changes: readonly number[]) => number[];
  clipped: (ratio: number, advantage: number) => boolean;
}

/** What an update of the critic is measured by. */
export interface ValueMeasures {
  /** `slots`: the values that each response has. */
  values: (shown: readonly Response[], slots: readonly number[]) => Measured;
  clipRange: number;
}

/** A step whose first responses are shown, from sampling to the last update. Measuring them changes nothing of the step. */
export class Opened {
  readonly #step: number;
  readonly #count: number;
  readonly #tokenizer: TextTokenizer;
  readonly #tell: Tell;
  #klCoef = 0;
  #responses: readonly Response[] = [];
  #rows: RolloutRow[] = [];

  /** @param step counted from 1, as events count */
  private constructor(step: number, count: number, tokenizer: TextTokenizer, tell: Tell) {
    this.#step = step;
    this.#count = count;
    this.#tokenizer = tokenizer;
    this.#tell = tell;
  }

  /** Null where no response is to be shown. */
  static of(
    { showRollouts }: { showRollouts: number },
    step: number,
    tokenizer: TextTokenizer,
    tell: Tell,
  ): Opened | null {
    return showRollouts > 0 ? new Opened(step, showRollouts, tokenizer, tell) : null;
  }

  /** What a rollout is to be given. */
  get hears(): Required<Pick<RolloutInputs, "sampled">> {
    return { sampled: (responses, logProbs) => this.#sampled(responses, logProbs) };
  }

  async #sampled(responses: readonly Response[], logProbs: readonly Float32Array[]): Promise<void> {
    this.#responses = responses.slice(0, this.#count);
    const rows = this.#responses.map((response, i) => {
      const all = Array.from(response.ids.subarray(response.promptLength));
      const written = (_: unknown, t: number) => response.learned?.[response.promptLength + t] !== 0;
      return {
        prompt: response.promptText,
        response: response.text,
        ended: response.ended,
        ids: all.filter(written),
        texts: pieces(all, this.#tokenizer).filter(written),
        logProbs: Array.from(logProbs[i]),
      };
    });
    this.#rows = rows.map((row) => ({ ...row, score: 0, finalScore: 0, rewards: [], advantages: [], updates: [] }));
    await this.#say({ phase: "sample", rows });
  }

  /** @param compared whether there is a reference */
  async scored({ scores, finalScores, refLogProbs, kl, klCoef }: Rollout, compared: boolean): Promise<void> {
    this.#klCoef = klCoef;
    const rows = this.#found((i) => ({
      score: scores[i],
      finalScore: finalScores[i],
      ...(compared && { refLogProbs: Array.from(refLogProbs[i]), kl: Array.from(kl[i]) }),
    }));
    await this.#say({ phase: "score", klCoef, rows });
  }

  /** @param estimates of every response of the rollout */
  async estimated(rewards: Rollout["rewards"], estimates: readonly Estimate[]): Promise<void> {
    const rows = this.#found((i) => {
      const { advantages, values, returns } = estimates[i];
      return {
        rewards: Array.from(rewards[i]),
        advantages: Array.from(advantages),
        ...(values && returns && { values: Array.from(values), returns: Array.from(returns) }),
      };
    });
    await this.#say({ phase: "advantage", rows });
  }

  /** Measures the policy as it is now; what it gives hears of each optimizer step on the rollout. */
  async policyUpdates({ logProbs: measure, ratios = each, clipped }: PolicyMeasures): Promise<Taken<Learned>> {
    const found = async (learned: (response: Response) => boolean): Promise<PolicyUpdate[]> => {
      const measured = await measure(this.#responses);
      return this.#rows.map(({ logProbs: before, advantages }, i) => {
        const logProbs = Array.from(measured[i]);
        const own = ratios(logProbs.map((logProb, t) => logProb - before[t]));
        const bound = own.map((ratio, t) => clipped(ratio, advantages[t]));
        return { learned: learned(this.#responses[i]), logProbs, ratios: own, clipped: bound };
      });
    };
    for (const [i, row] of (await found(() => false)).entries()) this.#rows[i].updates.push(row);
    return async ({ parts, ...place }) => {
      const rows = await found(among(parts));
      for (const [i, row] of rows.entries()) this.#rows[i].updates.push(row);
      await this.#say({ phase: "update", model: "policy", ...place, rows });
    };
  }

  /** Measures the critic as it is now; what it gives hears of each optimizer step on the rollout. */
  async valueUpdates({ values: measure, clipRange }: ValueMeasures): Promise<Taken<Learned>> {
    const found = async (learned: (response: Response) => boolean): Promise<ValueUpdate[]> => {
      const slots = this.#rows.map(({ rewards }) => rewards.length);
      const measured = await measure(this.#responses, slots);
      return this.#rows.map(({ values: before = [], returns = [] }, i) => {
        const values = Array.from(measured[i]);
        const clipped = values.map((value, t) => {
          const held = Math.min(Math.max(value, before[t] - clipRange), before[t] + clipRange);
          return Math.abs(held - returns[t]) > Math.abs(value - returns[t]);
        });
        return { learned: learned(this.#responses[i]), values, clipped };
      });
    };
    const first = await found(() => false);
    for (const [i, row] of first.entries()) this.#rows[i].valueUpdates = [row];
    return async ({ parts, ...place }) => {
      const rows = await found(among(parts));
      for (const [i, row] of rows.entries()) this.#rows[i].valueUpdates?.push(row);
      await this.#say({ phase: "update", model: "critic", ...place, rows });
    };
  }

  /** The rows as a whole, for the end of the step. */
  get event(): TrainEvent {
    return { type: "rollout", step: this.#step, klCoef: this.#klCoef, rows: this.#rows };
  }

  /** Adds to the rows what was found of each response. */
  #found<T extends Partial<RolloutRow>>(of: (response: number) => T): T[] {
    return this.#rows.map((row, i) => {
      const found = of(i);
      Object.assign(row, found);
      return found;
    });
  }

  #say(phase: Phase): Promise<void> {
    return this.#tell({ type: "phase", step: this.#step, ...phase });
  }
}

const each = (changes: readonly number[]): number[] => changes.map(Math.exp);

const among = (parts: readonly (readonly Learned[])[]) => (response: Response) =>
  parts.some((part) => part.some((learned) => learned.response === response));

/** What each token adds to the text; the pieces together are the text. */
function pieces(ids: readonly number[], tokenizer: TextTokenizer): string[] {
  let shown = 0;
  return ids.map((_, t) => {
    const text = tokenizer.decode(ids.slice(0, t + 1), { skipSpecialTokens: false, continued: true });
    // The bytes of an unfinished character wait for the rest.
    if (text.endsWith("\ufffd") && t + 1 < ids.length) return "";
    const fresh = text.slice(shown);
    shown = text.length;
    return fresh;
  });
}
