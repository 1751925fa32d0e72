/**
 * Which workers a trainer serves: the fastest, as many as it needs; see `planOf`. How fast one is, is seen by when its results come: what it
 * says itself makes it slower, or takes off no more than weights usually take. The choice changes no result, since a job says all that
 * its result depends on, and it is soft: who is not served is told so for some seconds, and asks again.
 */
import { median } from "../runtime/median.ts";
import { fetchingOf, type Plan, planOf } from "./plan.ts";

/** So few workers are served, all of them. */
export const FEW = 8;
/** A worker that is served now stays so until another one is faster by this factor: a change costs the newcomer's weights. */
const STAYS = 1.25;
/** A newcomer has so many results, or milliseconds, to be measured by. */
const PROBES = 2;
const PROBE_MS = 120_000;
/** Results, and steps, that are remembered. */
const REMEMBERED = 5;
/** What takes so many times the forecast, and at least so many seconds, has been planned wrongly: everybody is served then. */
const OVERRUN = 3;
const SHORTEST = 1;
/** Steps for which everybody is served after plans that went wrong one after the other, at most. */
const MOST_STEPS = 32;
const CHOSEN_MS = 1000;

/** A result as it came. */
export interface SeenResult {
  /** The policy's version that drew it. */
  version: number;
  tokens: number;
  /** When its job was put, in milliseconds. */
  askedAt: number;
  /** What the worker says that it took, and how much of that the weights did, in seconds. */
  seconds: number;
  fetched?: number | undefined;
}

interface Measured {
  /** Tokens per second, the newest last. */
  speeds: number[];
  served: boolean;
  /** When it was last let in, and when its last result came, in milliseconds. */
  admitted: number;
  last: number;
  version: number | null;
  /** Tokens since the last version. */
  tokens: number;
  /** It was let in to be measured, and when. */
  probed: number | null;
}

/** Chooses whom a trainer serves. */
export class Serving {
  private readonly names: () => readonly string[];
  private readonly now: () => number;
  private readonly known = new Map<string, Measured>();
  private readonly learns: number[] = [];
  private readonly drawn: number[] = [];
  private readonly fetching = new Map<number, number>();
  private jobTokens = 0;
  /** Workers draw while the trainer learns. */
  private overlaps = false;
  /** Since the last version: when it was published, how long was waited for results, and what came. */
  private period: { at: number; waited: number; tokens: number; fetchers: Set<string>; fetched: number[] } | null =
    null;
  private waitsSince: number | null = null;
  private usualFetch = 0;
  private plan: Plan | null = null;
  /** Steps for which everybody is served, and how many the next plan that goes wrong costs. */
  private everybody = 0;
  private penalty = 1;
  private chosen: ReadonlySet<string> | null = null;
  /** How many workers were there to choose from, and when. */
  private there = 0;
  private chosenAt = Number.NEGATIVE_INFINITY;

  /**
   * @param names the workers that are there
   * @param now milliseconds
   */
  constructor(names: () => readonly string[], now: () => number = Date.now) {
    this.names = names;
    this.now = now;
  }

  /** Whether a worker that asks is served. */
  serves(name: string): boolean {
    const chosen = this.choice();
    const served = chosen === null || chosen.has(name);
    const one = this.of(name);
    if (served && !one.served) one.admitted = this.now();
    one.served = served;
    return served;
  }

  /** How many workers are served. */
  get served(): number {
    return this.choice()?.size ?? this.there;
  }

  /** A worker's result was taken. */
  took(name: string, { version, tokens, askedAt, seconds, fetched = 0 }: SeenResult): void {
    const now = this.now();
    const one = this.of(name);
    const first = one.last === 0;
    const took = Math.max((now - Math.max(one.last, askedAt, one.admitted)) / 1000, seconds);
    if (one.version !== version) {
      this.period?.fetchers.add(name);
      if (!first) this.period?.fetched.push(fetched); // a first one has fetched the base as well
    }
    const usual = this.usualFetch || median(this.period?.fetched ?? [], 0);
    const drew = Math.max(took - Math.min(fetched, usual), took / 100, 1e-3);
    remember(one.speeds, tokens / drew);
    one.tokens += tokens;
    Object.assign(one, { last: now, version });
    this.drew(tokens);
    this.jobTokens = Math.max(this.jobTokens * 0.99, tokens);
  }

  /** So many tokens were drawn, by whomever. */
  drew(tokens: number): void {
    if (this.period) this.period.tokens += tokens;
  }

  /** The trainer begins to wait for results. Call what it gives when that is over. */
  waits(): () => void {
    this.waitsSince = this.now();
    return () => {
      if (this.period) this.period.waited = this.waited;
      this.waitsSince = null;
    };
  }

