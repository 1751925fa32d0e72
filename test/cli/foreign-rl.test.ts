/** Configs of PaddleNLP's program for GRPO and REINFORCE++, with all its keys and values of our own. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parsed } from "./parse.ts";

/** Keys that mean something here. */
const meant = {
  actor_model_name_or_path: "out/start",
  use_rm_server: true,
  reward_server: "127.0.0.1:9000",
  logging_dir: "events",
  logging_steps: 2,
  output_dir: "out/here",
  report_to: "wandb",
  run_name: "trial",
  train_datasets: "train.jsonl",
  eval_datasets: "test.jsonl",
  prompt_key: "question",
  response_key: "truth",
  max_dec_len: 96,
  min_dec_len: 3,
  top_p: 0.9,
  temperature: 0.8,
  repetition_penalty: 1.1,
  seed: 7,
  global_batch_size: 6,
  mini_batch_size: 2,
  rollout_n: 4,
  update_iters: 2,
  per_device_train_batch_size: 4,
  num_train_epochs: 2,
  learning_rate: 3e-6,
  lr_scheduler_type: "constant",
  weight_decay: 0.05,
  adam_beta1: 0.85,
  adam_beta2: 0.98,
  max_grad_norm: 0.5,
  max_steps: 12,
  save_steps: 6,
  save_strategy: "steps",
  kl_loss_coeff: 0.01,
  entropy_coeff: 0.002,
  clip_range_ratio: 0.2,
  clip_range_ratio_low: 0.15,
  clip_range_ratio_high: 0.3,
  enable_overlong_reward_buffer: true,
  overlong_reward_buffer: 16,
  overlong_penalty_factor: 0.5,
  dynamic_sampling: true,
  max_gen_batches: 3,
  evaluation_strategy: "steps",
  eval_steps: 4,
  recompute: true,
};

/** Keys that say where and how it is computed, of what GRPO does not have there either, and of what is so anyway. */
const idle = {
  reward_model_name_or_path: "",
  adam_epsilon: 1e-8,
  pg_loss_coeff: 1,
  quant_type: "",
  wandb_http_proxy: "http://127.0.0.1:1",
  dataloader_drop_last: true,
  balance_batch: true,
  tensor_parallel_degree: 4,
  sequence_parallel: true,
  sharding_parallel_degree: 2,
  sharding: "stage1",
  sharding_parallel_config: "",
  pipeline_parallel_degree: 1,
  virtual_pp_degree: 1,
  max_prompt_len: 64,
  do_train: true,
  global_gen_batch_size: -1,
  per_device_rollout_batch_size: 2,
  per_device_logprob_batch_size: 2,
  per_device_reward_batch_size: 2,
  per_device_value_batch_size: 2,
  max_length: 160,
  ignore_save_lr_and_optim: false,
  disable_tqdm: false,
  kl_coeff: 0.5,
  clip_range_score: 8,
  clip_range_value: 4,
  normalize_reward: true,
  normalize_advantage: true,
  use_fp32_compute: true,
  do_eval: true,
  per_device_eval_batch_size: 8,
  use_flash_attention: false,
  use_fused_rms_norm: false,
  use_fused_rope: false,
  use_fused_head_and_loss_fn: true,
  use_fused_linear: true,
  fused_linear: true,
  recompute_use_reentrant: false,
  recompute_granularity: "core_attn",
  bf16: false,
  fp16_opt_level: "O1",
  amp_master_grad: true,
  amp_custom_black_list: "sin",
  amp_custom_white_list: "matmul",
  offload_level: "optimizer",
  release_grads: false,
  offload_optim: true,
  skip_profile_timer: true,
};

const config = { rl_algorithm: "grpo", ...meant, ...idle };

let file: string;
beforeAll(async () => {
  file = join(await mkdtemp(join(tmpdir(), "webrlhf-")), "argument.yaml");
});
afterAll(() => rm(join(file, ".."), { recursive: true }));

