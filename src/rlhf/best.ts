/** Which evaluation of a run is the best so far, and whether going on is in vain. */
import { UserError } from "../runtime/errors.ts";
import { spelled } from "../settings/index.ts";
import type { BestChoice } from "./settings.ts";

/** The evaluation that was the best of a run. */
export interface Best {
  /** The number that decides, as evaluations report it: "eval_loss". */
  readonly metric: string;
  readonly value: number;
  readonly step: number;
  /** The folder that keeps its models, under the run's own; a path where it is another run's. Absent where none does. */
  readonly checkpoint?: string;
}

/** The folder of the best evaluation's models in a run at `path`; another run's is a path already. */
export const bestFolder = (path: string, checkpoint: string): string =>
  checkpoint.includes("/") ? checkpoint : `${path}/${checkpoint}`;

/** What checkpoints keep. */
interface Saved {
  /** The settings by which the best was found. */
  metric: string | null;
  greater: boolean | null;
  best: Best | null;
  /** Evaluations in a row without an improvement. */
  vain: number;
}

/** The setting that asks for the best evaluation of a run, by its spelling; null where none does. */
export function bestAsked(o: BestChoice): string | null {
  if (o.loadBestModelAtEnd) return spelled(o, "loadBestModelAtEnd");
  const { earlyStoppingPatience: patience = null } = o;
  return patience === null ? null : `${spelled(o, "earlyStoppingPatience")} ${patience}`;
}

/** Numbers that decide where no setting names one: the first that evaluations report. */
const USUAL = ["loss", "accuracy", "reward"];
/** What "accuracy" is called where evaluations have several. */
const ACCURACIES = ["accuracy", "mean_token_accuracy", "rewards/accuracies"];

/** A metric's name without what says that it was measured on held-out data. */
const bare = (name: string): string => name.replace(/^(eval[_/])?(heldout_)?/, "");

/** Follows a run's evaluations. */
export class BestEvaluation {
  /** Whether the weights of the best evaluation are wanted in the end. */
  readonly loads: boolean;
  private readonly settings: BestChoice;
  private best: Best | null = null;
  private vain = 0;

  private constructor(settings: BestChoice) {
    this.settings = settings;
    this.loads = settings.loadBestModelAtEnd ?? false;
  }

  /** Follows what settings ask for; null where they do not. */
  static of(settings: BestChoice): BestEvaluation | null {
    return bestAsked(settings) === null ? null : new BestEvaluation(settings);
  }

  /** The best evaluation so far. */
  get found(): Best | null {
    if (this.best === null || this.loads) return this.best;
    const { checkpoint: _, ...rest } = this.best;
    return rest;
  }

  /** The step of the checkpoint that the run's own folder must keep; null where there is none. */
  get spared(): number | null {
    const { found } = this;
    return found?.checkpoint === `checkpoint-${found?.step}` ? (found?.step ?? null) : null;
  }

  /** Whether so many evaluations brought no improvement that the run is to stop. */
  get exhausted(): boolean {
    const { earlyStoppingPatience: patience = null } = this.settings;
    return patience !== null && this.vain >= patience;
  }

  /** Why the run stops early, in words. */
  get reason(): string {
    const { earlyStoppingThreshold: least = 0 } = this.settings;
    const more = least > 0 ? ` by more than ${least}` : "";
    const than = this.best ? `${this.best.metric} was not better${more}` : "no number to compare was finite";
    return `stopped early: ${than} in ${this.vain} evaluation${this.vain === 1 ? "" : "s"} in a row`;
  }

  /**
   * Takes an evaluation down. Returns whether it is the best so far, which what is not finite never is.
   * @param checkpoint the folder that keeps the models if it is
   * @throws UserError where the evaluation does not report the metric, naming those that it does
   */
  take(step: number, metrics: Readonly<Record<string, number>>, checkpoint?: string): boolean {
    const metric = this.metricOf(metrics);
    const value = metrics[metric];
    const gain = this.gain(metric, value);
    this.vain = gain > (this.settings.earlyStoppingThreshold ?? 0) ? 0 : this.vain + 1;
    if (!(gain > 0)) return false;
    this.best = { metric, value, step, ...(this.loads && checkpoint !== undefined && { checkpoint }) };
    return true;
  }

  /** The name under which evaluations report what decides. Throws as `take`. */
  metricOf(metrics: Readonly<Record<string, number>>): string {
    const { metricForBestModel: asked = null } = this.settings;
    const wanted = asked === null ? USUAL : [bare(asked), ...(bare(asked) === "accuracy" ? ACCURACIES : [])];
    const names = Object.keys(metrics);
    for (const name of wanted) {
      const found = names.find((one) => one === asked) ?? names.find((one) => bare(one) === name);
      if (found !== undefined) return found;
    }
    const setting = spelled(this.settings, "metricForBestModel");
    const what = asked === null ? `${setting} must be named` : `${setting} ${asked} is not among what is evaluated`;
    throw new UserError(`${what}: evaluations of this run report ${names.join(", ") || "nothing"}`);
  }

  /** By how much a value is better than the best; the first finite one is so beyond all measure, and what is not finite never. */
  private gain(metric: string, value: number): number {
    if (!Number.isFinite(value)) return Number.NEGATIVE_INFINITY;
    if (this.best === null) return Number.POSITIVE_INFINITY;
    const greater = this.settings.greaterIsBetter ?? !/(loss|kl)$/.test(metric);
    return greater ? value - this.best.value : this.best.value - value;
  }

  /** What checkpoints keep. */
  save(): Saved {
    const { metricForBestModel: metric = null, greaterIsBetter: greater = null } = this.settings;
    return { metric, greater, best: this.best, vain: this.vain };
  }

  /**
   * Goes on from a checkpoint.
   * @param source the folder of the run that it is of, where that is another one
   * @param kept whether a folder of models is there
   * @returns what is worth a warning; null where nothing is
   */
  async load(
    saved: Saved | undefined,
    source: string | null,
    kept: (checkpoint: string) => Promise<boolean>,
  ): Promise<string | null> {
    if (!saved) return null;
    const now = this.save();
    if (saved.metric !== now.metric || saved.greater !== now.greater) {
      return "evaluations are compared by another metric than before: the best is looked for anew from here";
    }
    let { best } = saved;
    if (best && this.loads) {
      const { metric, value, step, checkpoint: own = `checkpoint-${step}` } = best;
      const checkpoint = source === null ? own : bestFolder(source, own);
      if (!(await kept(checkpoint))) {
        return `${checkpoint} is missing, the best until here (${metric} ${value}): the best is looked for anew from here`;
      }
      best = { ...best, checkpoint };
    }
    this.best = best;
    this.vain = saved.vain;
    return null;
  }
}
