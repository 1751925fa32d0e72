/** What `generate` is to answer: prompts from a flag, a dataset or JSON lines, each with its options. */

import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";
import type { Dataset } from "../../data/dataset.ts";
import { questionOf } from "../../data/question.ts";
import { findDataset } from "../../data/raw/registry.ts";
import { mustBe } from "../../data/readers.ts";
import type { DataRecord } from "../../data/records.ts";
import type { Tokenizer } from "../../data/tokenizer.ts";
import type { ChatMessage } from "../../io/openai-types.ts";
import type { SamplingParams } from "../../nn/sampling.ts";
import { partsOf } from "../../open/dataset-reader.ts";
import { openDataset } from "../../open/datasets.ts";
import type { Surroundings } from "../../open/surroundings.ts";
import { UserError } from "../../runtime/errors.ts";
import { didYouMean, inFile, onCommandLine, settingNamed, snakeCase } from "../../settings/index.ts";
import { type generateSettings, lineSettings } from "../generation-settings.ts";
import { samplingParams, stopStrings } from "../sampling.ts";

type JobChoice = ReturnType<typeof generateSettings>;

/** One prompt to answer. */
export interface Job {
  /** For messages: `input.jsonl:3`. */
  where: string;
  /** Its place among all jobs, whichever shard they are in: it names the random numbers. */
  number: number;
  /** What the line calls itself; handed back. */
  id?: unknown;
  given: { prompt: string | number[] } | { messages: ChatMessage[] };
  /** The prompt's token ids, where they are known already. */
  ids?: Uint32Array;
  params: SamplingParams;
  stop: string[];
  samples: number;
  /** null: none; else how many alternatives. */
  logprobs: number | null;
}

/** The options that a line may overrule, as the command line has them. */
export type LineValues = ReturnType<typeof lineSettings>;

function makeJob(where: string, given: Job["given"], o: LineValues, id?: unknown): Job {
  return {
    where,
    number: 0,
    given,
    params: samplingParams(o),
    stop: stopStrings(o.stopStrings),
    samples: o.numReturnSequences,
    logprobs: o.logprobs,
    ...(id !== undefined && { id }),
  };
}

/** The jobs of a file of JSON lines; "-" is stdin. */
async function readJobs(file: string, common: LineValues): Promise<Job[]> {
  const name = file === "-" ? "stdin" : file;
  const content = file === "-" ? await readAll(process.stdin) : await readText(file);
  const lines = content.split(/\r?\n/);
  const jobs = lines.flatMap((line, i) => (line.trim() === "" ? [] : [jobOfLine(line, `${name}:${i + 1}`, common)]));
  if (jobs.length === 0) throw new UserError(`${name} has no lines to answer`);
  return jobs;
}

async function readText(file: string): Promise<string> {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await readFile(file));
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const why = code === "ENOENT" ? "no such file" : code === "EISDIR" ? "it is a folder" : (cause as Error).message;
    throw new UserError(`cannot read ${file}: ${why}`, { cause });
  }
}

function jobOfLine(line: string, where: string, common: LineValues): Job {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new UserError(`${where}: not JSON: ${(error as Error).message}`);
  }
  if (typeof value === "string") return makeJob(where, { prompt: value }, common);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new UserError(`${where}: a line is a prompt in quotes, or an object with "prompt" or "messages"`);
  }
  const { id, prompt, messages, ...rest } = value as Record<string, unknown>;
  if ((prompt === undefined) === (messages === undefined)) {
    throw new UserError(`${where}: there must be either "prompt" or "messages"`);
  }
  const { table } = lineSettings;
  const unknown = Object.keys(rest).find((name) => settingNamed(table, name) === null);
  if (unknown !== undefined) {
    const names = ["id", "prompt", "messages", ...Object.keys(table).map(snakeCase)];
    throw new UserError(`${where}: unknown key "${unknown}"${didYouMean(unknown, names)}`);
  }
  const base = Object.fromEntries(Object.keys(table).map((key) => [key, common[key as keyof LineValues]]));
  const own = Object.fromEntries(Object.entries(rest).map(([key, v]) => [key, asFlag(v)]));
  const o = lineSettings.resolve([{ ...onCommandLine(base), effect: undefined }, inFile(own, where)]);
  return makeJob(where, given(prompt, messages, where), o, id);
}

