/** Whether trainers need a worker. Each run's last word counts until it expires; who hears from nobody works. */
import { readAnswer } from "./hello.ts";
import { News } from "./news.ts";

/** Why a worker stands by. */
export interface StandBy {
  /** So many others suffice. */
  enough: number;
}

/** Answers of so many runs are kept. */
const MOST = 100;

/** What trainers have answered a worker. */
export class Answers {
  private readonly now: () => number;
  private readonly news = new News();
  private readonly byRun = new Map<string, { enough: number | null; until: number }>();
  private heard = false;

  /** @param now milliseconds */
  constructor(now: () => number = Date.now) {
    this.now = now;
  }

  /** An answer, or none: nobody was there to give one. */
  hear(bytes: Uint8Array): void {
    const answer = readAnswer(bytes);
    this.heard = true;
    if (answer && (this.byRun.size < MOST || this.byRun.has(answer.run))) {
      const { run, standBy, enough, holds } = answer;
      this.byRun.set(run, { enough: standBy ? enough : null, until: this.now() + 1000 * holds });
    }
    this.news.tell();
  }

  /** Null where the worker is needed: no run has said otherwise for now, or one has said that it is. */
  get standBy(): StandBy | null {
    for (const [run, { until }] of this.byRun) if (until <= this.now()) this.byRun.delete(run);
    const all = [...this.byRun.values()].map(({ enough }) => enough);
    return all.length === 0 || all.includes(null) ? null : { enough: Math.max(...(all as number[])) };
  }

  /** Resolves when there is an answer, or when the time is over. */
  async first(ms: number, signal: AbortSignal): Promise<void> {
    if (!this.heard) await this.news.wait(ms, signal);
  }

  /** Resolves when an answer comes, when the next one expires, or when the time is over. */
  async change(ms: number, signal: AbortSignal): Promise<void> {
    const until = Math.min(ms, ...[...this.byRun.values()].map(({ until }) => until - this.now()));
    if (until > 0) await this.news.wait(until, signal);
  }
}
