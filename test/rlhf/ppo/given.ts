/** PPO on responses and rewards that were given, as comparisons with other programs need it. */
import type { CausalLM, ScoreModel } from "webrlhf/nn";
import { type PpoSettings, type Response, type Sampler, type Sequence, trainPpo } from "webrlhf/rlhf";
import { collect, metricsOf, tokenizer } from "../tiny.ts";

/** A response as other programs are given it. */
export interface GivenResponse {
  prompt: number[];
  response: number[];
  /** It ended by itself, with an end token. */
  ended: boolean;
  reward: number;
}

export const joined = ({ prompt, response }: GivenResponse): Sequence => ({
  ids: Uint32Array.from([...prompt, ...response]),
  promptLength: prompt.length,
});

/** A run: each rollout's responses come prompt by prompt. */
export interface GivenRun {
  dialect: "paddle" | "paddle-late" | "safe" | "trl";
  settings: Partial<PpoSettings>;
  rollouts: GivenResponse[][];
  /** Sequences to remember. */
  ptx?: GivenResponse[];
}

/** Trains policy and critic in place; returns the metrics of every rollout. */
export async function trainGiven(
  models: { policy: CausalLM; reference: CausalLM; critic: ScoreModel },
  { dialect, settings, rollouts, ptx }: GivenRun,
  common: Partial<PpoSettings>,
): Promise<Record<string, number>[]> {
  const samples = settings.numGenerations ?? 1;
  const prompts = rollouts[0].length / samples;
  const sampler: Sampler = async (_, __, { iteration }) =>
    rollouts[iteration].map((row, i): Response => {
      const own = { prompt: Math.floor(i / samples), sample: i % samples, promptText: "", text: "", ended: row.ended };
      return { ...joined(row), ...own };
    });
  let scored = 0;
  const rewards = async () => rollouts[scored++].map(({ reward }) => reward);
  const train = Array.from({ length: prompts }, (_, i) => ({ text: `${i}`, ids: Uint32Array.of(2 + i) }));
  const data = { train, ...(ptx && { ptx: ptx.map(joined) }) };
  const sizes = { rolloutBatchSize: prompts, maxSteps: rollouts.length };
  const chosen = { dialect, ...sizes, ...common, ...settings };
  return metricsOf(await collect(trainPpo({ ...models, rewards, sampler, tokenizer }, data, chosen)));
}