  /** Serves everybody where what is waited for takes far longer than was planned. */
  look(): void {
    if (!this.plan || this.everybody > 0 || this.waited < OVERRUN * Math.max(this.plan.seconds, SHORTEST)) return;
    // What those gave that were served is what they can.
    for (const name of this.chosen ?? []) {
      const one = this.of(name);
      const speed = one.tokens / this.waited;
      if (one.speeds.length > 0 && speed < speedOf(one)) one.speeds = [speed];
    }
    this.everybody = this.penalty;
    this.penalty = Math.min(2 * this.penalty, MOST_STEPS);
    this.chosenAt = Number.NEGATIVE_INFINITY;
  }

  /**
   * A version of the policy is published.
   * @param overlaps jobs of versions before are under way
   */
  published(overlaps: boolean): void {
    const { period } = this;
    const now = this.now();
    if (period) {
      remember(this.learns, Math.max(0, (now - period.at) / 1000 - period.waited));
      if (period.tokens > 0) remember(this.drawn, period.tokens);
      if (period.fetched.length > 0) {
        this.usualFetch = median(period.fetched);
        this.fetching.delete(period.fetchers.size); // the newest last
        this.fetching.set(period.fetchers.size, this.usualFetch);
        for (const old of [...this.fetching.keys()].slice(0, -2 * REMEMBERED)) this.fetching.delete(old);
      }
      if (this.everybody > 0) this.everybody -= 1;
      else if (this.plan) this.penalty = Math.max(1, this.penalty / 2);
    }
    this.overlaps = overlaps;
    for (const one of this.known.values()) one.tokens = 0;
    this.period = { at: now, waited: 0, tokens: 0, fetchers: new Set(), fetched: [] };
    if (this.waitsSince !== null) this.waitsSince = now;
    this.chosenAt = Number.NEGATIVE_INFINITY;
  }

  /** Seconds that were waited for results of this version. */
  private get waited(): number {
    return (this.period?.waited ?? 0) + (this.waitsSince === null ? 0 : (this.now() - this.waitsSince) / 1000);
  }

  /** Who is served; null for everybody. */
  private choice(): ReadonlySet<string> | null {
    const now = this.now();
    if (now - this.chosenAt < CHOSEN_MS) return this.chosen;
    const names = this.names();
    const here = new Set(names);
    for (const name of this.known.keys()) if (!here.has(name)) this.known.delete(name);
    this.there = names.length;
    this.chosenAt = now;
    this.chosen = this.chosenOf(names, now);
    return this.chosen;
  }

  private chosenOf(names: readonly string[], now: number): ReadonlySet<string> | null {
    this.plan = null;
    if (names.length <= FEW || this.everybody > 0 || this.drawn.length === 0 || this.fetching.size === 0) return null;
    const all = names.map((name) => ({ name, one: this.of(name) }));
    const rank = ({ name, one }: (typeof all)[number]) => speedOf(one) * (this.chosen?.has(name) ? STAYS : 1);
    const fastest = all.filter(({ one }) => one.speeds.length > 0).sort((a, b) => rank(b) - rank(a));
    if (fastest.length === 0) return null;
    this.plan = planOf({
      speeds: fastest.map(({ one }) => speedOf(one)),
      fetching: fetchingOf(this.fetching),
      tokens: median(this.drawn),
      jobTokens: this.jobTokens,
      learns: this.overlaps ? median(this.learns, 0) : null,
    });
    const served = fastest.slice(0, this.plan.served).map(({ name }) => name);
    return new Set([...served, ...this.probed(all, Math.max(2, Math.ceil(served.length / 8)), now)]);
  }

  /** Some of those that are not measured, the ones that have waited longest for it. */
  private probed(all: readonly { name: string; one: Measured }[], most: number, now: number): string[] {
    const isProbed = ({ probed, speeds }: Measured) =>
      probed !== null && now - probed < PROBE_MS && speeds.length < PROBES;
    const under = all.filter(({ one }) => isProbed(one));
    const next = all.filter(({ one }) => one.speeds.length === 0 && !isProbed(one));
    next.sort((a, b) => (a.one.probed ?? 0) - (b.one.probed ?? 0));
    const more = next.slice(0, Math.max(0, most - under.length));
    for (const { one } of more) one.probed = now;
    return [...under, ...more].map(({ name }) => name);
  }

  private of(name: string): Measured {
    const known = this.known.get(name);
    if (known) return known;
    const one: Measured = {
      speeds: [],
      served: false,
      admitted: 0,
      last: 0,
      version: null,
      tokens: 0,
      probed: null,
    };
    this.known.set(name, one);
    return one;
  }
}

const speedOf = ({ speeds }: Measured): number => median(speeds, 0);

function remember(numbers: number[], one: number): void {
  numbers.push(one);
  if (numbers.length > REMEMBERED) numbers.shift();
}
