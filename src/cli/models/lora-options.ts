import type { LoraOptions } from "../../nn/lora-options.ts";
import type { Values } from "../option.ts";
import type { AdapterOptions } from "../options/shared.ts";

/** The adapter that a verb's options ask for. */
export function loraOptions(o: Partial<Values<AdapterOptions>>): LoraOptions {
  const { lora_target_modules: targets } = o;
  return {
    rank: o.lora_r ?? 16,
    alpha: o.lora_alpha ?? 32,
    dropout: o.lora_dropout ?? 0,
    rsLora: o.use_rslora ?? false,
    ...(targets && { targets: targets.length === 1 && targets[0] === "all-linear" ? "all-linear" : targets }),
    modulesToSave: o.lora_modules_to_save ?? [],
  };
}
