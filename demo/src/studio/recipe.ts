/** A training run's settings by the command line's names, and the command line that does the same elsewhere. */

/** The methods of the studio, by their verbs. */
export const methods = ["sft", "reward", "dpo", "iterate"] as const;
export type Method = (typeof methods)[number];

/** What a visitor may set, in the order of the page. */
export interface Knobs {
  learningRate: number;
  maxSteps: number;
  batch: number;
  rank: number;
  maxLength: number;
  /** Of DPO. */
  beta: number;
  /** Of online DPO: rounds, each of `maxSteps` steps. */
  iterations: number;
  /** Of online DPO: prompts of a round, answers to each, and their longest. */
  prompts: number;
  answers: number;
  responseLength: number;
  seed: number;
}

export const knobsOf = (method: Method): Knobs => ({
  learningRate: { sft: 2e-4, reward: 2e-4, dpo: 1e-4, iterate: 1e-4 }[method],
  maxSteps: method === "iterate" ? 4 : 20,
  batch: 2,
  rank: 8,
  maxLength: 512,
  beta: 0.1,
  iterations: 2,
  prompts: 8,
  answers: 4,
  responseLength: 48,
  seed: 42,
});

/** Bounds of what may be set. */
export const bounds: Record<keyof Knobs, { min: number; max: number; whole: boolean }> = {
  learningRate: { min: 1e-7, max: 1e-1, whole: false },
  maxSteps: { min: 1, max: 100_000, whole: true },
  batch: { min: 1, max: 64, whole: true },
  rank: { min: 1, max: 256, whole: true },
  maxLength: { min: 8, max: 32_768, whole: true },
  beta: { min: 1e-4, max: 10, whole: false },
  iterations: { min: 1, max: 50, whole: true },
  prompts: { min: 1, max: 4096, whole: true },
  answers: { min: 2, max: 32, whole: true },
  responseLength: { min: 1, max: 2048, whole: true },
  seed: { min: 0, max: 0xffffffff, whole: true },
};

/** The knobs that a method has. */
export const knobNames = (method: Method): (keyof Knobs)[] => [
  ...(method === "iterate" ? (["iterations", "prompts", "answers", "responseLength"] as const) : []),
  "maxSteps",
  "batch",
  "learningRate",
  "rank",
  ...(method === "dpo" || method === "iterate" ? (["beta"] as const) : []),
  ...(method === "iterate" ? [] : (["maxLength"] as const)),
  "seed",
];

/** The first knob that is out of its bounds, or null. */
export function wrongKnob(method: Method, knobs: Knobs): keyof Knobs | null {
  const isWrong = (name: keyof Knobs) => {
    const { min, max, whole } = bounds[name];
    const value = knobs[name];
    return !(value >= min && value <= max && (!whole || Number.isInteger(value)));
  };
  return knobNames(method).find(isWrong) ?? null;
}

/** The settings of a run, without the places of models and data. */
export function settingsOf(method: Method, knobs: Knobs, dtype: string): Record<string, number | string | boolean> {
  return {
    use_peft: true,
    lora_r: knobs.rank,
    lora_alpha: 2 * knobs.rank,
    lora_dropout: 0,
    ...(dtype !== "float32" && { dtype }),
    learning_rate: knobs.learningRate,
    lr_scheduler_type: "constant",
    per_device_train_batch_size: knobs.batch,
    max_steps: knobs.maxSteps,
    ...(method === "iterate"
      ? {
          iterations: knobs.iterations,
          prompts_per_iteration: knobs.prompts,
          num_generations: knobs.answers,
          response_length: knobs.responseLength,
        }
      : { max_length: knobs.maxLength }),
    ...((method === "dpo" || method === "iterate") && { beta: knobs.beta }),
    seed: knobs.seed,
  };
}

/** Places on another machine. */
export interface Places {
  model: string;
  data: string;
  /** Of a reward model, where the method asks one. */
  reward: string | null;
  output: string;
}

/** The command line that does on another machine what a run did here. */
export const repeated = (
  method: Method,
  settings: Readonly<Record<string, number | string | boolean>>,
  places: Places,
): string =>
  command(method, {
    model_name_or_path: places.model,
    ...(places.reward !== null && { reward_model_path: places.reward, base_model_name_or_path: places.model }),
    dataset_name: places.data,
    ...settings,
    output_dir: places.output,
  });

/** The command line that trains an adapter further: the adapter's folder is the model, its base is named beside it. */
export function continued(
  method: Method,
  settings: Readonly<Record<string, number | string | boolean>>,
  { model, data, reward, output }: Places,
  adapter: string,
): string {
  const further = Object.entries(settings).filter(([name]) => name !== "use_peft" && !name.startsWith("lora_"));
  return command(method, {
    model_name_or_path: adapter,
    base_model_name_or_path: model,
    ...(reward !== null && { reward_model_path: reward }),
    dataset_name: data,
    ...Object.fromEntries(further),
    output_dir: output,
  });
}

function command(method: Method, flags: Readonly<Record<string, number | string | boolean>>): string {
  const words = Object.entries(flags).flatMap(([name, value]) => {
    if (value === false) return [];
    return [value === true ? `--${name}` : `--${name} ${quoted(String(value))}`];
  });
  return ["webrlhf", method, ...words].join(" ");
}

/** A word as a POSIX shell takes it. */
export const quoted = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) && !word.startsWith("-") ? word : `'${word.replaceAll("'", "'\\''")}'`;
