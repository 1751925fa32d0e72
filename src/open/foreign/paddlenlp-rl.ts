/**
 * Arguments of PaddleNLP's program for policies without a critic (`run_rl.py`): GRPO and REINFORCE++. Some of them are read
 * together, as one decides what another means.
 */
import type { Foreign, SettingsTable } from "../../settings/index.ts";
import { each, idle, isOff, off, only, plain, type Rule, type Rules, sets } from "./rules.ts";

type Given = Readonly<Record<string, unknown>>;

const nothing: Foreign = { kind: "idle" };
const refused = (why: string): Foreign => ({ kind: "refused", why });
const setting = (values: Readonly<Record<string, unknown>>): Foreign => ({ kind: "sets", values });
/** What an argument means is set by another one beside it. */
const said = setting({});

const has = (table: SettingsTable, key: string): boolean => Object.hasOwn(table, key);
const isGrpo = (table: SettingsTable): boolean => has(table, "scaleRewards");
const isReinforce = (table: SettingsTable): boolean => has(table, "numIterations") && has(table, "gamma");
const isPpo = (table: SettingsTable): boolean => has(table, "dialect");

/** It changes nothing in a file that was written for a method without a critic; elsewhere the name is a mistake. */
const idleBeside: Rule = (_, given, table) =>
  given.rl_algorithm !== undefined && (isGrpo(table) || isReinforce(table)) ? nothing : null;

/** The method by its name there. GRPO's loss there is a mean over each pass's tokens, and its KL term is plain. */
const algorithm: Rule = (value, given, table) => {
  const name = plain(value);
  if (name === "ppo" && isPpo(table)) return nothing;
  if (name === "reinforce_plus_plus" && isReinforce(table)) return nothing;
  if (name === "grpo" && isGrpo(table)) {
    return setting({
      ...(given.loss_type === undefined && { lossType: "bnpo" }),
      ...(given.use_bias_correction_kl === undefined && { useBiasCorrectionKl: false }),
    });
  }
  const verb = { ppo: "ppo", grpo: "grpo", reinforce_plus_plus: "reinforce" }[name];
  return refused(`the verb says the method: webrlhf ${verb ?? "ppo, grpo or reinforce"}`);
};

const perPrompt = (given: Given): number => Number(given.rollout_n ?? given.num_return_sequences ?? 1);

/** Prompts in a rollout, and how many of them an optimizer step learns from; there passes are counted from both. */
const rolloutSize: Rule = (value, given, table) => {
  const responses = Number(value) * perPrompt(given);
  const inPrompts = has(table, "rolloutBatchSize");
  if (!inPrompts && !has(table, "generationBatchSize")) return null;
  const mini = Number(given.global_mini_batch_size ?? given.mini_batch_size ?? -1);
  const learned = mini > 0 ? mini * perPrompt(given) : responses;
  const pass = Number(given.per_device_train_batch_size ?? table.perDeviceTrainBatchSize.default);
  return setting({
    ...(inPrompts ? { rolloutBatchSize: value } : { generationBatchSize: responses }),
    gradientAccumulationSteps: Math.max(1, Math.floor(learned / pass)),
  });
};

/** An older way to say how many prompts a rollout has, for methods that count its responses. */
const promptsPerRollout: Rule = (value, given, table) =>
  isOff(given.global_batch_size) && has(table, "generationBatchSize")
    ? setting({ generationBatchSize: Number(value) * perPrompt(given) })
    : idleBeside(value, given, table);

/** The ratio's clip: one for both sides, and one for each side that goes before it. */
const clip =
  (name: string): Rule =>
  (_, given, table) => {
    const { clip_range_ratio: both, clip_range_ratio_low: low, clip_range_ratio_high: high } = given;
    const sides = isPpo(table) ? ["clipRange", "clipRangeHigh"] : ["epsilon", "epsilonHigh"];
    if (!has(table, sides[0]) || (low === undefined && high === undefined)) return null;
    const present = ["clip_range_ratio", "clip_range_ratio_low", "clip_range_ratio_high"].filter(
      (one) => given[one] !== undefined,
    );
    if (present[0] !== name) return said;
    const [down, up] = [low ?? both ?? undefined, high ?? both ?? undefined];
    return setting({ [sides[0]]: down, ...(Number(up) !== Number(down) && { [sides[1]]: up }) });
  };

/** The columns of the data. PaddleNLP's own names are known without being named. */
const columns =
  (name: string): Rule =>
  (_, given, table) => {
    if (!has(table, "column")) return null;
    const { prompt_key: prompt = "src", response_key: response = "tgt" } = given;
    const first = given.prompt_key === undefined ? "response_key" : "prompt_key";
    if (name !== first || (prompt === "src" && response === "tgt")) return said;
    return setting({ column: [`prompt=${prompt}`, `completion=${response}`] });
  };

/** Whether a penalty is asked for that has a switch of its own there. */
const penalised = (given: Given): boolean => !isOff(given.enable_overlong_reward_buffer);

