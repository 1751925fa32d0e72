/** A tiny model that has learned something, and what sampling from it is compared by. */
import { scope } from "webrlhf";
import {
  AdamW,
  CausalLM,
  type DecoderConfig,
  decoderConfig,
  Engine,
  type GenerateOptions,
  openPrefix,
} from "webrlhf/nn";
import type { Sequence } from "webrlhf/rlhf";
import { poolStats } from "../../src/gpu/pool.ts";
import { trim } from "../../src/gpu/stream.ts";
import { SlotDecoder } from "../../src/nn/slot-decoder.ts";
import { sftStep } from "../../src/rlhf/sft.ts";

export const config = (more: object = {}): DecoderConfig =>
  decoderConfig({
    ...{ family: "llama", vocabSize: 96, hiddenSize: 32, layers: 2, heads: 4, kvHeads: 2, intermediateSize: 48 },
    ...{ maxPositions: 64, eosId: null, padId: null },
    ...more,
  });
export const sequence = (length: number, seed: number): Uint32Array =>
  Uint32Array.from({ length }, (_, i) => (seed * 31 + i * 7) % 96);
export const lessons: Sequence[] = [1, 2, 3].map((seed) => ({ ids: sequence(24, seed), promptLength: 1 }));
export const prompts = [sequence(5, 1), sequence(9, 2), sequence(5, 3)];
export const greedy = { maxNewTokens: 12, temperature: 0, seed: 1 };

/** A model that has learned something, so that its likeliest tokens stand out. */
export function taught(more: object = {}): CausalLM {
  const model = new CausalLM(config(more)).initialize(1);
  const optimizer = new AdamW(model.store, {});
  for (let i = 0; i < 30; i++) scope(() => sftStep(model, optimizer, [lessons], 1e-2)).watched.values.free("test");
  optimizer.destroy();
  return model;
}

/** Bytes that a decoder of 64 slots of 64 tokens takes. */
export function held(model: CausalLM): number {
  trim();
  const before = poolStats().poolBytes;
  const decoder = new SlotDecoder(model, 64, 64, 1);
  const bytes = poolStats().poolBytes - before;
  decoder.free();
  trim();
  return bytes;
}

/** The likeliest tokens after a prompt; gone on from and taken back to where it ended, if `rewound`. */
export async function topAfter(model: CausalLM, prompt: Uint32Array, rewound = false) {
  const live = await openPrefix(model, prompt);
  if (rewound) {
    await live.push([...sequence(3, 7)]);
    await live.rewind(3); // its last token is run once more, against what is kept
  }
  const top = live.top(3);
  live.free();
  return top;
}

/** The tokens that an engine gives to each of the prompts. */
export async function byEngine(model: CausalLM, params: GenerateOptions): Promise<number[][]> {
  const engine = new Engine(model, { slots: 4, capacity: 32 });
  const all: number[][] = [];
  for (const ids of prompts) {
    const got: number[] = [];
    for await (const piece of engine.submit({ ids, params })) got.push(...piece.ids);
    all.push(got);
  }
  await engine.close();
  return all;
}
