/** The families that can be opened and saved, by Hugging Face's `model_type`. */
import type { FamilyMapping } from "./family.ts";
import { gemma, gemma2, gemma3 } from "./gemma.ts";
import { gpt2, gptNeo, gptNeoX } from "./gpt.ts";
import { llama, mistral, qwen2, qwen3, smolLM3 } from "./llama.ts";

const table = {
  gpt2,
  gpt_neo: gptNeo,
  gpt_neox: gptNeoX,
  llama,
  smollm3: smolLM3,
  mistral,
  qwen2,
  qwen3,
  gemma,
  gemma2,
  gemma3_text: gemma3,
};

export type Family = keyof typeof table;

export const families: Readonly<Record<Family, FamilyMapping>> = table;

export const isFamily = (name: unknown): name is Family => typeof name === "string" && Object.hasOwn(table, name);