/** Scores that are normalised before the KL penalty joins them, which is undone where returns are whitened without one. */
const normalizedRewards: Rule = (value, given, table) => {
  const left = idleBeside(value, given, table);
  if (left === null || isGrpo(table) || isOff(value) || isOff(given.kl_coeff)) return left;
  return refused("rewards are not normalised here before the KL penalty is taken off them: leave out one of the two");
};

/** Rules for names that are no settings of a method. */
export const paddleRlRules: Rules = {
  ...each(
    idle,
    `balance_batch use_remove_padding use_fp32_compute use_fused_linear offload_optim wandb_http_proxy rollout_max_num_seqs
     rollout_tensor_parallel_degree per_device_rollout_batch_size per_device_logprob_batch_size per_device_reward_batch_size
     per_device_value_batch_size global_gen_batch_size`,
  ),
  ...each(
    idleBeside,
    `critic_model_name_or_path reward_critic_model_name_or_path critic_learning_rate critic_min_learning_rate critic_weight_decay
     critic_lr_scheduler_type critic_warmup_ratio critic_decay_steps critic_recompute clip_range_value offload_level
     normalize_advantage clip_range_score`,
  ),
  rl_algorithm: algorithm,
  global_batch_size: rolloutSize,
  global_mini_batch_size: (_, given) => (isOff(given.global_batch_size) ? null : said),
  mini_batch_size: (_, given) => (isOff(given.global_batch_size) ? null : said),
  per_device_prompt_batch_size: promptsPerRollout,
  update_iters: sets("numIterations"),
  max_dec_len: sets("responseLength"),
  // In the rewards, which GRPO's are without, and in the loss, which GRPO's alone has.
  kl_coeff: (value, given, table) =>
    (isGrpo(table) || !has(table, "numIterations") ? idleBeside : sets("beta"))(value, given, table),
  kl_loss_coeff(value, given, table) {
    if (isGrpo(table)) return sets("beta")(value, given, table);
    return given.rl_algorithm === undefined ? null : nothing;
  },
  pg_loss_coeff: only([1], "the policy's loss counts 1: change learning_rate and the other coefficients in its place"),
  clip_range_ratio: sets("epsilon"),
  prompt_key: columns("prompt_key"),
  response_key: columns("response_key"),
  normalize_reward: normalizedRewards,
  enable_overlong_reward_buffer: (value, given, table) =>
    isOff(value) ? nothing : sets("overlongBufferLen", () => given.overlong_reward_buffer ?? 256)(value, given, table),
  overlong_reward_buffer: (_, given) => (penalised(given) ? said : nothing),
  dynamic_sampling: sets("dynamicFiltering"),
  max_gen_batches(value, given, table) {
    if (isOff(given.dynamic_sampling)) return nothing;
    return Number(value) > 0
      ? sets("maxNumGenBatches")(value, given, table)
      : refused("say how many draws a rollout may take");
  },
  ptx_datasets: (value, given, table) =>
    has(table, "numIterations")
      ? off("nothing is learned beside the rewards here: leave it out, or train with webrlhf ppo")(value, given, table)
      : null,
  ptx_coeff: idle,
  use_rm_server: (value, given, table) =>
    isOff(value) || given.reward_server_format !== undefined
      ? said
      : sets("rewardServerFormat", () => "paddle")(value, given, table),
  use_rule_reward: off("name what verifies answers as reward_model_path, such as builtin:accuracy"),
  ...each(off("responses are drawn by the weights that are trained"), "quant_type rollout_quant_type"),
  dataloader_shuffle: only([true], "prompts come in a random order"),
};

/** Rules for names that are settings here, too, where others stand beside them; null where none does. */
export const paddleBeside: Rules = {
  clip_range_ratio: clip("clip_range_ratio"),
  clip_range_ratio_low: clip("clip_range_ratio_low"),
  clip_range_ratio_high: clip("clip_range_ratio_high"),
  gradient_accumulation_steps: (_, given) => (isOff(given.global_batch_size) ? null : nothing),
  overlong_penalty_factor: (_, given) =>
    given.enable_overlong_reward_buffer === undefined || penalised(given) ? null : nothing,
  // Of prompt and response together, where the response has a length of its own.
  max_length(value, given, table) {
    if (isOff(given.max_dec_len)) return null;
    if (has(table, "maxLengthOf")) return setting({ maxLength: value, maxLengthOf: "sequence" });
    return has(table, "maxLength") ? null : nothing;
  },
  report_to: (value) => (plain(value) === "visualdl" ? nothing : null),
  reward_model_name_or_path: (_, given) => (isOff(given.use_rm_server) ? null : nothing),
  reward_server(value, given, table) {
    if (given.use_rm_server === undefined || !has(table, "rewardModelPath")) return null;
    if (isOff(given.use_rm_server)) return nothing;
    return setting({ rewardModelPath: /^https?:\/\//i.test(String(value)) ? value : `http://${value}` });
  },
};
