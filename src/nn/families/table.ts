/** The families that can be opened and saved. One more is a file beside this one and its name in the list below. */
import { registerGguf } from "../../io/gguf-architectures.ts";
import { UserError } from "../../runtime/errors.ts";
import type { Family } from "./family.ts";
import { gemma, gemma2, gemma3 } from "./gemma.ts";
import { gpt2, gptNeo, gptNeoX } from "./gpt.ts";
import { llama, mistral, qwen2, qwen3, smolLM3 } from "./llama.ts";

const builtIn: readonly Family[] = [
  gpt2,
  gptNeo,
  gptNeoX,
  llama,
  smolLM3,
  mistral,
  qwen2,
  qwen3,
  gemma,
  gemma2,
  gemma3,
];

const table = new Map(builtIn.map((family) => [family.modelType, family]));
const names = [...table.keys()];

/**
 * Makes a family known: its models can be made, opened, trained, adapted and saved like those of the families that are
 * built in. Throws `UserError` where the `model_type`, or the architecture's name in GGUF, is taken.
 */
export function registerFamily(family: Family): void {
  const { modelType } = family;
  if (table.has(modelType)) throw new UserError(`there is a family "${modelType}" already; choose another model_type`);
  if (family.gguf) registerGguf(family.gguf.architecture, family.gguf);
  table.set(modelType, family);
  names.push(modelType);
}

/** The family of a `model_type`; undefined where there is none. A family of one's own may start from one. */
export const findFamily = (modelType: unknown): Family | undefined =>
  typeof modelType === "string" ? table.get(modelType) : undefined;

/** The `model_type`s of all families that are known, in the order in which they came; the list grows with them. */
export const familyNames = (): readonly string[] => names;

/** The names under which files of some family have an LM head of its own. */
export const headNames = (): string[] => [...new Set([...table.values()].map(headNameOf))];

/** The name under which files of a family have an LM head of its own. */
export const headNameOf = ({ headName = "lm_head.weight" }: Family): string => headName;
