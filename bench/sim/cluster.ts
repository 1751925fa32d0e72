/**
 * A trainer whose responses are drawn by many workers, as src/cluster does it, in simulated time: weights go out over a shared link, jobs
 * through one server, and workers come and go. It computes nothing; it is for what a machine cannot try, such as 100,000 tabs.
 */
import { Clock, Server, SharedLink } from "./events.ts";

/** What is simulated. Sizes in bytes, rates per second, times in seconds where nothing else is said. */
export interface Scenario {
  workers: number;
  /** Tokens per second of the median worker, and how far they lie apart (of the logarithm). */
  workerTokens: number;
  workerSpread: number;
  /** A worker's own link. */
  workerLink: number;
  /** How long a worker stays on average; another one comes for it. Infinity: always. */
  stays: number;
  /** Only so many of the fastest are given jobs; the others wait, without weights. Infinity: all. */
  served: number;
  /** What the base and a version of the policy take on the wire. */
  base: number;
  version: number;
  /** The base comes over the server's link, or from elsewhere, at the worker's own rate. */
  baseFrom: "server" | "elsewhere";
  /** The server's link. */
  link: number;
  /** Servers that pass weights on, each with such a link; Infinity: a content network. 0: the server sends them itself. */
  relays: number;
  /** Time of a core of the server for a job, and for a worker that waits, for each second. */
  serverJob: number;
  serverWaiting: number;
  /** Responses of a step, those of a job, tokens of a response and of a prompt. */
  batch: number;
  perJob: number;
  responseTokens: number;
  promptTokens: number;
  /** Tokens that the trainer learns from per second. */
  trainerTokens: number;
  /** Policies of so many updates ago still draw. */
  staleness: number;
  /** A step's responses are all of one version, or of any that is new enough. */
  order: "exact" | "any";
  /** After so long a job goes to somebody else. */
  lease: number;
  /** Steps that are measured, after as many as it takes to begin. */
  steps: number;
  seed: number;
}

/** What comes of it. */
export interface Outcome {
  /** The part of its time that the trainer learned. */
  busy: number;
  responsesPerSecond: number;
  /** Bytes for weights per response that was learned from. */
  bytesPerResponse: number;
  /** Bytes per second, of weights. */
  egress: number;
  /** The part of the drawn responses that nobody learned from. */
  wasted: number;
  /** Cores of the server that its messages keep busy. */
  serverCores: number;
  /** Steps that were made in the time that was given. */
  steps: number;
}

interface Job {
  iteration: number;
  version: number;
}

interface Worker {
  number: number;
  tokens: number;
  served: boolean;
  gone: boolean;
  idle: boolean;
  /** The version that it holds; -1 while it has no base. */
  holds: number;
}

/** Nobody waits longer for a scenario that goes nowhere: simulated seconds. */
const LONGEST = 24 * 3600;

/** Two numbers above 0 and below 1 for a seed and two counters. */
export type Random = (seed: number, a: number, b: number) => readonly [number, number];

/** Tokens per second of a scenario's workers. */
export const speedsOf = (s: Scenario, random: Random): number[] =>
  Array.from({ length: s.workers }, (_, number) => {
    const [u, v] = random(s.seed, number, 1);
    const normal = Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * v);
    return s.workerTokens * Math.exp(s.workerSpread * normal);
  });

/** Seconds that a scenario's trainer learns for a step. */
export const learningOf = (s: Scenario): number => (s.batch * (s.promptTokens + s.responseTokens)) / s.trainerTokens;

