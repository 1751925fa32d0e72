/**
 * Names of a cluster's streams and subjects. A job is known by its key, the hash of its message, so that a result belongs to exactly
 * one job, whoever asked for it and when.
 */

/**
 * A kind of work that workers are asked for: to sample responses, or to score sequences. It is also the name of the consumer by which
 * they take such jobs from their stream.
 */
export type KindName = "sample" | "score";
/** All kinds of jobs for programs. */
export const kinds: readonly KindName[] = ["sample", "score"];
/** What there is a queue of: jobs for programs, and pairs of answers that people label. */
export type QueueName = KindName | "label";
/** All queues. */
export const queues: readonly QueueName[] = [...kinds, "label"];
/** Streams of jobs by kind: work queues, from which a job is gone once it is acknowledged. */
export const JOBS: Record<QueueName, string> = { sample: "JOBS", score: "SCORES", label: "LABELS" };
/** Stream of results: a worker's last one for each job. */
export const RESULTS = "RESULTS";
/** Stream of what people said of pairs: apart, so that who labels cannot speak among workers' results. */
export const VOTES = "VOTES";
/** Object bucket of weights, by the SHA-256 of their bytes. */
export const BLOBS = "blobs";
/** Bucket of the runs that have a trainer. */
export const RUNS = "runs";

/** Bucket of learners' rounds. */
export const LEARNERS = "learners";

/** Seconds after which a job that a worker has not spoken of goes to another one. */
export const ACK_WAIT = 30;
/** The same of a pair that somebody labels: a page that is not seen may speak once a minute only. */
export const LABEL_ACK_WAIT = 90;
/** Results are kept this long, seconds, for a trainer that comes back. */
export const RESULTS_AGE = 24 * 3600;
/** What people said is kept over a weekend. */
export const VOTES_AGE = 7 * RESULTS_AGE;

/** What a name in a subject may be: a run, a worker. */
const TOKEN = /^[A-Za-z0-9_-]{1,64}$/;

/** Whether a text can be a part of a subject. */
export const isToken = (text: string): boolean => TOKEN.test(text);

/** A text as a part of a subject: what cannot stand there becomes "-". */
export const tokenOf = (text: string): string => text.replace(/[^A-Za-z0-9_-]+/g, "-").slice(0, 64) || "-";

/** Where a job is asked for; another attempt is another message, which does not wait for the one before. */
export const jobSubject = (kind: QueueName, run: string, key: string, attempt: number): string =>
  `job.${kind}.${run}.${key}.${attempt}`;

/** All jobs of a kind. */
export const jobsOfKind = (kind: QueueName): string => `job.${kind}.>`;

/** All jobs of a run, or all attempts of one. */
export const jobsOfRun = (kind: QueueName, run: string, key?: string): string =>
  key === undefined ? `job.${kind}.${run}.>` : `job.${kind}.${run}.${key}.*`;

/** Where a worker of a name puts a job's result. */
export const resultSubject = (worker: string, run: string, key: string): string => `result.${worker}.${run}.${key}`;

/** Results of a run from anybody, of one job or of all. */
export const resultsOf = (run: string, key = "*"): string => `result.*.${run}.${key}`;

/** Where somebody of a name puts what was said of a pair. */
export const voteSubject = (member: string, run: string, key: string): string => `vote.${member}.${run}.${key}`;

/** What was said of a run's pairs by anybody, of one or of all. */
export const votesOf = (run: string, key = "*"): string => `vote.*.${run}.${key}`;

/** The worker's name and the job's key in the subject of a result, or of a vote; null where it is none. */
export function ofResult(subject: string): { worker: string; run: string; key: string } | null {
  const [kind, worker, run, key, ...more] = subject.split(".");
  return (kind === "result" || kind === "vote") && key !== undefined && more.length === 0 ? { worker, run, key } : null;
}

/** The name of a learner among those of runs, and what is below it. */
export const learnersOf = (run: string): string => `${run}.learner`;
export const learnerOf = (run: string, number: number): string => `${learnersOf(run)}.${number}`;

/** The run of such a name, and which of its learners, if it has several. */
export function ofRun(name: string): { run: string; learner: number | null } {
  const found = /^(.+)\.learner\.(\d+)$/.exec(name);
  return found ? { run: found[1], learner: Number(found[2]) } : { run: name, learner: null };
}

/** Where a worker says that it is there. */
export const helloSubject = (worker: string): string => `hello.${worker}`;

/** Where a user's answers come to, so that nobody reads those of another. */
export const inboxOf = (user: string): string => `_INBOX_${user}`;

/** The member that a hello is from; null where it is none. */
export const ofHello = (subject: string): string | null => /^hello\.([^.]+)$/.exec(subject)?.[1] ?? null;
