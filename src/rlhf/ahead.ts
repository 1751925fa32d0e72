/**
 * Sampling that runs ahead of learning. Iteration i is drawn by the policy after i - k updates, so that others may draw while the
 * policy learns from what is there. Which policy draws what follows from the settings alone: the same run gives the same bits
 * whoever draws, and a run that was stopped goes on with what was drawn ahead.
 */
import { adapterWires } from "../nn/adapter-wire.ts";
import type { CausalLM } from "../nn/models.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import { marked, unmarked } from "../runtime/typed-json.ts";
import { needs, type ResolvedSettings, spelled } from "../settings/index.ts";
import { type JobResult, jobsOf, type SamplingJob } from "./jobs.ts";
import { roundedSource } from "./rounded-source.ts";
import { type Prompt, type Response, responsesOf, type Sampler, type SamplingOptions } from "./sampler.ts";
import { rollout } from "./settings.ts";
import { localSource, type RolloutSource } from "./source.ts";

/** How far sampling runs ahead, and how it is cut; names are those of TRL's AsyncGRPO where it has them. */
export const aheadSettings = {
  maxStaleness: rollout.int(0, "Updates that a policy may be behind when it draws: others draw so far ahead", {
    min: 0,
  }),
  weightSyncSteps: rollout.int(1, "Updates between the policies that are handed to whom draws", {
    min: 1,
    effect: needs("maxStaleness"),
  }),
  loraWire: rollout.choice(
    adapterWires,
    "f32",
    "How the adapter is handed to whom draws: f16 and int8 take a half and a quarter of the bytes, and the rounded adapter draws",
  ),
  promptsPerJob: rollout.int(null, "Prompts that are drawn together; default: 256 responses, which fill a GPU", {
    min: 1,
  }),
};

/** The settings of sampling ahead, resolved. */
export type AheadSettings = ResolvedSettings<typeof aheadSettings>;

/** Throws a UserError for policies that are handed over too rarely for the staleness that is allowed. */
export function checkAhead(o: AheadSettings, name: (key: keyof AheadSettings) => string): void {
  const { maxStaleness, weightSyncSteps } = o;
  if (weightSyncSteps - 1 <= maxStaleness) return;
  throw new UserError(
    `with ${name("weightSyncSteps")} ${weightSyncSteps} a policy is up to ${weightSyncSteps - 1} updates behind when it draws: ` +
      `set ${name("maxStaleness")} to at least that`,
  );
}

/** Throws a UserError where a function of somebody's own draws, which is called when an iteration begins, and is to draw ahead. */
export function refuseAhead(o: AheadSettings): void {
  if (o.loraWire !== "f32") {
    throw new UserError(
      `${spelled(o, "loraWire")} ${o.loraWire}: a sampler that is a function is handed no adapter; give a source`,
    );
  }
  if (o.maxStaleness === 0) return;
  throw new UserError(
    `${spelled(o, "maxStaleness")} ${o.maxStaleness}: a sampler that is a function cannot draw ahead; give a source`,
  );
}

/** Throws a UserError for a source that does not measure log-probabilities as they are needed. */
export function refuseUnmeasured({ measuresAt }: RolloutSource, measuredAt: number | null, o: AheadSettings): void {
  if (measuredAt === null || measuresAt === undefined || measuresAt === measuredAt) return;
  throw new UserError(
    `whoever draws measures log-probabilities at the temperature ${measuresAt} alone, and losses take them at ` +
      `${measuredAt}: set ${spelled(o, "temperature")} to ${measuresAt}, or ${spelled(o, "maxStaleness")} to 0`,
  );
}

/** The updates of the policy that draws an iteration. */
export function versionOf(
  iteration: number,
  { maxStaleness, weightSyncSteps: every }: Pick<AheadSettings, "maxStaleness" | "weightSyncSteps">,
): number {
  // The oldest response before the next policy comes is exactly as old as it may be.
  const newest = iteration - (maxStaleness - every + 1);
  return Math.max(0, Math.floor(newest / every) * every);
}