/** Runs a scenario. The same seed gives the same outcome. */
export function simulate(s: Scenario, random: Random): Outcome {
  const clock = new Clock();
  const server = new Server(clock);
  const relays = s.relays === 0 ? 1 : s.relays;
  const links =
    relays === Number.POSITIVE_INFINITY
      ? [new SharedLink(clock, relays)]
      : Array.from({ length: relays }, () => new SharedLink(clock, s.link));
  const jobsOfStep = Math.ceil(s.batch / s.perJob);
  const learns = learningOf(s);
  const drawing = (worker: Worker) => (s.perJob * s.responseTokens) / worker.tokens;
  let version = 0;
  let learning = false;
  let learned = 0;
  let drawn = 0;
  let warm: { time: number; busy: number; sent: number; drawn: number; worked: number } | null = null;
  let busy = 0;
  const queue: Job[] = [];
  let head = 0;
  const lost: Job[] = [];
  const left = new Map<number, number>();
  let asked = 0;
  /** In any order: versions of the responses that nobody has learned from, and how many are being drawn. */
  let ready: number[] = [];
  let underWay = 0;
  const sent = () => links.reduce((sum, link) => sum + link.sent, 0);
  const warmUp = 2 + s.staleness;
  const target = warmUp + s.steps;

  // The fastest of all that are there; who leaves is replaced by somebody of the same speed.
  const all: Worker[] = speedsOf(s, random).map((tokens, number) => ({
    number,
    tokens,
    served: true,
    gone: false,
    idle: false,
    holds: -1,
  }));
  if (s.served < s.workers) {
    const fastest = [...all].sort((a, b) => b.tokens - a.tokens);
    for (const worker of fastest.slice(s.served)) worker.served = false;
  }
  /** Whoever waits longest is served first, as a work queue does it. */
  const waiting: Worker[] = [];
  let first = 0;

  const publish = () => {
    for (; asked <= version + s.staleness; asked++) {
      if (s.order === "any") continue;
      const of = Math.max(0, asked - s.staleness);
      left.set(asked, jobsOfStep);
      for (let i = 0; i < jobsOfStep; i++) queue.push({ iteration: asked, version: of });
    }
    offer();
  };
  const admitted = (holds: number) =>
    learned * s.batch + ready.length * s.perJob + underWay * s.perJob < (holds + s.staleness + 1) * s.batch;
  const offer = () => {
    for (; first < waiting.length; first++) {
      const worker = waiting[first];
      if (worker.gone) continue;
      const job = nextJob();
      if (!job) return;
      worker.idle = false;
      begin(worker, job);
    }
  };
  const nextJob = (): Job | null => {
    if (s.order === "any") return admitted(version) ? { iteration: -1, version } : null;
    return lost.pop() ?? (head < queue.length ? queue[head++] : null);
  };
  const begin = (worker: Worker, job: Job) => {
    underWay++;
    server.do(s.serverJob, () => {
      const draw = () => {
        worker.holds = job.version;
        clock.after(drawing(worker), () => finish(worker, job));
      };
      if (worker.holds === job.version) draw();
      else send(worker, s.version, draw);
    });
  };
  const again = (job: Job) => {
    if (s.order === "exact") lost.push(job);
    offer();
  };
  const finish = (worker: Worker, job: Job) => {
    underWay--;
    if (worker.gone) {
      clock.after(s.lease, () => again(job));
      return;
    }
    drawn += s.perJob;
    if (s.order === "any") ready.push(job.version);
    else left.set(job.iteration, (left.get(job.iteration) as number) - 1);
    free(worker);
    learn();
  };
  const free = (worker: Worker) => {
    if (worker.gone || worker.idle) return;
    worker.idle = true;
    waiting.push(worker);
    offer();
  };
  const learn = () => {
    if (learning) return;
    if (s.order === "any") {
      ready = ready.filter((of) => of >= version - s.staleness);
      if (ready.length < jobsOfStep) return;
      ready.splice(0, jobsOfStep);
    } else if (left.get(version) !== 0) return;
    else left.delete(version);
    learning = true;
    clock.after(learns, () => {
      learning = false;
      learned++;
      version++;
      busy += learns;
      if (learned === warmUp) {
        warm = { time: clock.now, busy, sent: sent(), drawn, worked: server.worked };
      }
      publish();
      learn();
    });
  };
  const send = (worker: Worker, bytes: number, done: () => void) =>
    links[worker.number % links.length].send(bytes, s.workerLink, done);
  let arrivals = 0;
  const arrive = (worker: Worker) => {
    const based = () => free(worker);
    if (s.baseFrom === "server") send(worker, s.base, based);
    else clock.after(s.base / s.workerLink, based);
    if (s.stays === Number.POSITIVE_INFINITY) return;
    const [u] = random(s.seed, arrivals++, 2);
    clock.after(-Math.log(u) * s.stays, () => {
      worker.gone = true;
      const next = { ...worker, gone: false, idle: false, holds: -1 };
      all[worker.number] = next;
      arrive(next);
    });
  };

  for (const worker of all) if (worker.served) arrive(worker); // the others come and go, and nothing hangs on it
  publish();
  clock.run(() => learned >= target, LONGEST);
  const from = warm ?? { time: 0, busy: 0, sent: 0, drawn: 0, worked: 0 };
  const time = Math.max(clock.now - from.time, 1e-9);
  const steps = Math.max(0, learned - warmUp);
  const responses = steps * s.batch;
  const took = drawn - from.drawn;
  return {
    busy: (busy - from.busy) / time,
    responsesPerSecond: responses / time,
    bytesPerResponse: responses > 0 ? (sent() - from.sent) / responses : Number.POSITIVE_INFINITY,
    egress: (sent() - from.sent) / time,
    wasted: took > 0 ? Math.max(0, 1 - responses / took) : 0,
    serverCores: (server.worked - from.worked) / time + s.workers * s.serverWaiting,
    steps,
  };
}
