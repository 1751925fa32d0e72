/**
 * Responses in any order: an iteration learns from whatever is finished, as long as the policy that drew it is new enough. A
 * response of version v is learned from in iteration i only while i - v is at most `max_staleness`; of version v no more is handed
 * out than the iterations up to v + `max_staleness` take, so that what is drawn in time is used. Prompts come in the order of the data
 * as far as whoever draws is equally fast, each as often as there. What comes when is a matter of time: no two runs are the same.
 */
import { UserError } from "../runtime/errors.ts";
import { marked, unmarked } from "../runtime/typed-json.ts";
import { type ResolvedSettings, spelled } from "../settings/index.ts";
import {
  Ahead,
  type AheadRun,
  type AheadSettings,
  cut,
  type Draws,
  firstPrompts,
  refuseAhead,
  refuseUnmeasured,
  type State,
} from "./ahead.ts";
import type { JobResponse, JobResult, SamplingJob } from "./jobs.ts";
import { roundedSource } from "./rounded-source.ts";
import { type Prompt, type Response, responsesOf, type Sampler, type SamplingOptions } from "./sampler.ts";
import { rollout } from "./settings.ts";
import type { ResultStream, RolloutSource } from "./source.ts";

/** The setting of which responses an iteration learns from. */
export const orderSettings = {
  rolloutOrder: rollout.choice(
    ["exact", "any"],
    "exact",
    "Learn from responses of one policy, the same in every run, or in a cluster from any finished ones that are new enough: no two runs are the same",
  ),
};

/** The settings of the order, resolved. */
export type OrderSettings = ResolvedSettings<typeof orderSettings>;

/** Throws a UserError where any order is asked for, and only one is new enough. */
export function checkOrder(
  o: OrderSettings & AheadSettings,
  name: (key: keyof (OrderSettings & AheadSettings)) => string,
): void {
  if (o.rolloutOrder === "exact" || o.maxStaleness > 0) return;
  throw new UserError(
    `${name("rolloutOrder")} any with ${name("maxStaleness")} 0: only the newest policy's responses would count, and those are the ` +
      `same in any order: set ${name("maxStaleness")} to 1 or more, or leave ${name("rolloutOrder")} out`,
  );
}

/** Draws a run's iterations, in the order that the settings name. */
export const drawing = (
  models: { sampler?: Sampler | undefined; source?: RolloutSource | undefined },
  run: AheadRun,
  o: AheadSettings & OrderSettings,
): Ahead | AnyOrder => (o.rolloutOrder === "any" ? new AnyOrder(models, run, o) : new Ahead(models, run, o));

/** What checkpoints keep by this name. */
const STATE = "any_order";

/** The responses to one prompt. */
interface Group {
  /** Their job, and the prompt's place in it. */
  id: string;
  place: number;
  version: number;
  responses: JobResponse[];
}

/** An iteration as the data has it. */
interface Planned {
  prompts: readonly Prompt[];
  jobs: Map<string, SamplingJob>;
  ids: string[];
  firsts: ReadonlyMap<string, number>;
}

/** Gives an iteration the oldest responses that are new enough. */
export class AnyOrder {
  /** Called at the beginning of an iteration, with the policy as it is then. What it is asked for says how many prompts. */
  readonly sampler: Sampler;
  readonly #source: RolloutSource;
  readonly #run: AheadRun;
  readonly #settings: AheadSettings;
  #stream: ResultStream | null = null;
  /** Finished, the oldest policy's first. */
  #ready: Group[] = [];
  #underWay = new Map<string, SamplingJob>();
  /** Jobs that were given up, by their ids: another policy draws them. */
  #again: string[] = [];
  /** The next job by the order of the data: its iteration, and its number there. */
  #next: [iteration: number, number: number] = [0, 0];
  #published: number | null = null;
  /** The iteration that is drawn for, or was last, and how many prompts it lacks. */
  #step = 0;
  #wanting = 0;
  #pausing = false;
  #dropped = 0;
  readonly #planned = new Map<number, Planned>();

  /** @throws UserError where nobody draws who can do so in any order */
  constructor(
    { sampler, source }: { sampler?: Sampler | undefined; source?: RolloutSource | undefined },
    run: AheadRun,
    o: AheadSettings,
  ) {
    if (sampler) refuseAhead(o);
    if (!source?.stream) {
      throw new UserError(
        `${spelled(o, "rolloutOrder")} any takes responses as a cluster's workers finish them: name a cluster, or leave it out`,
      );
    }
    refuseUnmeasured(source, run.measuredAt, o);
    this.#source = roundedSource(source, o);
    this.#run = run;
    this.#settings = o;
    this.sampler = (prompts, _, options) => this.#draw(prompts.length, options);
  }