/** What an iteration draws. */
export interface Draws {
  prompts: readonly Prompt[];
  /** Stable numbers of the prompts. */
  promptIds: readonly number[];
  options: SamplingOptions;
}

/** A run as it is drawn for. */
export interface AheadRun {
  /** Who draws: the policy, or what follows it. */
  policy: CausalLM;
  tokenizer: TextTokenizer;
  /** Iterations of the run. */
  maxSteps: number;
  /** Temperature that the log-probabilities of whom draws are needed at; null where nobody needs them. */
  measuredAt: number | null;
  /** What an iteration that is still to come draws. */
  upcoming(iteration: number): Draws;
}

/** What checkpoints keep by this name. */
const STATE = "ahead";

/** What a checkpoint keeps of something. */
export interface State {
  save(): Record<string, unknown> | Promise<Record<string, unknown>>;
  load(saved: Record<string, unknown>): void;
}

/** An iteration that a source was asked for. */
interface Requested {
  /** The first prompt of each job, by the job's id. */
  firsts: ReadonlyMap<string, number>;
  /** What has come of it so far. */
  arrived: JobResult[];
  /** Hears of what comes from now on. */
  hears: ((result: JobResult) => Promise<void>) | null;
}

/** Draws a run's iterations, each by the policy whose turn it is. */
export class Ahead {
  /** Called at the beginning of an iteration, with the policy as it is then; draws what is to be drawn of it ahead, too. */
  readonly sampler: Sampler;
  readonly #source: RolloutSource;
  readonly #run: AheadRun;
  readonly #settings: AheadSettings;
  /** What was drawn and is kept here. */
  readonly #drawn = new Map<number, JobResult[]>();
  /** What the source was asked for. */
  readonly #requested = new Map<number, Requested>();
  #published: number | null = null;

