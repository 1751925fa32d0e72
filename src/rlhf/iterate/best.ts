/** Which iteration of a run is the best by what is measured on held-out prompts. */
import type { CausalLM } from "../../nn/models.ts";
import { restoreTrained } from "../../nn/trained.ts";
import { UserError } from "../../runtime/errors.ts";
import type { Files } from "../../runtime/files.ts";
import { type Best, BestEvaluation, bestAsked } from "../best.ts";
import type { TrainEvent } from "../events.ts";
import type { BestChoice } from "../settings.ts";
import { type Finished, HELD_OUT } from "./finished.ts";

/** Follows the iterations, of which each keeps its model. What it knows it finds again in what they leave. */
export class BestIteration {
  private readonly evaluation: BestEvaluation | null;
  private iteration = 0;

  /** @throws UserError where the best is asked for and there are no held-out prompts */
  constructor(o: BestChoice, heldOut: number) {
    this.evaluation = BestEvaluation.of(o);
    if (!this.evaluation || heldOut > 0) return;
    throw new UserError(
      `${bestAsked(o)} needs held-out prompts to compare iterations by: name a dataset for them, or leave it out`,
    );
  }

  /** Whether the iterations that are left are in vain. */
  get exhausted(): boolean {
    return this.evaluation?.exhausted ?? false;
  }

  /** The best so far. */
  get found(): Best | null {
    return this.evaluation?.found ?? null;
  }

  /** Takes an iteration down, and gives the best so far. The start, 0, is none of the models to choose from. */
  take({ iteration, metrics }: Finished, step: number): Best | null {
    const held = Object.fromEntries(Object.entries(metrics).filter(([name]) => name.startsWith(HELD_OUT)));
    if (iteration === 0) this.evaluation?.metricOf(held);
    else if (this.evaluation?.take(step, held, `iteration_${iteration}/model`)) this.iteration = iteration;
    return this.found;
  }

  /**
   * Brings the best iteration's model back where that is asked for, and says what there is to say at the end.
   * @param early whether iterations are left
   * @returns what the run's last event says of it
   */
  async *end(
    policy: CausalLM,
    files: Files,
    path: string,
    step: number,
    early: boolean,
  ): AsyncGenerator<TrainEvent, { best?: Best; stoppedEarly?: boolean }> {
    const { evaluation, found } = this;
    if (early && evaluation) yield { type: "note", step, text: evaluation.reason };
    const outcome = { ...(found && { best: found }), ...(early && { stoppedEarly: true }) };
    if (!evaluation?.loads) return outcome;
    if (!found?.checkpoint) {
      const text = "no iteration gave a finite number to compare: the last weights are kept";
      yield { type: "warning", step, text };
      return outcome;
    }
    await restoreTrained(policy, files, `${path}/${found.checkpoint}`);
    const text = `the finished weights are those of iteration ${this.iteration}, which evaluated best: ${found.metric} ${found.value}`;
    yield { type: "note", step, text };
    return outcome;
  }
}

/** What makes one iteration's training look for no best of its own: iterations are compared, not their steps. */
export const wholeIterations = { loadBestModelAtEnd: false, earlyStoppingPatience: null };
