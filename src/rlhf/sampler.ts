/** The one seam through which trainers get responses: from the policy here, from a server, or from anybody else. */
import type { ChatMessage } from "../data/chat-template.ts";
import type { GenerateOptions } from "../nn/generate.ts";
import type { CausalLM, Model } from "../nn/models.ts";
import type { TextTokenizer } from "../nn/text-tokenizer.ts";
import { UserError } from "../runtime/errors.ts";
import { predictedTokens, type Sequence } from "./batch.ts";
import type { Turn } from "./environment/turn.ts";
import type { Sample } from "./events.ts";
import { type JobResult, jobsOf, runJob, whole } from "./jobs.ts";
import { type EvaluationChoice, evaluationAsked } from "./settings.ts";
import { average } from "./stats.ts";

/** A prompt to respond to. */
export interface Prompt {
  text: string;
  /** The conversation that was written as `text`, where there was one. */
  messages?: readonly ChatMessage[];
  /** The answer that the data has, where it has one. */
  target?: string;
  /** The row of the dataset with all its columns, where it comes from one. */
  row?: Readonly<Record<string, unknown>>;
  ids: Uint32Array;
}

/** A response as it was sampled. */
export interface Response extends Sequence, Pick<Prompt, "target" | "row"> {
  /** Index of the prompt in its list. */
  prompt: number;
  /** Which of the prompt's samples it is. */
  sample: number;
  promptText: string;
  /** Without special tokens. Of an episode: all that follows the prompt, whoever wrote it. */
  text: string;
  /** It ended by itself; an episode: it was over before it was cut off. */
  ended: boolean;
  /** The prompt's conversation with the response as its last message, where the prompt is a conversation. */
  messages?: readonly ChatMessage[];
  /** Of each token that the policy wrote, under the policy that drew it, where that is known. */
  logProbs?: Float32Array;
  /** The policy that drew it, by the updates that it had had. */
  version?: number;
  /** Of an episode in an environment: what the policy wrote in it, which is what is learned, turn by turn. */
  turns?: readonly Turn[];
}

/** How responses are drawn. */
export interface SamplingOptions extends Omit<GenerateOptions, "seed" | "streams"> {
  seed: number;
  /** Separates the random numbers of one iteration from the next. */
  iteration: number;
  /** Ids of the prompts that the iteration has drawn for before: see `jobsOf`. */
  after?: readonly number[];
  /** Hears of responses as soon as all of their prompt are there: what fails later does not undo them. */
  onResponses?: (responses: readonly Response[]) => Promise<void>;
  /** Prompts in one job: see `jobsOf`. */
  promptsPerJob?: number | null;
}

/** Draws `samples` responses to each prompt, prompt by prompt; `promptIds` are stable numbers of the prompts. */
export type Sampler = (
  prompts: readonly Prompt[],
  promptIds: ArrayLike<number>,
  options: SamplingOptions,
) => Promise<Response[]>;

/** A sampler that is a model here. */
export const policySampler =
  (policy: CausalLM, tokenizer: TextTokenizer): Sampler =>
  (...request) =>
    sampleResponses(policy, tokenizer, ...request);

/** What a response to a prompt says beside its ids, for rewards that look at it. */
export const fromPrompt = ({ text: promptText, target, row, messages }: Prompt, text: string) => ({
  promptText,
  text,
  ...(target !== undefined && { target }),
  ...(row && { row }),
  ...(messages && { messages: [...messages, { role: "assistant", content: text }] }),
});

/**
 * Draws `samples` responses to each prompt, prompt by prompt, job by job: see `jobsOf`. The random numbers are keyed by (seed,
 * iteration, prompt id, sample, token); what else is sampled with a response changes no bit of it on CPU adapters, and on
 * GPUs what is in its job does.
 * @param promptIds stable numbers of the prompts, e.g. their places in the dataset
 */
export async function sampleResponses(
  policy: CausalLM,
  tokenizer: TextTokenizer,
  prompts: readonly Prompt[],
  promptIds: ArrayLike<number>,
  options: SamplingOptions,
): Promise<Response[]> {
  const { signal, onResponses, ...sampling } = options;
  const ids = prompts.map((prompt) => prompt.ids);
  const results: JobResult[] = [];
  for (const job of jobsOf(ids, promptIds, sampling)) results.push(await runJob(policy, job, signal));
  const responses = responsesOf(tokenizer, prompts, results, options.samples);
  await onResponses?.(responses);
  return responses;
}