/** A verb's settings from such a file, and what it tells. */
async function read(verb: string, values: object, ...flags: string[]) {
  const lines = Object.entries(values).map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`);
  await writeFile(file, lines.join(""));
  return parsed([verb, "--config", file, ...flags]);
}

/** Without what only GRPO has. */
const reinforce = {
  ...config,
  rl_algorithm: "reinforce_plus_plus",
  dynamic_sampling: false,
  normalize_reward: false,
};

describe("PaddleNLP's arguments for GRPO", () => {
  it("are accepted as they are, and mean what they mean there", async () => {
    const { values, told } = await read("grpo", config);
    expect(values).toMatchObject({
      modelNameOrPath: "out/start",
      rewardModelPath: "http://127.0.0.1:9000",
      rewardServerFormat: "paddle",
      reportTo: ["wandb"],
      datasetName: "train.jsonl",
      evalDatasetName: "test.jsonl",
      column: ["prompt=question", "completion=truth"],
      responseLength: 96,
      minNewTokens: 3,
      numGenerations: 4,
      generationBatchSize: 24,
      gradientAccumulationSteps: 2,
      numIterations: 2,
      maxSteps: 12,
      beta: 0.01,
      useBiasCorrectionKl: false,
      lossType: "bnpo",
      entropyCoef: 0.002,
      epsilon: 0.15,
      epsilonHigh: 0.3,
      overlongBufferLen: 16,
      overlongPenaltyFactor: 0.5,
      dynamicFiltering: true,
      maxNumGenBatches: 3,
      evalSteps: 4,
      gradientCheckpointing: true,
    });
    const names = /^no effect here: (.*)\n$/.exec(told)?.[1].split(", ");
    expect(names?.toSorted()).toEqual(Object.keys(idle).toSorted());
  });

  it("have settings beside them that go before", async () => {
    const { values } = await read("grpo", { ...config, loss_type: "dr_grpo" }, "--epsilon_high", "0.4");
    expect(values).toMatchObject({ lossType: "dr_grpo", epsilonHigh: 0.4 });
  });

  it("are counted in one way where some are left out", async () => {
    const { global_batch_size: _, mini_batch_size: __, ...others } = config;
    const all = { ...others, per_device_prompt_batch_size: 3, gradient_accumulation_steps: 5 };
    expect((await read("grpo", all)).values).toMatchObject({ generationBatchSize: 12, gradientAccumulationSteps: 5 });
    const whole = { ...config, mini_batch_size: -1, gradient_accumulation_steps: 5 };
    expect((await read("grpo", whole)).values).toMatchObject({ gradientAccumulationSteps: 6 });
  });

  it("leave out what has a switch that is off", async () => {
    const off = { ...config, enable_overlong_reward_buffer: false, dynamic_sampling: false, use_rm_server: false };
    const { values } = await read("grpo", { ...off, reward_model_name_or_path: "out/reward" });
    expect(values).toMatchObject({
      overlongBufferLen: 0,
      dynamicFiltering: false,
      rewardModelPath: "out/reward",
      rewardServerFormat: "plain",
    });
  });

  it("have one clip of the ratio where the sides have none of their own", async () => {
    const { clip_range_ratio_low: _, clip_range_ratio_high: __, ...others } = config;
    expect((await read("grpo", others)).values).toMatchObject({ epsilon: 0.2, epsilonHigh: null });
    const upper = { ...others, clip_range_ratio_high: 0.28 };
    expect((await read("grpo", upper)).values).toMatchObject({ epsilon: 0.2, epsilonHigh: 0.28 });
    const ppo = { ...upper, rl_algorithm: "ppo", update_iters: 1, dynamic_sampling: false };
    const { values } = await read("ppo", { ...ppo, enable_overlong_reward_buffer: false });
    expect(values).toMatchObject({ clipRange: 0.2, clipRangeHigh: 0.28, rolloutBatchSize: 6 });
  });

  it("tell all mistakes at once", async () => {
    const wrong = { ptx_datasets: "more", pg_loss_coeff: 2, rollout_m: 3, quant_type: "weight_only_int8" };
    const error = await read("grpo", { ...config, ...wrong, max_gen_batches: 0 }).catch((e: Error) => e.message);
    for (const words of [
      "ptx_datasets in FILE",
      "train with webrlhf ppo",
      "the policy's loss counts 1",
      "there is no option rollout_m in FILE",
      "drawn by the weights that are trained",
      "how many draws a rollout may take",
    ]) {
      expect(error).toContain(words.replace("FILE", file));
    }
  });

  it("are no settings of GRPO without the file's own name for it", async () => {
    await expect(parsed(["grpo", "--kl_coeff", "0.1"])).rejects.toThrow("there is no option --kl_coeff");
    await expect(parsed(["grpo", "--clip_range_score", "5"])).rejects.toThrow("there is no option --clip_range_score");
    await expect(read("rloo", config)).rejects.toThrow("the verb says the method: webrlhf grpo");
  });
});

describe("PaddleNLP's arguments for REINFORCE++", () => {
  it("are accepted as they are", async () => {
    const { values, told } = await read("reinforce", reinforce);
    expect(values).toMatchObject({ beta: 0.5, rewardClipRange: 8, generationBatchSize: 24, numGenerations: 4 });
    expect(told).toContain("kl_loss_coeff");
    expect(told).not.toContain("kl_coeff,");
  });

  it("normalise no rewards beside a KL penalty", async () => {
    const normalised = { ...reinforce, normalize_reward: true };
    await expect(read("reinforce", normalised)).rejects.toThrow(
      "rewards are not normalised here before the KL penalty",
    );
    expect((await read("reinforce", { ...normalised, kl_coeff: 0 })).values).toMatchObject({ beta: 0 });
  });

  it("are refused by another verb, which is named", async () => {
    await expect(read("grpo", reinforce)).rejects.toThrow("webrlhf reinforce");
  });
});