  /**
   * @param models who draws: by a function of one's own, or by a source; default: the policy, here
   * @throws UserError where they cannot draw ahead
   */
  constructor(
    models: { sampler?: Sampler | undefined; source?: RolloutSource | undefined },
    run: AheadRun,
    o: AheadSettings,
  ) {
    const { sampler, source = localSource() } = models;
    const { measuredAt } = run;
    if (sampler) refuseAhead(o);
    else refuseUnmeasured(source, measuredAt, o);
    this.#source = roundedSource(source, o);
    this.#run = run;
    this.#settings = o;
    this.sampler = sampler ?? ((prompts, promptIds, options) => this.#draw(prompts, promptIds, options));
  }

  /** What checkpoints keep: a trainer's own state, and what was drawn ahead. */
  state(own?: State): State {
    return {
      save: async () => ({ ...(await own?.save()), ...(await this.#save()) }),
      load: ({ [STATE]: ahead, ...saved }) => {
        own?.load(saved);
        this.#drawn.clear();
        for (const [iteration, results] of (unmarked(ahead) as [number, JobResult[]][] | undefined) ?? []) {
          this.#drawn.set(iteration, results);
        }
      },
    };
  }

  /** What steps are told of: nothing, as nothing is dropped. */
  metrics = (): Record<string, number> => ({});

  /** Gives up what is under way. */
  async close(): Promise<void> {
    await this.#source.close?.();
  }

  async #draw(prompts: readonly Prompt[], promptIds: ArrayLike<number>, options: SamplingOptions) {
    const { iteration, samples = 1, onResponses } = options;
    await this.#request(iteration, { prompts, promptIds: Array.from(promptIds), options });
    const made = new Map<JobResult, Response[]>();
    const responsesTo = (result: JobResult, first: number): Response[] => {
      const own = prompts.slice(first, first + result.responses.length / samples);
      const responses =
        made.get(result) ??
        responsesOf(this.#run.tokenizer, own, [result], samples).map((r) => ({ ...r, prompt: first + r.prompt }));
      made.set(result, responses);
      return responses;
    };
    const told = new Set<string>();
    const tell = async (result: JobResult, first: number) => {
      if (told.has(result.id)) return;
      told.add(result.id);
      await onResponses?.(responsesTo(result, first));
    };
    const requested = this.#requested.get(iteration);
    if (requested && onResponses) {
      const tellOf = (result: JobResult) => tell(result, requested.firsts.get(result.id) as number);
      for (const result of requested.arrived) await tellOf(result); // more may come meanwhile
      requested.hears = tellOf;
    }
    const results = this.#drawn.get(iteration) ?? (await this.#taken(iteration));
    this.#drawn.delete(iteration);
    const responses: Response[] = [];
    for (const result of results) {
      const first = responses.length / samples;
      await tell(result, first);
      responses.push(...responsesTo(result, first));
    }
    return responses;
  }

  /** Asks for everything that the policy, after so many updates, is to draw and that is not there. */
  async #request(step: number, now: Draws): Promise<void> {
    const { policy, maxSteps, upcoming } = this.#run;
    const { maxStaleness, weightSyncSteps, promptsPerJob } = this.#settings;
    const last = Math.min(step + maxStaleness, maxSteps - 1);
    for (let iteration = step; iteration <= last; iteration++) {
      if (this.#drawn.has(iteration) || this.#requested.has(iteration)) continue;
      if (versionOf(iteration, this.#settings) > step) continue;
      if (this.#published === null || (step % weightSyncSteps === 0 && this.#published !== step)) {
        await this.#source.publish(step, policy);
        this.#published = step;
      }
      // What was lost on the way is drawn by the policy of now.
      const version = this.#published;
      const size = promptsPerJob ?? this.#source.promptsPerJob ?? null;
      const jobs = cut(iteration === step ? now : upcoming(iteration), { iteration, version, size }, this.#run);
      const requested: Requested = { firsts: firstPrompts(jobs), arrived: [], hears: null };
      await this.#source.request(iteration, jobs, {
        async arrived(result) {
          requested.arrived.push(result);
          await requested.hears?.(result);
        },
      });
      this.#requested.set(iteration, requested);
    }
  }

  async #taken(iteration: number): Promise<JobResult[]> {
    this.#requested.delete(iteration);
    return this.#source.take(iteration);
  }

  /** Waits for what is under way: whoever goes on from here has not the policy that drew it. */
  async #save(): Promise<Record<string, unknown>> {
    for (const iteration of [...this.#requested.keys()]) {
      // What fails is asked for again when its turn comes, and fails there if it must.
      const results = await this.#taken(iteration).catch(() => null);
      if (results) this.#drawn.set(iteration, results);
    }
    return this.#drawn.size > 0 ? { [STATE]: marked([...this.#drawn]) } : {};
  }
}

/** The jobs of an iteration, for the policy of a version, of so many prompts each; null: what fills a GPU. */
export function cut(
  { prompts, promptIds, options }: Draws,
  { iteration, version, size }: { iteration: number; version: number; size: number | null },
  { policy, measuredAt }: Pick<AheadRun, "policy" | "measuredAt">,
): SamplingJob[] {
  const { onResponses: _, signal: __, ...sampling } = options;
  const ids = prompts.map((prompt) => prompt.ids);
  return jobsOf(ids, promptIds, {
    ...sampling,
    iteration,
    version,
    promptsPerJob: size,
    ...(measuredAt !== null && { measuredAt }),
    half: policy.half,
    kvCache: policy.kvCache,
    batchInvariant: policy.batchInvariant,
  });
}

/** The first prompt of each job, by the job's id. */
export function firstPrompts(jobs: readonly SamplingJob[]): Map<string, number> {
  let first = 0;
  return new Map(
    jobs.map(({ id, prompts }) => {
      const own = first;
      first += prompts.length;
      return [id, own];
    }),
  );
}