/** The results of an iteration's jobs, in their order, as responses to its prompts. */
export function responsesOf(
  tokenizer: TextTokenizer,
  prompts: readonly Prompt[],
  results: readonly JobResult[],
  samples = 1,
): Response[] {
  const drawn = results.flatMap(({ version, responses }) => responses.map((response) => ({ version, ...response })));
  return drawn.map(({ ids, ended, text, version, logProbs }, i): Response => {
    const prompt = Math.floor(i / samples);
    return {
      ...whole(prompts[prompt].ids, ids),
      prompt,
      sample: i % samples,
      ...fromPrompt(prompts[prompt], text ?? tokenizer.decode(ids, { continued: true })),
      ended,
      version,
      ...(logProbs && { logProbs }),
    };
  });
}

/** A response cut to what a limit on prompt and response together leaves it: one token at least. */
export function withinLength(response: Response, maxLength: number, tokenizer: TextTokenizer): Response {
  const { ids, promptLength } = response;
  const kept = Math.max(promptLength + 1, maxLength);
  if (ids.length <= kept) return response;
  const cut = ids.slice(0, kept);
  const text = tokenizer.decode(cut.subarray(promptLength), { continued: true });
  const logProbs = response.logProbs?.subarray(0, kept - promptLength);
  return { ...withText(response, text), ids: cut, ended: false, ...(logProbs && { logProbs }) };
}

/** A response with another text, in its conversation as well. */
export function withText(response: Response, text: string): Response {
  const messages = response.messages?.with(-1, { role: "assistant", content: text });
  return { ...response, text, ...(messages && { messages }) };
}

/** Responses as a run reports them: the first `count`, with what they are worth where that is known. */
export const samplesOf = (
  responses: readonly Response[],
  rewards: readonly number[] | null,
  gold: readonly number[] | null,
  count: number,
): Sample[] =>
  responses.slice(0, count).map((r, i) => ({
    prompt: r.promptText,
    response: r.text,
    ...(rewards && { reward: rewards[i] }),
    ...(gold && { gold: gold[i] }),
  }));

/** How long responses are, and how many ended by themselves. */
export const lengthMetrics = (responses: readonly Response[]): { mean_length: number; eos_rate: number } => ({
  mean_length: average(responses.map(predictedTokens)),
  eos_rate: average(responses.map((r) => Number(r.ended))),
});

/** The tokenizer of a trainer's models: the one that is named, or the policy's own. Throws a UserError where there is none. */
export function tokenizerOf({ policy, tokenizer }: { policy: Model; tokenizer?: TextTokenizer }): TextTokenizer {
  const found = tokenizer ?? policy.tokenizer;
  if (found) return found;
  throw new UserError("texts need a tokenizer: give one beside the model, or a model that openModel opened");
}

/** Where prompts come from: a list, held-out ones beside it, or a dataset that makes them for a tokenizer. */
export type PromptData =
  | readonly Prompt[]
  | { train: readonly Prompt[]; eval?: readonly Prompt[] }
  | {
      prompts(
        tokenizer: TextTokenizer,
        room: { context: number; response: number; together?: number | null },
      ): Promise<{ train: Prompt[]; eval: Prompt[] }>;
    };

/** The prompts to evaluate on: none where nothing asks for evaluations. Throws a UserError where something does in vain. */
export function heldOutPrompts(prompts: { eval: readonly Prompt[] }, o: EvaluationChoice): readonly Prompt[] {
  const asked = evaluationAsked(o);
  if (asked === null) return [];
  if (prompts.eval.length > 0) return prompts.eval;
  throw new UserError(`${asked} needs held-out prompts: name a dataset for them, or leave it out`);
}

/** The prompts of a run, with room for responses of a length. Throws a UserError where there are none. */
export async function promptsOf(
  data: PromptData,
  tokenizer: TextTokenizer,
  room: { context: number; response: number; together?: number | null },
): Promise<{ train: readonly Prompt[]; eval: readonly Prompt[] }> {
  const found = "prompts" in data ? await data.prompts(tokenizer, room) : "train" in data ? data : { train: data };
  if (found.train.length === 0) throw new UserError("there is no prompt to respond to: the dataset is empty");
  // A dataset makes its held-out part when it is first asked for.
  return {
    train: found.train,
    get eval() {
      return found.eval ?? [];
    },
  };
}
