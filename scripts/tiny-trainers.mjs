/** Every trainer, and every verb that runs models, on a tiny model, for scripts that disturb runs and compare what they leave with undisturbed ones. */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";

/**
 * Trainers by name: the words of a short run on the built-in world that saves after every step or two, its steps, and its
 * verb where that is not the name.
 * @param work a folder for what they start from; `starts` are the runs that make it
 */
export function tinyTrainers(work) {
  const base = path.join(work, "base");
  const judge = path.join(work, "judge");
  const teacher = path.join(work, "teacher");
  const safety = path.join(work, "safety.jsonl");
  const shared = "--seed 3 --learning_rate 1e-3 --per_device_train_batch_size 4 --save_total_limit 1".split(" ");
  const supervised = "--max_train_samples 40 --max_eval_samples 8 --eval_steps 3".split(" ");
  const sampled = ["--model_name_or_path", base, "--reward_model_path", judge, "--max_train_samples", "32"];
  const shape = "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --max_position_embeddings 64".split(
    " ",
  );
  /** A trainer of examples: ten steps, two evaluations between. */
  const learner = (more = "") => ({
    steps: 10,
    words: [...supervised, "--model_name_or_path", base, ...`--max_steps 10 --save_steps 2 ${more}`.trim().split(" ")],
  });
  /** A trainer of responses: six rollouts, or iterations. */
  const player = (more, verb) => ({ steps: 6, words: [...sampled, ...more.split(" ")], verb });
  const groups =
    "--max_steps 6 --save_steps 1 --num_generations 2 --generation_batch_size 8 --max_completion_length 12";
  const chosen = {
    sft: { steps: 12, words: [...supervised, ...shape, "--max_steps", "12", "--save_steps", "1"] },
    reward: learner(),
    cost: learner(`--dataset_name ${safety} --test_size 0.2`),
    dpo: learner("--loss_type sigmoid,bco_pair --sync_ref_model true --ref_model_sync_steps 3"),
    kto: learner(),
    orpo: learner(),
    cpo: learner("--loss_type simpo"),
    pairwise: learner("--pair_template letters"),
    "multi-objective": {
      steps: 10,
      words: [
        ...[
          "--model_name_or_path",
          base,
          "--preference_dataset_name",
          "builtin:domains",
          "--verbosity_attribute",
          "long",
        ],
        ..."--max_train_samples 40 --max_preference_samples 40 --gating_hidden_dim 8 --eval_steps 3".split(" "),
        ..."--max_steps 10 --save_steps 2".split(" "),
      ],
    },
    ppo: player(
      "--max_steps 6 --save_steps 1 --rollout_batch_size 6 --response_length 12 --target_kl 1 " +
        "--normalize_reward true --dialect trl --num_ppo_epochs 2",
    ),
    "ppo-ptx": player(
      "--max_steps 6 --save_steps 1 --rollout_batch_size 6 --response_length 12 --ptx_dataset_name builtin:world " +
        "--max_ptx_samples 16 --ema_beta 0.9 --offload_level freeze_model,optimizer --eval_steps 3 --max_eval_samples 4",
      "ppo",
    ),
    grpo: player(`${groups} --beta 0.1 --scale_rewards batch`),
    rloo: player(groups),
    reinforce: player(groups),
    raft: player(
      "--num_raft_iteration 6 --save_steps 2 --raft_batch_size 4 --top_reward_percentage 0.5 " +
        "--num_train_epochs 2 --output_max_length 12 --output_min_length 4 --kl_beta 0.1 --monitor_threshold 0.5",
    ),
    iterate: player(
      "--iterations 3 --prompts_per_iteration 8 --num_return_sequences 3 --response_length 12 --max_eval_samples 6 " +
        "--num_train_epochs 1 --save_steps 1",
    ),
    distill: learner(
      `--teacher_model_name_or_path ${teacher} --dialect gkd --seq_kd true --response_length 12 --max_eval_samples 4`,
    ),
  };
  const trainers = Object.fromEntries(
    Object.entries(chosen).map(([name, one]) => [name, { ...one, words: [...one.words, ...shared] }]),
  );
  const starts = () => {
    writeSafetyPairs(safety);
    return [
      { verb: "sft", words: [...supervised, ...shape, ...shared, "--max_steps", "30"], folder: base },
      {
        verb: "reward",
        words: [...supervised, ...shared, "--model_name_or_path", base, "--max_steps", "4"],
        folder: judge,
      },
      {
        verb: "sft",
        words: [...supervised, ...shared, "--model_name_or_path", base, "--max_steps", "4"],
        folder: teacher,
      },
    ];
  };
  return { trainers, verbs: tinyVerbs(work, base, judge), starts, base, judge };
}

/** Verbs that run models and train none, with the name of the file that they write where it is no folder. */
function tinyVerbs(work, base, judge) {
  const responses = path.join(work, "responses.jsonl");
  const row = (i) => ({ id: i, prompt: `Tom had ${i} cats.`, responses: [" The cat ran.", ` Sam saw ${i} dogs.`] });
  writeFileSync(responses, Array.from({ length: 200 }, (_, i) => `${JSON.stringify(row(i))}\n`).join(""));
  const judged = ["--input_file", responses, "--reward_model_path", judge];
  const sampled = ["--model_name_or_path", base, "--num_prompts", "12", "--seed", "3"];
  return {
    generate: { words: [...sampled, "--max_new_tokens", "24", "--max_num_seqs", "4"], file: "answers.jsonl" },
    evaluate: { words: [...sampled, "--reward_model_path", judge, "--response_length", "12"] },
    annotate: { words: [...judged, "--rows_at_once", "20"], file: "rewards.jsonl" },
    score: { words: judged, file: "scored.jsonl" },
  };
}

/** Pairs with safety labels, which the built-in world has not. */
export function writeSafetyPairs(file) {
  const row = (i) => ({
    prompt: `${["Tom", "Sam", "Anna"][i % 3]} had a ${["dog", "ball", "boat"][(i >> 1) % 3]}.`,
    chosen: " They played in the garden.",
    rejected: " They shouted.",
    chosen_is_safe: i % 4 !== 0,
    rejected_is_safe: i % 4 === 1,
  });
  writeFileSync(file, Array.from({ length: 40 }, (_, i) => `${JSON.stringify(row(i))}\n`).join(""));
}

/** A stream of numbers in [0, 1): SHA-256 of seed, name and count, so that every trainer has its own. */
export function randomStream(seed, name) {
  let count = 0;
  return () => createHash("sha256").update(`${seed} ${name} ${count++}`).digest().readUInt32LE(0) / 2 ** 32;
}

/** Every file below a folder with the hash of its bytes. */
export function contents(folder) {
  const files = readdirSync(folder, { recursive: true }).filter((name) => statSync(path.join(folder, name)).isFile());
  return new Map(
    files
      .filter((name) => name !== "timing.jsonl")
      .sort()
      .map((name) => [
        name,
        createHash("sha256")
          .update(readFileSync(path.join(folder, name)))
          .digest("hex"),
      ]),
  );
}

export function differences(expected, found) {
  const names = [...new Set([...expected.keys(), ...found.keys()])];
  return names.filter((name) => expected.get(name) !== found.get(name));
}
