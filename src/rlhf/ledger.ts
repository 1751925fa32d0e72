/** What a run learned and what it did not: steps without anything to learn, and optimizer steps that were skipped. */
import type { AdamW } from "../nn/optimizer.ts";
import { readControl } from "../nn/optimizer.ts";
import { UserError } from "../runtime/errors.ts";
import { spelled } from "../settings/index.ts";
import { onStandIn } from "../tensor/residency.ts";
import type { TrainEvent } from "./events.ts";

/** The smallest loss scale; above it skipped steps only mean that the scale is not found yet. */
const LOWEST_SCALE = 1;

interface Counts {
  /** Steps taken, and those of them in which nothing was learned. */
  steps: number;
  idle: number;
  /** Why nothing was learned in the last of these. */
  reason: string | null;
}

/** Keeps count over a run, across checkpoints, and says what a person should know of it. */
export class Ledger {
  private counts: Counts = { steps: 0, idle: 0, reason: null };
  private readonly optimizers: readonly AdamW[];
  private readonly settings: object;
  /** Optimizer steps skipped so far. */
  private skipped = 0;

  constructor(optimizers: readonly AdamW[], settings: object) {
    this.optimizers = optimizers;
    this.settings = settings;
  }

  /** What checkpoints keep. */
  save(): Counts {
    return { ...this.counts };
  }

  /** Goes on from a checkpoint, whose optimizers are restored already. Those of earlier versions kept no counts. */
  async load(saved: Partial<Counts> | undefined): Promise<void> {
    this.counts = { ...this.counts, ...saved };
    this.skipped = (await this.controls()).reduce((sum, { skipped }) => sum + skipped, 0);
  }

  /** Takes a step down, and warns where nothing was learned in it or an optimizer step was skipped. */
  note(step: number, metrics: Readonly<Record<string, number>>, idle: string | undefined): TrainEvent[] {
    const events: TrainEvent[] = [];
    const { counts } = this;
    counts.steps++;
    if (idle !== undefined) {
      counts.idle++;
      counts.reason = idle;
      events.push({ type: "warning", step, text: `nothing was learned in this step: ${idle}` });
    }
    const {
      skipped_steps: skipped = this.skipped,
      loss_scale = LOWEST_SCALE,
      critic_loss_scale = loss_scale,
    } = metrics;
    const scale = Math.min(loss_scale, critic_loss_scale);
    if (skipped > this.skipped && scale <= LOWEST_SCALE) {
      const text = `optimizer steps skipped: ${skipped - this.skipped} in this step, ${skipped} in all; ${gradients(metrics)}`;
      events.push({ type: "warning", step, text });
    }
    this.skipped = skipped;
    return events;
  }

  /**
   * The account of a whole run.
   * @throws UserError where nothing was learned at all, or most optimizer steps were skipped
   */
  async close(step: number): Promise<TrainEvent[]> {
    if (onStandIn()) return []; // nothing is computed there: it only measures memory
    const { steps, idle, reason } = this.counts;
    if (steps > 0 && idle === steps) throw new UserError(`nothing was learned in any of ${steps} steps: ${reason}`);
    const events: TrainEvent[] = [];
    const tell = (text: string) => events.push({ type: "note", step, text });
    if (idle > 0) tell(`nothing was learned in ${idle} of ${steps} steps`);
    for (const { steps: applied, skipped, lossScale } of await this.controls()) {
      if (skipped === 0) continue;
      const text = `${skipped} of ${applied + skipped} optimizer steps were skipped, as their gradients were not finite`;
      const searching = lossScale !== null && lossScale > LOWEST_SCALE && applied > 0;
      if (skipped > applied && !searching) {
        const [rate, norm] = [spelled(this.settings, "learningRate"), spelled(this.settings, "maxGradNorm")];
        throw new UserError(`${text}: lower ${rate} or ${norm}; the last checkpoint is untouched`);
      }
      tell(text);
    }
    return events;
  }

  private controls() {
    return Promise.all(this.optimizers.map(async ({ control }) => readControl(await control.read(), control.size)));
  }
}

/** What the gradients were, where a norm says it: of several steps only the last one's is known. */
function gradients(metrics: Readonly<Record<string, number>>): string {
  const norms = Object.entries(metrics).filter(([name]) => /(^|_)grad_norm$/.test(name));
  const odd = norms.filter(([, value]) => !Number.isFinite(value));
  return odd.length > 0 ? odd.map(([name, value]) => `${name} was ${value}`).join(", ") : "a gradient was not finite";
}
