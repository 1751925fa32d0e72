/** The tiny models of every family, as Hugging Face transformers made their fixtures. */
import { memoryFiles, writeSafetensors } from "webrlhf";
import { loadCausalLM } from "webrlhf/nn";
import type { FixtureArray } from "../fixture.ts";
import fixture from "../fixtures/families.json" with { type: "json" };
import { values as draw } from "../tensor/check.ts";

/** [name, shape, centre, scale]: how `draw` fills the tensor. */
type Layout = [name: string, shape: number[], centre: number, scale: number][];

export interface Case {
  name: string;
  config: Record<string, unknown>;
  seed: number;
  tensors: Layout;
  ids: number[][];
  logits: FixtureArray[];
  loss: number;
  gradients: { norm: number; dots: number[] }[];
  prompts: number[][];
  greedy: number[][];
  scorer?: { config: Record<string, unknown>; tensors: Layout; scores: number[] };
}
/** Each with its name. */
export const cases = (fixture as unknown as { cases: Case[] }).cases.map((c): [string, Case] => [c.name, c]);

export function weightsOf(tensors: Layout, seed: number) {
  const entries = tensors.map(([name, shape, centre, spread], i): [string, { shape: number[]; data: Float32Array }] => {
    const drawn = draw(
      shape.reduce((a, b) => a * b, 1),
      seed + i,
      spread,
    );
    return [name, { shape, data: drawn.map((v) => centre + v) }];
  });
  return Object.fromEntries(entries);
}

export async function folder(config: Record<string, unknown>, weights: ReturnType<typeof weightsOf>) {
  const files = memoryFiles();
  await files.writeFolder("model", {
    "config.json": JSON.stringify(config),
    "model.safetensors": writeSafetensors(weights),
  });
  return files;
}

export const open = async (c: Case) => loadCausalLM(await folder(c.config, weightsOf(c.tensors, c.seed)), "model");
