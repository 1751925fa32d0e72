import { describe, expect, it } from "vitest";
import { group, inFile, onCommandLine, settings } from "webrlhf/rlhf";
import { loadVerb } from "../../src/cli/verbs/index.ts";
import { all, effective, needs, where, without } from "../../src/settings/effect.ts";

const own = group("Test");
const record = settings("test", {
  usePeft: own.bool(false, "on or off"),
  ...effective(needs("usePeft"), { loraR: own.int(16, "rank", { min: 1 }) }),
  schedule: own.choice(["constant", "linear"], "constant", "schedule"),
  warmup: own.int(0, "warm-up", { effect: where("schedule", "linear") }),
  losses: own.list(["a"], "losses"),
  tau: own.float(1, "of b and c", { effect: all(where("losses", "b", "c"), needs("usePeft")) }),
  server: own.text(null, "server"),
  slots: own.int(1, "slots", { effect: without("server") }),
});
const flags = (values: Record<string, unknown>) => () => record.resolve([onCommandLine(values)]);

describe("a setting without effect", () => {
  it.each([
    [{ lora_r: 4 }, "--lora_r has no effect without --use_peft"],
    [{ lora_r: 4, use_peft: "false" }, "--lora_r has no effect without --use_peft"],
    [{ warmup: 4 }, "--warmup has no effect unless --schedule is linear"],
    [{ tau: 2, use_peft: true }, "--tau has no effect unless --losses is b or c"],
    [{ tau: 2, losses: "a,c" }, "--tau has no effect without --use_peft"],
    [{ server: "x", slots: 4 }, "--slots has no effect together with --server"],
  ])("is a mistake: %j", (values, message) => {
    expect(flags(values)).toThrow(message);
  });

  it.each([
    { lora_r: 4, use_peft: true },
    { lora_r: 16 }, // the default, which is what happens
    { warmup: 4, schedule: "linear" },
    { losses: "a,b", tau: 2, use_peft: true },
    { slots: 4 },
  ])("is none: %j", (values) => {
    expect(flags(values)).not.toThrow();
  });

  it("may wait in a file for what the file or a flag has turned off, but not for what nobody speaks of", () => {
    const file = (values: Record<string, unknown>) => inFile(values, "x.yaml");
    expect(() => record.resolve([file({ use_peft: false, lora_r: 4 })])).not.toThrow();
    expect(() =>
      record.resolve([file({ use_peft: true, lora_r: 4 }), onCommandLine({ use_peft: false })]),
    ).not.toThrow();
    expect(() => record.resolve([file({ lora_r: 4 })])).toThrow("lora_r in x.yaml has no effect");
    expect(() => record.resolve([file({ use_peft: false }), onCommandLine({ lora_r: 4 })])).toThrow("--lora_r has no");
  });

  it("is none in code, where settings are put together", () => {
    expect(record({ loraR: 4 }).loraR).toBe(4);
  });
});

