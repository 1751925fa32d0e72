/** Programs that let a cluster's workers do a part of their work: training runs, and those that go through files. */
import { createHash, randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { clusterAccess } from "../cluster/access.ts";
import type { TrainerOptions } from "../cluster/asked.ts";
import { ClusterFolder } from "../cluster/configuration.ts";
import { connectCluster, tellServer } from "../cluster/connection.ts";
import { ClusterError } from "../cluster/errors.ts";
import { type AnyJob, type JobKind, sampling, scoring } from "../cluster/kinds.ts";
import { tokenOf } from "../cluster/names.ts";
import { AT_ONCE, JobPool } from "../cluster/pool.ts";
import { clusterSource, PROMPTS } from "../cluster/source.ts";
import { ClusterTrainer } from "../cluster/trainer.ts";
import type { AdapterWire } from "../nn/adapter-wire.ts";
import type { CausalLM, ScoreModel } from "../nn/models.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import type { Elsewhere } from "../open/scorers.ts";
import { jobsOf } from "../rlhf/jobs.ts";
import { responsesOf, type Sampler } from "../rlhf/sampler.ts";
import type { RolloutSource } from "../rlhf/source.ts";
import { isUserError, UserError } from "../runtime/errors.ts";
import type { Files } from "../runtime/files.ts";
import { absolute, basename, dirname, join } from "../runtime/paths.ts";
import { writeSecret } from "../runtime/secrets.ts";
import { askingSettings, drawingSettings } from "./cluster-settings.ts";
import type { Terminal } from "./terminal.ts";

/** Methods whose policy draws responses. */
const online: readonly string[] = ["ppo", "grpo", "rloo", "reinforce", "raft", "iterate", "distill"];

/** The settings of a method's cluster: none where it draws nothing. */
export const clusterSettingsOf = (
  method: string,
): Partial<ReturnType<typeof askingSettings> & typeof drawingSettings> =>
  online.includes(method) ? { ...askingSettings("draw the responses"), ...drawingSettings } : {};

/** What these settings resolve to. */
export interface ClusterChoice {
  cluster?: string | null;
  creds?: string | null;
  check?: number;
  mirrorUrl?: string | null;
  mirrorDir?: string | null;
  weightDeltas?: boolean;
  maxStaleness?: number;
  loraWire?: AdapterWire;
  rolloutOrder?: "exact" | "any";
}

/** Where weights are put as well. Throws UserError for half of a mirror, or an address that is none. */
function mirrorOf({ mirrorUrl = null, mirrorDir = null }: ClusterChoice, files: Files): TrainerOptions["mirror"] {
  if (mirrorUrl === null) return null;
  if (!/^https?:\/\//.test(mirrorUrl) || !URL.canParse(mirrorUrl)) {
    throw new UserError(`--mirror_url ${mirrorUrl} is no address: it begins with https:// (or http://)`);
  }
  if (mirrorDir === null) {
    throw new UserError(`--mirror_url needs --mirror_dir: the folder that ${mirrorUrl} hands out`);
  }
  return { files, folder: mirrorDir, url: mirrorUrl };
}

/** How long a run waits for its cluster's server when it begins. */
const WAIT_MS = 20_000;
const RETRY_MS = 1000;

/** Accepted results of a run, in its folder: they are of use until it ends. */
const RESULTS = "cluster";

/** The name of a run, the same whenever it goes on in its folder. */
function runName(outputDir: string): string {
  const path = absolute(outputDir);
  const id = createHash("sha256").update(`${hostname()} ${path}`).digest("hex").slice(0, 10);
  return `${tokenOf(basename(path)).slice(0, 40)}-${id}`;
}

/** A server that is just being started, or started again, is waited for. */
export async function patiently<R>(enter: () => Promise<R>, say: (line: string) => void): Promise<R> {
  for (const began = Date.now(); ; ) {
    try {
      return await enter();
    } catch (error) {
      const away = !isUserError(error) || (error instanceof ClusterError && error.absence === "unreachable");
      if (!away || Date.now() - began > WAIT_MS) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      if (Date.now() - began < RETRY_MS) say(`${reason}; waiting ${WAIT_MS / 1000} s for it`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

/** Puts a member out, where the cluster's own folder is at hand. */
async function revoked(files: Files, folder: string, url: string, member: string): Promise<void> {
  const cluster = await ClusterFolder.open(files, folder, writeSecret).catch(() => {
    throw new UserError(`its cluster's keys are elsewhere: webrlhf cluster revoke ${member}, where they are`);
  });
  const { account } = await cluster.revoke(member);
  await tellServer(await clusterAccess(url, join(folder, "system.creds")), account);
}

/** How a program enters a cluster. */
interface Entering extends Pick<TrainerOptions, "kept" | "looksBack" | "alone"> {
  /** Where it writes, which names its run; null for a run that nobody goes on with. */
  path: string | null;
  files: Files;
  say: (line: string) => void;
  /** What is told when it is in. */
  told: (run: string) => string;
}

/**
 * Enters the cluster that settings name, which they do.
 * @returns what enters it
 * @throws UserError where the credential is missing, or none
 */
async function entrance<J extends AnyJob, R, C extends object>(
  o: ClusterChoice,
  kind: JobKind<J, R, never, C>,
  { path, files, say, told, ...options }: Entering,
): Promise<() => Promise<ClusterTrainer<J, R, C>>> {
  const { cluster, creds, check = 0 } = o;
  if (!creds) {
    throw new UserError("--cluster needs --creds: the trainer.creds that webrlhf cluster init has written");
  }
  const mirror = mirrorOf(o, files);
  const access = await clusterAccess(cluster as string, creds);
  const run = path === null ? tokenOf(`${kind.name}-${randomUUID()}`) : runName(path);
  const revoke = (member: string) => revoked(files, dirname(absolute(creds)), access.url, member);
  const enter = async (): Promise<ClusterTrainer<J, R, C>> => {
    const connection = await connectCluster(access, `webrlhf trainer ${run}`);
    try {
      const who = `${hostname()} ${process.pid}`;
      return await ClusterTrainer.open(connection, kind, { run, who, say, check, revoke, mirror, ...options });
    } catch (error) {
      await connection.nc.close();
      throw error;
    }
  };
  return async () => {
    const trainer = await patiently(enter, say);
    say(told(run));
    return trainer;
  };
}

/** The source of a run's responses in the cluster that its settings name; null without one. */
export async function joinCluster(
  o: ClusterChoice,
  { files, outputDir, terminal }: { files: Files; outputDir: string; terminal: Terminal },
): Promise<{ source: RolloutSource; ended: () => Promise<void> } | null> {
  if (!o.cluster) return null;
  const folder = join(outputDir, RESULTS);
  const open = await entrance(o, sampling, {
    path: outputDir,
    files,
    kept: { files, folder },
    // In any order each job is a request of its own.
    looksBack: o.rolloutOrder === "any" ? Number.POSITIVE_INFINITY : 1,
    say: (line) => terminal.line(line),
    told: (run) => `responses are drawn in the cluster ${o.cluster}, run ${run}`,
  });
  const source = clusterSource(open, {
    onPolicy: (o.maxStaleness ?? 0) === 0,
    wire: o.loraWire ?? "f32",
    // A mirror's files are what content networks keep at hand.
    deltas: (o.weightDeltas ?? true) && !o.mirrorUrl,
  });
  return { source, ended: () => files.remove(folder) };
}

/** How a program that trains nothing has its jobs done. */
export interface PoolOptions {
  /** Where it writes; null where that is the terminal. */
  path: string | null;
  files: Files;
  terminal: Terminal;
  signal: AbortSignal;
  /** What workers do, in words: "responses are drawn". */
  what: string;
  /** It keeps nothing itself of what is done before all is, so that all that came meanwhile is looked for. */
  keepsNothing?: boolean;
}

/**
 * What has a program's jobs done in the cluster that its settings name, with one model. It must be closed.
 * @throws UserError where the credential is missing, or none
 */
export async function clusterPool<
  J extends AnyJob,
  R extends { id: string },
  M extends CausalLM | ScoreModel,
  C extends object,
>(
  o: ClusterChoice,
  kind: JobKind<J, R, M, C>,
  model: M,
  { path, files, terminal, signal, what, keepsNothing = false }: PoolOptions,
): Promise<{ do: JobPool<J, R, M, C>["do"]; close: () => Promise<void> }> {
  const open = await entrance(o, kind, {
    path,
    files,
    kept: null,
    looksBack: keepsNothing ? Number.POSITIVE_INFINITY : AT_ONCE,
    alone: "this program does everything itself",
    say: (line) => terminal.line(line),
    told: (run) => `${what} in the cluster ${o.cluster}, run ${run}`,
  });
  const pool = new JobPool(open, kind, model, signal);
  return {
    do: (job, context) => pool.do(job, context),
    async close() {
      const { elsewhere, here } = await pool.close();
      if (elsewhere + here > 0) terminal.line(`workers did ${elsewhere} jobs, this program ${here}`);
    },
  };
}

/**
 * Who scores with a model in the cluster that settings name; undefined without one.
 * @param closers get what closes it
 */
export const scoringElsewhere = (
  o: ClusterChoice,
  options: Omit<PoolOptions, "what">,
  closers: (() => Promise<void>)[],
): Elsewhere | undefined => {
  if (!o.cluster) return undefined;
  return async (model) => {
    const pool = await clusterPool(o, scoring, model, { ...options, what: "answers are scored" });
    closers.push(pool.close);
    return (job) => pool.do(job, {});
  };
};

/** A sampler whose policy draws in the cluster that settings name; null without one. It must be closed. */
export async function drawingElsewhere(
  o: ClusterChoice,
  { policy, tokenizer }: { policy: CausalLM; tokenizer: TextTokenizer },
  options: Omit<PoolOptions, "what">,
): Promise<{ sampler: Sampler; close: () => Promise<void> } | null> {
  if (!o.cluster) return null;
  const pool = await clusterPool(o, sampling, policy, { ...options, what: "responses are drawn" });
  const { half, kvCache, batchInvariant, config } = policy;
  const sampler: Sampler = async (prompts, promptIds, { onResponses, signal: _, promptsPerJob, ...drawing }) => {
    const ids = prompts.map((prompt) => prompt.ids);
    const how = { ...drawing, promptsPerJob: promptsPerJob ?? PROMPTS, half, kvCache, batchInvariant };
    const jobs = jobsOf(ids, promptIds, how);
    const context = { vocabSize: config.vocabSize, endIds: drawing.ignoreEos ? [] : (drawing.eosIds ?? config.eosIds) };
    const results = await Promise.all(jobs.map((job) => pool.do(job, context)));
    const responses = responsesOf(tokenizer, prompts, results, drawing.samples);
    await onResponses?.(responses);
    return responses;
  };
  return { sampler, close: pool.close };
}
