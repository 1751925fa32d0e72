/** A tiny model and tiny data on the built-in world, for tests of trainers. */

import {
  preferenceExample,
  sftExample,
  worldPreferences,
  worldPrompts,
  worldSftRecords,
  worldTokenizer,
} from "webrlhf/data";
import { type DecoderConfig, decoderConfig } from "webrlhf/nn";
import type { TrainEvent } from "webrlhf/rlhf";

export const tokenizer = worldTokenizer();

export const tinyConfig = (family: "gpt2" | "llama" = "llama"): DecoderConfig =>
  decoderConfig({
    family,
    vocabSize: tokenizer.vocabSize,
    hiddenSize: 16,
    layers: 1,
    heads: 2,
    maxPositions: 64,
    eosId: tokenizer.eosId ?? null,
    padId: tokenizer.padId ?? null,
  });

export const sequences = (n: number) =>
  worldSftRecords(n, 1).map((record) => sftExample(record, tokenizer, { maxLength: 48 }));

export const pairs = (n: number) =>
  worldPreferences(n, 1).map((record) => preferenceExample(record, tokenizer, { maxLength: 48 }));

export const prompts = (n: number) =>
  worldPrompts(n, 1, "train").map((text) => ({ text, ids: Uint32Array.from(tokenizer.encode(text)) }));

/** Runs a trainer to its end; returns its events. */
export async function collect(trainer: AsyncGenerator<TrainEvent>): Promise<TrainEvent[]> {
  const events: TrainEvent[] = [];
  for await (const event of trainer) events.push(event);
  return events;
}

/** Runs a trainer that fails, as one that learned nothing does; returns its events and why. */
export async function collectFailing(trainer: AsyncGenerator<TrainEvent>) {
  const events: TrainEvent[] = [];
  try {
    for await (const event of trainer) events.push(event);
  } catch (error) {
    return { events, message: (error as Error).message };
  }
  throw new Error("the run did not fail");
}

/** The metrics of every step, without the wall clock. */
export const metricsOf = (events: readonly TrainEvent[]): Record<string, number>[] =>
  events.flatMap((e) => (e.type === "step" ? [e.metrics] : []));
