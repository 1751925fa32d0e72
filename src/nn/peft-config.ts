/** PEFT's adapter_config.json: what of it we act on, what we may ignore, and what we refuse. */
import { UserError } from "../runtime/errors.ts";

/** An adapter as PEFT's adapter_config.json describes it. */
export interface AdapterConfig {
  rank: number;
  alpha: number;
  dropout: number;
  rsLora: boolean;
  dora: boolean;
  init: "kaiming" | "gaussian";
  /** Ends of module names; null where the file's tensors alone say which modules are meant. */
  targets: readonly string[] | null;
  modulesToSave: readonly string[];
  /** Alphas of single modules. */
  alphaPattern: Readonly<Record<string, number>>;
  taskType: "CAUSAL_LM" | "SEQ_CLS" | null;
  basePath: string | null;
}

/** Fields that change nothing for weights that are in the file, or that say what the tensors say, too. */
const harmless = new Set([
  "auto_mapping",
  "revision",
  "inference_mode",
  "peft_version",
  "fan_in_fan_out",
  "rank_pattern",
  "exclude_modules",
  "layers_to_transform",
  "layers_pattern",
  "megatron_core",
  "qalora_group_size",
  "ensure_weight_tying",
  "runtime_config",
]);

const nothing = (value: unknown): boolean =>
  value == null || value === false || value === "" || (typeof value === "object" && Object.keys(value).length === 0);

/** Reads adapter_config.json. Throws `UserError` naming the field that is missing, wrong or not supported. */
export function parseAdapterConfig(json: Record<string, unknown>, file: string): AdapterConfig {
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new UserError(`${file}: must be an object`);
  const wrong = (field: string, expected: string): never => {
    throw new UserError(`${file}: ${field} = ${JSON.stringify(json[field])} ${expected}`);
  };
  const number = (field: string, fallback?: number): number => {
    const value = json[field] ?? fallback;
    return typeof value === "number" && Number.isFinite(value) ? value : wrong(field, "must be a number");
  };
  const names = (field: string): string[] => {
    const value = json[field] ?? [];
    const fine = Array.isArray(value) && value.every((n) => typeof n === "string");
    return fine ? (value as string[]) : wrong(field, "must be a list of names");
  };
  if (json.peft_type !== "LORA") wrong("peft_type", "is not supported; LORA is");
  const { task_type: taskType, base_model_name_or_path: basePath, init_lora_weights: init, bias } = json;
  if (taskType != null && taskType !== "CAUSAL_LM" && taskType !== "SEQ_CLS") {
    wrong("task_type", "is not supported; CAUSAL_LM and SEQ_CLS are");
  }
  if (bias != null && bias !== "none") wrong("bias", 'is not supported; "none" is');
  // Other ways to start change the base's weights, too, so that the file is not all of the adapter.
  if (!(init == null || typeof init === "boolean" || init === "gaussian"))
    wrong("init_lora_weights", "is not supported");
  if (basePath != null && typeof basePath !== "string") wrong("base_model_name_or_path", "must be a path or a name");
  for (const [field, value] of Object.entries(json)) {
    if (!known.has(field) && !harmless.has(field) && !nothing(value)) wrong(field, "is not supported");
  }
  const rank = number("r");
  if (!Number.isInteger(rank) || rank < 1) wrong("r", "must be a whole number of at least 1");
  const alphaPattern = (json.alpha_pattern ?? {}) as Record<string, number>;
  for (const [pattern, alpha] of Object.entries(alphaPattern)) {
    // Patterns are regular expressions to PEFT; plain names are what people write.
    if (!/^\^?[\w.]+$/.test(pattern) || typeof alpha !== "number")
      wrong("alpha_pattern", "must map plain names to numbers");
  }
  const open = ["exclude_modules", "layers_to_transform"].some((field) => !nothing(json[field]));
  return {
    rank,
    alpha: number("lora_alpha", 8),
    dropout: number("lora_dropout", 0),
    rsLora: json.use_rslora === true,
    dora: json.use_dora === true,
    init: init === "gaussian" ? "gaussian" : "kaiming",
    targets: open || !Array.isArray(json.target_modules) ? null : names("target_modules"),
    modulesToSave: names("modules_to_save"),
    alphaPattern,
    taskType: (taskType ?? null) as AdapterConfig["taskType"],
    basePath: (basePath as string | undefined) || null,
  };
}

const known = new Set([
  "peft_type",
  "task_type",
  "base_model_name_or_path",
  "r",
  "lora_alpha",
  "lora_dropout",
  "use_rslora",
  "use_dora",
  "bias",
  "init_lora_weights",
  "target_modules",
  "modules_to_save",
  "alpha_pattern",
]);

/** A module's alpha: by the first pattern that its name ends with. */
export function alphaOf(module: string, { alpha, alphaPattern }: AdapterConfig): number {
  for (const [pattern, own] of Object.entries(alphaPattern)) {
    const whole = pattern.startsWith("^");
    const name = whole ? pattern.slice(1) : pattern;
    if (module === name || (!whole && module.endsWith(`.${name}`))) return own;
  }
  return alpha;
}
