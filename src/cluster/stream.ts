/** Jobs that are handed out when a worker has time for them, so that whoever draws has the newest policy. */
import type { JobResult, SamplingJob } from "../rlhf/jobs.ts";
import type { ResultStream } from "../rlhf/source.ts";
import type { DoneBy, Here } from "./asked.ts";
import type { SamplingContext } from "./messages.ts";
import { News } from "./news.ts";
import type { ClusterTrainer } from "./trainer.ts";

/** So often it is looked whether more workers have come. */
const LOOK_MS = 1000;

/** What a stream is made of. */
export interface StreamOptions {
  trainer: ClusterTrainer<SamplingJob, JobResult, SamplingContext>;
  here: Here<SamplingJob, JobResult>;
  /** The next job; null where there is none just now. */
  next(): SamplingJob | null;
  /** What a job of a version is done with. */
  doneBy(job: SamplingJob): DoneBy & SamplingContext;
}

/** As many jobs under way as there are workers, and half as many more, so that nobody waits for the next. */
export class JobStream implements ResultStream {
  private readonly options: StreamOptions;
  /** Jobs by the number that each is requested under, a number of its own. */
  private readonly asked = new Map<number, { id: string; open: boolean }>();
  private readonly timer: ReturnType<typeof setInterval>;
  private readonly news = new News();
  private count = 0;
  private handing = false;
  private failure: unknown = null;

  constructor(options: StreamOptions) {
    this.options = options;
    this.timer = setInterval(() => this.more(), LOOK_MS);
  }

  more(): void {
    if (this.handing || this.failure) return;
    this.handing = true;
    this.hand()
      .catch((error) => {
        this.failure ??= error;
      })
      .finally(() => {
        this.handing = false;
        this.news.tell();
      });
  }

  async take(): Promise<JobResult[]> {
    const { trainer, here } = this.options;
    this.more();
    // Before the first is handed out there is nothing to wait for.
    while (this.asked.size === 0) {
      if (this.failure) throw this.failure;
      await this.news.wait(200);
      this.more();
    }
    if (this.failure) throw this.failure;
    const found = await trainer.takeFirst({ [Symbol.iterator]: () => this.asked.keys() }, here);
    for (const { number } of found) this.asked.delete(number);
    this.more();
    return found.flatMap(({ results }) => results);
  }

  async giveUp(ids: ReadonlySet<string>): Promise<void> {
    for (const [number, { id }] of [...this.asked]) {
      if (!ids.has(id)) continue;
      this.asked.delete(number);
      await this.options.trainer.giveUp(number);
    }
  }

  /** Hands out nothing more. */
  close(): void {
    clearInterval(this.timer);
    this.failure ??= new Error("the run has left its cluster");
    this.news.tell();
  }

  private get open(): number {
    return [...this.asked.values()].filter(({ open }) => open).length;
  }

  private async hand(): Promise<void> {
    const { trainer, next, doneBy } = this.options;
    while (!this.failure && this.open < trainer.workers + Math.ceil(trainer.workers / 2) + 1) {
      const job = next();
      if (!job) return;
      const number = this.count++;
      const one = { id: job.id, open: true };
      const filled = () => {
        one.open = false;
        this.more();
      };
      const requested = trainer.request(number, [job], doneBy(job), { kept: job.version, filled });
      this.asked.set(number, one);
      await requested;
    }
  }
}