/** For each verb flags that change nothing by themselves, and what makes them count. */
const cases: readonly [verb: string, flag: string, with_: string, base?: string][] = [
  ["sft", "--lora_target_modules q_proj", "--use_peft true"],
  ["reward", "--lora_r 4", "--use_peft true", "--model_name_or_path m"],
  ["sft", "--max_eval_samples 5", "--test_size 0.1", "--dataset_name x.jsonl"],
  ["dpo", "--max_eval_samples 5", "--eval_dataset_name y.jsonl", "--model_name_or_path m --dataset_name x.jsonl"],
  ["sft", "--warmup_steps 5", "--lr_scheduler_type constant_with_warmup", "--lr_scheduler_type constant"],
  ["reward", "--odin_length_coef 2", "--loss_type odin", "--model_name_or_path m"],
  ["reward", "--normalizer_momentum 0.5", "--normalizer_type ExponentialMovingAverage", "--model_name_or_path m"],
  ["cost", "--normalizer_updates normalizing", "--normalizer_type RunningMeanStd", "--model_name_or_path m"],
  ["cost", "--regularization_over sum", "--regularization 0.1", "--model_name_or_path m"],
  ["dpo", "--discopop_tau 0.1", "--loss_type discopop", "--model_name_or_path m"],
  ["dpo", "--ref_model_sync_steps 3", "--sync_ref_model true", "--model_name_or_path m"],
  ["dpo", "--rpo_over completion", "--rpo_alpha 1", "--model_name_or_path m"],
  ["dpo", "--f_alpha_divergence_coef 0.1", "--f_divergence_type alpha_divergence", "--model_name_or_path m"],
  ["cpo", "--simpo_gamma 1", "--loss_type simpo", "--model_name_or_path m"],
  ["ppo", "--ptx_coef 2", "--ptx_dataset_name x", "--model_name_or_path m --reward_model_path r"],
  ["ppo", "--max_ptx_length 9", "--ptx_dataset_name x", "--model_name_or_path m --reward_model_path r"],
  ["ppo", "--ema_generation false", "--ema_beta 0.9", "--model_name_or_path m --reward_model_path r"],
  ["ppo", "--kl_horizon 5", "--target_kl 3", "--model_name_or_path m --reward_model_path r"],
  ["ppo", "--reward_server_retries 9", "--reward_model_path http://x", "--model_name_or_path m"],
  ["grpo", "--overlong_penalty_factor 2", "--overlong_buffer_len 8", "--model_name_or_path m --reward_model_path r"],
  ["grpo", "--reward_model_dtype int8", "--reward_model_path r", "--model_name_or_path m"],
  ["grpo", "--weight_sync_steps 2", "--max_staleness 1", "--model_name_or_path m --reward_model_path r"],
  [
    "ppo",
    "--importance_sampling_cap 2",
    "--importance_sampling_correction truncated",
    "--model_name_or_path m --reward_model_path r",
  ],
  ["rloo", "--server_concurrency 4", "--server http://x", "--model_name_or_path m --reward_model_path r"],
  ["raft", "--server_concurrency 4", "--server http://x", "--model_name_or_path m --reward_model_path r"],
  ["raft", "--planted_bonus 2", "--planted_text x", "--model_name_or_path m --reward_model_path r"],
  ["iterate", "--server_model x", "--server http://x", "--model_name_or_path m --reward_model_path r"],
  ["multi-objective", "--gating_hidden_dim 8", "--preference_dataset_name p", "--model_name_or_path m"],
  ["multi-objective", "--corr_threshold 0.1", "--verbosity_attribute v", "--model_name_or_path m"],
  ["multi-objective", "--learning_rate 0.1", "--preference_dataset_name p", "--model_name_or_path m"],
  ["evaluate", "--best_of 4", "--model_name_or_path m", "--reward_model_path r"],
  [
    "evaluate",
    "--evaluate_block_size 9",
    "--perplexity_dataset_name x",
    "--model_name_or_path m --reward_model_path r",
  ],
  ["generate", "--resume false", "--output_file x"],
  ["data", "--test_size 0.1", "--action prepare"],
  ["data", "--num_rows 5", "--action describe", "--action prepare"],
  ["data", "--dataset_name x", "--action describe", "--action list"],
];

/** Flags and the values that follow them. */
const valuesOf = (text = ""): Record<string, string> =>
  Object.fromEntries([...text.matchAll(/--(\w+) (\S+)/g)].map(([, name, value]) => [name, value]));

describe("verbs", () => {
  it.each(cases)("%s says that %s has no effect without %s", async (name, flag, counted, base) => {
    const verb = (await loadVerb(name))!;
    const others = { ...valuesOf(base), ...valuesOf(flag) };
    const first = flag.split(" ")[0];
    const needed = name === "grpo" && "reward_model_dtype" in others ? { reward_model_path: "builtin:world" } : {};
    const given = { ...(name === "ppo" && base === "--model_name_or_path m" && { reward_model_path: "r" }), ...needed };
    expect(() => verb.settings.resolve([onCommandLine({ ...given, ...others })])).toThrow(`${first} has no effect`);
    expect(() => verb.settings.resolve([onCommandLine({ ...given, ...others, ...valuesOf(counted) })])).not.toThrow();
  });

  it.each([
    ["generate", { prompt: "x", dataset_name: "y" }, "--dataset_name has no effect together with --prompt"],
    ["generate", { input_file: "x", num_prompts: "3" }, "--num_prompts has no effect together with"],
    ["generate", { server: "http://x", dtype: "int8" }, "--dtype has no effect together with --server"],
    ["generate", { do_sample: "false", top_p: "0.9" }, "--top_p has no effect with --do_sample false"],
    ["sft", { model_name_or_path: "m", hidden_size: "64" }, "--hidden_size has no effect together with"],
    ["evaluate", { model_name_or_path: "m", reward_model_path: "r", ties: "half" }, "--ties has no effect"],
  ])("%s refuses %j", async (name, values, message) => {
    const verb = (await loadVerb(name))!;
    expect(() => verb.settings.resolve([onCommandLine(values as never)])).toThrow(message);
  });
});
