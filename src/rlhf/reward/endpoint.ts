/**
 * Rewards from an HTTP endpoint. Two forms of requests and answers, both JSON and in batches:
 * "plain": `{prompts: [..], responses: [..]}` gives `{rewards: [..]}`;
 * "paddle", PaddleNLP's reward server: `{src: [..], tgt: [..], response: [..]}` gives `{score: [..]}`.
 *
 * PaddleNLP takes every failure for rewards of zero and trains on them; here each one is an error.
 */

import { HttpClient, type HttpOptions, serverUrl } from "../../io/http.ts";
import { UserError } from "../../runtime/errors.ts";
import { inParallel } from "../../runtime/in-parallel.ts";
import type { RewardFunction } from "../rewards.ts";
import type { Response } from "../sampler.ts";

/** The protocol of an HTTP endpoint that gives rewards. */
export type RewardFormat = "plain" | "paddle";

/** How an HTTP endpoint is asked for rewards. */
export interface HttpRewardOptions extends HttpOptions {
  /** Default "plain". */
  format?: RewardFormat;
  /** Responses in one request. Default 64. */
  batchSize?: number;
  /** Requests under way at once. Default 4. */
  concurrency?: number;
  /** For the answer to one request. Default 2 minutes. */
  timeoutMs?: number;
  /** The expected answer, sent as `tgt` in the form "paddle". Default: the data's, else empty. */
  target?: (response: Response) => string;
  signal?: AbortSignal;
}

/**
 * Scores responses by POST to a URL. Connections that fail and answers 408, 429 and 5xx are tried anew (`retries`, with
 * growing pauses). Throws `UserError` for a server that stays away, says nothing for `timeoutMs`, or answers with anything
 * but one finite number per response.
 */
export function httpReward(url: string, options: HttpRewardOptions = {}): RewardFunction {
  const {
    format = "plain",
    batchSize = 64,
    concurrency = 4,
    timeoutMs = 120_000,
    target = (r) => r.target ?? "",
    signal,
  } = options;
  const { href } = serverUrl(url);
  const client = new HttpClient(href, { ...options, timeoutMs });
  const score: RewardFunction = async (responses) => {
    const rewards = new Float64Array(responses.length);
    const firsts = Array.from({ length: Math.ceil(responses.length / batchSize) }, (_, i) => i * batchSize);
    await inParallel(firsts, concurrency, async (first) => {
      const part = responses.slice(first, first + batchSize);
      const answer = await client.text("POST", "", request(part, format, target), signal);
      rewards.set(readRewards(answer, format, part.length, href), first);
    });
    return rewards;
  };
  score.remote = true;
  return score;
}

function request(part: readonly Response[], format: RewardFormat, target: (response: Response) => string): object {
  const prompts = part.map(({ promptText }) => promptText);
  const texts = part.map(({ text }) => text);
  if (format === "plain") return { prompts, responses: texts };
  return { src: prompts, tgt: part.map(target), response: texts };
}

/** The numbers of an answer; each may stand in a list of its own, as a column of a matrix does. */
function readRewards(answer: string, format: RewardFormat, count: number, url: string): number[] {
  const key = format === "plain" ? "rewards" : "score";
  let body: unknown;
  try {
    body = JSON.parse(answer);
  } catch (cause) {
    // Python writes NaN and Infinity as they are, which is no JSON.
    const number = /(?<![\w"])(NaN|-?Infinity)(?![\w"])/.exec(answer);
    if (number) throw new UserError(`${url} gave a reward of ${number[1]}: every reward must be a finite number`);
    throw new UserError(`${url} answered with something that is not JSON: ${excerpt(answer)}`, { cause });
  }
  const values = (body as Record<string, unknown> | null)?.[key];
  if (!Array.isArray(values)) {
    throw new UserError(`${url} must answer {"${key}": [..]} (form ${format}), not ${excerpt(answer)}`);
  }
  if (values.length !== count) throw new UserError(`${url} gave ${values.length} rewards for ${count} responses`);
  return values.map((value: unknown, i) => {
    const reward = Array.isArray(value) && value.length === 1 ? value[0] : value;
    if (typeof reward === "number" && Number.isFinite(reward)) return reward;
    throw new UserError(
      `${url}: ${key}[${i}] is ${excerpt(typeof value === "number" ? String(value) : JSON.stringify(value))}, not a finite number`,
    );
  });
}

const excerpt = (text: string): string => (text.length > 120 ? `${text.slice(0, 120)}...` : text || "nothing");