  /** What checkpoints keep: a trainer's own state, what is ready, and what is still to be drawn. */
  state(own?: State): State {
    return {
      save: async () => ({ ...(await own?.save()), [STATE]: await this.#save() }),
      load: ({ [STATE]: kept, ...saved }) => {
        own?.load(saved);
        const { ready = [], again = [], next = [0, 0] } = (unmarked(kept) ?? {}) as Partial<Kept>;
        this.#ready = ready;
        this.#again = again;
        this.#next = next;
      },
    };
  }

  /** What steps are told of, since the last time: how many responses were dropped, as they would have come too late. */
  metrics(): Record<string, number> {
    const dropped = this.#dropped;
    this.#dropped = 0;
    return { "rollouts/stale_dropped": dropped };
  }

  /** Gives up what is under way. */
  async close(): Promise<void> {
    await this.#source.close?.();
  }

  async #draw(wanted: number, { iteration: step, samples = 1, onResponses }: SamplingOptions): Promise<Response[]> {
    const { policy, tokenizer } = this.#run;
    this.#step = step;
    this.#wanting = wanted;
    if (this.#published === null || (step % this.#settings.weightSyncSteps === 0 && this.#published !== step)) {
      await this.#source.publish(step, policy);
      this.#published = step;
    }
    if (this.#next[0] < step && this.#ready.length + this.#underWay.size + this.#again.length === 0) {
      this.#next = [step, 0]; // a run that goes on from one of another order
    }
    const stream = await this.#streaming();
    await this.#drop(stream, step - this.#settings.maxStaleness, samples);
    this.#forget();
    stream.more();
    const responses: Response[] = [];
    while (this.#wanting > 0) {
      const some: Response[] = [];
      for (const { id, place, version, responses } of this.#ready.splice(0, this.#wanting)) {
        const { prompts, firsts } = this.#plan(iterationOf(id));
        const own = prompts[(firsts.get(id) as number) + place];
        const drawn = responsesOf(tokenizer, [own], [{ id, version, responses }], samples);
        const prompt = wanted - this.#wanting--;
        some.push(...drawn.map((response) => ({ ...response, prompt })));
      }
      if (some.length > 0) await onResponses?.(some);
      responses.push(...some);
      if (this.#wanting > 0) this.#arrived(await stream.take());
    }
    return responses;
  }

  async #streaming(): Promise<ResultStream> {
    this.#stream ??= this.#source.stream?.(() => this.#job()) ?? null;
    if (!this.#stream) throw new Error("a source that cannot draw in any order");
    return this.#stream;
  }

  /** The next job to hand out; null where whoever draws it would draw what nobody takes. */
  #job(): SamplingJob | null {
    const version = this.#published;
    if (version === null || this.#pausing) return null;
    const id = this.#again.shift() ?? this.#fresh(version);
    if (id === null) return null;
    const job = { ...(this.#plan(iterationOf(id)).jobs.get(id) as SamplingJob), version };
    this.#underWay.set(id, job);
    return job;
  }

  /** The next job of the data, where those of before are not enough for the iterations that may use it. */
  #fresh(version: number): string | null {
    const last = Math.min(version + this.#settings.maxStaleness, this.#run.maxSteps - 1);
    let room = this.#wanting - this.#ready.length;
    for (let iteration = this.#step + 1; iteration <= last; iteration++) room += this.#plan(iteration).prompts.length;
    for (const { prompts } of this.#underWay.values()) room -= prompts.length;
    if (room <= 0) return null;
    if (this.#next[1] === this.#plan(this.#next[0]).ids.length) this.#next = [this.#next[0] + 1, 0];
    const [iteration, number] = this.#next;
    this.#next = [iteration, number + 1];
    return this.#plan(iteration).ids[number];
  }

  #plan(iteration: number): Planned {
    const known = this.#planned.get(iteration);
    if (known) return known;
    const draws: Draws = this.#run.upcoming(iteration);
    const size = this.#settings.promptsPerJob ?? this.#source.promptsPerJob ?? null;
    const jobs = cut(draws, { iteration, version: 0, size }, this.#run);
    const planned = {
      prompts: draws.prompts,
      jobs: new Map(jobs.map((job) => [job.id, job])),
      ids: jobs.map(({ id }) => id),
      firsts: firstPrompts(jobs),
    };
    this.#planned.set(iteration, planned);
    return planned;
  }

  /** Forgets the iterations of which everything was used. */
  #forget(): void {
    const open = [...this.#ready.map(({ id }) => id), ...this.#again, ...this.#underWay.keys()].map(iterationOf);
    const first = open.reduce((a, b) => Math.min(a, b), this.#next[0]);
    for (const iteration of this.#planned.keys()) if (iteration < first) this.#planned.delete(iteration);
  }

  /** Gives up what policies older than `oldest` are still drawing. What they have drawn is used before it is too old. */
  async #drop(stream: ResultStream, oldest: number, samples: number): Promise<void> {
    const late = [...this.#underWay.values()].filter(({ version }) => version < oldest);
    if (late.length === 0) return;
    for (const { id, prompts } of late) {
      this.#underWay.delete(id);
      this.#again.push(id);
      this.#dropped += prompts.length * samples;
    }
    await stream.giveUp(new Set(late.map(({ id }) => id)));
  }

  #arrived(results: readonly JobResult[]): void {
    for (const { id, version, responses } of results) {
      const job = this.#underWay.get(id);
      if (job?.version !== version) continue; // given up meanwhile
      this.#underWay.delete(id);
      for (let place = 0; place < job.prompts.length; place++) {
        const own = responses.slice(place * job.samples, (place + 1) * job.samples);
        this.#ready.push({ id, place, version, responses: own });
      }
    }
    this.#ready.sort((a, b) => a.version - b.version);
  }

  /** Waits for what is under way, and hands out nothing meanwhile: whoever goes on from here has not the policies that draw it. */
  async #save(): Promise<unknown> {
    this.#pausing = true;
    try {
      while (this.#stream && this.#underWay.size > 0) this.#arrived(await this.#stream.take());
    } catch {
      // What fails is asked for again, and fails there if it must.
    } finally {
      this.#pausing = false;
    }
    const kept: Kept = {
      ready: this.#ready,
      again: [...this.#underWay.keys(), ...this.#again],
      next: this.#next,
    };
    this.#stream?.more();
    return marked(kept);
  }
}

/** What a checkpoint keeps. */
interface Kept {
  ready: Group[];
  again: string[];
  next: [number, number];
}

/** Jobs are named by the iteration that the data has them in. */
const iterationOf = (id: string): number => Number(id.split("/")[0]);
