/** Answers a list of prompts, some at once, and puts the answers where they belong. */
import { setMaxListeners } from "node:events";
import { rowLine } from "../../data/scored-rows.ts";
import type { Attempt } from "../../open/surviving.ts";
import { diskFiles } from "../../runtime/files.ts";
import type { TokenInfo } from "../../serve/text.ts";
import { askingSettings } from "../cluster-settings.ts";
import type { generateSettings } from "../generation-settings.ts";
import { Unfinished } from "../unfinished.ts";
import { type Context, Interrupted } from "../verb.ts";
import type { Job } from "./generate-jobs.ts";

export type GenerateChoice = ReturnType<typeof generateSettings>;

/** One response. */
export interface Outcome {
  text: string;
  finish: "stop" | "length";
  ids?: number[];
  tokens?: TokenInfo[];
}

/** Answers one job; the results of its samples in their order. */
export type Answerer = (job: Job, index: number, signal: AbortSignal) => Promise<Outcome[]>;

/** Answers that go to the terminal: those that wait for earlier ones, and how many are there. */
export interface Shown {
  early: Map<number, string[]>;
  printed: number;
}

/** How answers are got. */
export interface Answering {
  answer: Answerer;
  /** Jobs at once. */
  concurrency: number;
  /** What another attempt has shown, where there was one: its answers are taken as they are. */
  shown?: Shown;
  attempt?: Attempt;
}

/** Answers all jobs, some at once, and writes the answers in their order. */
export async function answerAll(
  o: GenerateChoice,
  context: Context,
  jobs: readonly Job[],
  { answer, concurrency, shown: told = { early: new Map(), printed: 0 }, attempt }: Answering,
): Promise<void> {
  const { terminal, signal } = context;
  const { outputFile: file, resume: _, apiKey: __, ...rest } = o; // what answers do not depend on, nor on who draws them:
  for (const name of Object.keys(askingSettings(""))) delete (rest as Record<string, unknown>)[name];
  const wanted = {
    decidedBy: [rest, ...jobs],
    resume: o.resume || attempt?.again === true,
    prompts: jobs.length,
    done: "answered",
  };
  const output =
    file === null
      ? null
      : await Unfinished.open<string[]>({ ...wanted, files: await diskFiles(), path: file }, terminal);
  const { early } = told;
  const failed = new AbortController();
  // A server's answers that are under way when another one fails are heard out: they were paid for.
  const stop = o.server === null ? AbortSignal.any([signal, failed.signal]) : signal;
  setMaxListeners(0, stop, failed.signal); // every job that is under way listens
  let next = 0;
  const work = async () => {
    while (next < jobs.length && !stop.aborted && !failed.signal.aborted) {
      const index = next++;
      if (output?.log.rows.has(index) || index < told.printed || early.has(index)) continue;
      const job = jobs[index];
      const outcomes = await answer(job, index, stop);
      if (output) await output.log.add([[index, lines(job, outcomes, o)]]);
      else {
        early.set(index, shown(job, outcomes, o, context));
        for (let ready = early.get(told.printed); ready; ready = early.get(++told.printed)) {
          early.delete(told.printed);
          for (const text of ready) terminal.result(text);
        }
      }
      attempt?.progress();
    }
  };
  try {
    const workers = Array.from({ length: Math.min(concurrency, jobs.length) }, work);
    await Promise.all(workers).catch((error) => {
      failed.abort(error);
      return Promise.allSettled(workers).then(() => Promise.reject(error));
    });
  } catch (error) {
    const told = output ? await output.after(error) : error;
    if (!signal.aborted) throw told;
  }
  if (signal.aborted) throw new Interrupted(output?.log.rows.size ? `stopped; ${output.left}` : "stopped");
  if (!output) return;
  const answers = [...output.log.rows].sort(([a], [b]) => a - b).flatMap(([, lines]) => lines);
  await output.finish(answers.map((line) => `${line}\n`).join(""));
  const count = jobs.reduce((sum, job) => sum + job.samples, 0);
  terminal.line(`${count} responses in ${file}`);
}

/** A job's responses as lines of JSON: one each, or all of them together as Online-RLHF has it. */
function lines(job: Job, outcomes: readonly Outcome[], o: GenerateChoice): string[] {
  if (o.outputFormat === "completions") return outcomes.map((outcome, k) => line(job, outcome, k, o));
  const { given, number } = job;
  return [
    rowLine({
      id: number,
      prompt: "messages" in given ? given.messages : (given.prompt as string),
      responses: outcomes.map(({ text }) => text),
      ended: outcomes.map(({ finish }) => finish === "stop"),
      ...(o.returnTokenIds && outcomes.every(({ ids }) => ids) && { tokenIds: outcomes.map(({ ids }) => ids!) }),
    }),
  ];
}

/** A response as a line of JSON. */
function line(job: Job, { text, finish, ids, tokens }: Outcome, sample: number, o: GenerateChoice): string {
  return JSON.stringify({
    ...(job.id !== undefined && { id: job.id }),
    ...job.given,
    completion: text,
    ended: finish === "stop",
    ...(job.samples > 1 && { sample }),
    ...(o.returnTokenIds && { token_ids: ids ?? null }),
    ...(job.logprobs !== null && tokens && { logprobs: tokens.map((t) => t.logProb) }),
    ...(job.logprobs !== null &&
      job.logprobs > 0 &&
      tokens && { top_logprobs: tokens.map(({ top }) => top.map((t) => [t.id, t.logProb])) }),
  });
}

/** Responses for people; answers to JSON lines stay JSON lines. */
function shown(job: Job, outcomes: readonly Outcome[], o: GenerateChoice, { terminal }: Context): string[] {
  const asJson = o.inputFile !== null || o.logprobs !== null || o.returnTokenIds || o.outputFormat === "responses";
  if (asJson) return lines(job, outcomes, o);
  const prompt = "prompt" in job.given ? String(job.given.prompt) : "";
  return outcomes.map(({ text }) => `${terminal.style("dim", prompt)}${text}\n`);
}