/** Lists and objects are written as the flag would be. */
const asFlag = (value: unknown): unknown => {
  if (Array.isArray(value))
    return value.every((v) => typeof v === "number") ? value.map(String) : JSON.stringify(value);
  return typeof value === "object" && value !== null ? JSON.stringify(value) : value;
};

function given(prompt: unknown, messages: unknown, where: string): Job["given"] {
  if (messages === undefined) {
    const isIds = Array.isArray(prompt) && prompt.length > 0 && prompt.every((id) => Number.isInteger(id) && id >= 0);
    if (typeof prompt === "string" || isIds) return { prompt: prompt as string | number[] };
    throw new UserError(`${where}: "prompt" must be a text or a list of token ids`);
  }
  const isMessage = (m: unknown) => {
    const { role, content } = (m ?? {}) as { role?: unknown; content?: unknown };
    return typeof role === "string" && ["system", "user", "assistant"].includes(role) && typeof content === "string";
  };
  if (Array.isArray(messages) && messages.length > 0 && messages.every(isMessage)) {
    return { messages: messages as ChatMessage[] };
  }
  throw new UserError(`${where}: "messages" must be a list of {"role": system, user or assistant, "content": text}`);
}

/** Tokens that a dataset's prompts leave room for. */
type Room = Parameters<Dataset["prompts"]>[1];

/** The jobs that the settings ask for: one prompt, a file of them, or a dataset's; of those a shard. */
export async function collectJobs(
  o: JobChoice,
  tokenizer: Tokenizer | null,
  room: Room,
  around: Surroundings,
): Promise<Job[]> {
  const all = (await allJobs(o, tokenizer, room, around)).map((job, number) => ({ ...job, number }));
  const unwritten =
    o.outputFormat === "responses" && all.find(({ given }) => "prompt" in given && typeof given.prompt !== "string");
  if (unwritten)
    throw new UserError(`${unwritten.where}: output_format responses needs prompts as text, not as token ids`);
  const [first, last] = shardOf(o.shard, all.length);
  return all.slice(first, last);
}

/** Made-up prompts to answer where nobody says how many. */
const MADE_PROMPTS = 8;

/** What a server is asked of a record: its conversation, or its text as it is. */
function askedOf(record: DataRecord): Job["given"] {
  const messages = questionOf(record);
  return messages ? { messages: messages as ChatMessage[] } : { prompt: mustBe(record, "prompt").prompt };
}

async function allJobs(
  o: JobChoice,
  tokenizer: Tokenizer | null,
  room: Room,
  around: Surroundings,
): Promise<Omit<Job, "number">[]> {
  if (o.prompt !== null && o.inputFile !== null) throw new UserError("pass either --prompt or --input_file, not both");
  if (o.inputFile !== null) return readJobs(o.inputFile, o);
  if (o.prompt !== null) return [makeJob("prompt 0", { prompt: o.prompt }, o)];
  // What no trainer has seen, where there is such a part.
  const opened = openDataset(o.datasetName, { ...o, ...around });
  const { dataset, part } = opened.heldOut(o.numPrompts ?? (opened.isMade ? MADE_PROMPTS : null));
  if (!tokenizer) {
    const records = (await dataset.records(null))[part];
    return records.map((record, i) => makeJob(`prompt ${i}`, askedOf(record), o));
  }
  // Registered sets are of pairs and conversations, which repeat their prompts; rows of one's own are all answered.
  const registered = (await partsOf(o.datasetName, around)).every(({ name }) => findDataset(name));
  const prompts = (await dataset.prompts(tokenizer, room, !registered))[part];
  return prompts.map(({ text, ids, messages }, i) => {
    const said = o.outputFormat === "responses" && messages;
    const given = said ? { messages: said as ChatMessage[] } : { prompt: text };
    return { ...makeJob(`prompt ${i}`, given, o), ids };
  });
}

/** Rows [first, last) of worker w of N, written "w/N", w from 0: consecutive, as even as can be, nothing left over. */
export function shardOf(shard: string | null, rows: number): [first: number, last: number] {
  if (shard === null) return [0, rows];
  const [worker, workers] = (/^(\d+)\/(\d+)$/.exec(shard) ?? []).slice(1).map(Number);
  if (workers === undefined || worker >= workers) {
    throw new UserError(`shard must be like 0/4, for the first of four, up to 3/4; not ${JSON.stringify(shard)}`);
  }
  if (workers > rows) throw new UserError(`${rows} prompts cannot be shared out to ${workers} workers`);
  return [Math.floor((worker * rows) / workers), Math.floor(((worker + 1) * rows) / workers)];
}
