/** Configs and command lines that were written for other programs. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { foreignNames } from "webrlhf/open";
import { settingNamed } from "webrlhf/rlhf";
import { loadVerb } from "../../src/cli/verbs/index.ts";
import { parsed } from "./parse.ts";

interface Arguments {
  trl: Record<string, Record<string, unknown>>;
  "trl-scripts": Record<string, unknown>;
  paddlenlp: string[];
  lmflow: string[];
  "lmflow-raft": string[];
}
const known = JSON.parse(await readFile("test/fixtures/arguments.json", "utf8")) as Arguments;

const folder = "scripts/originals";
type Original = Record<"name" | "command" | "pointed", string>;
const originals = JSON.parse(await readFile(`${folder}/originals.json`, "utf8")) as Original[];

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "webrlhf-"));
});
afterAll(() => rm(dir, { recursive: true }));

/** Reads a config file by a verb. */
async function config(verb: string, values: object, ...words: string[]) {
  const file = join(dir, "config.json");
  await writeFile(file, JSON.stringify(values));
  return parsed([verb, "--config", file, ...words]);
}

/** Arguments that a verb neither has, nor knows of another program. */
async function strangers(verb: string, names: Iterable<string>): Promise<string[]> {
  const { table } = (await loadVerb(verb))!.settings;
  const meaning = (name: string) => settingNamed(table, name) ?? foreignNames(name, "something", {}, table);
  return [...names].filter((name) => meaning(name.toLowerCase()) === null);
}

const needed = { model_name_or_path: "m", reward_model_path: "r" };
const nearly = (verb: string) => (["grpo", "rloo"].includes(verb) ? needed : { model_name_or_path: "m" });

describe.each(Object.entries(known.trl))("TRL's arguments of %s", (verb, own) => {
  it("are all known", async () => {
    expect(await strangers(verb, Object.keys({ ...own, ...known["trl-scripts"] }))).toEqual([]);
  });

  it("are all accepted as they are by default, but for the number of epochs where steps are counted", async () => {
    const values = { ...known["trl-scripts"], ...own, ...nearly(verb), dataset_name: "d.jsonl", output_dir: "out" };
    const steps = ["grpo", "rloo"].includes(verb) ? { max_steps: 10 } : {};
    const { told } = await config(verb, { ...values, ...steps });
    expect(told).toMatch(/^no effect here: .*bf16/);
    expect(told.trim().split("\n")).toHaveLength(1);
  });
});

describe("arguments of PaddleNLP and LMFlow", () => {
  it.each(["sft", "reward", "ppo"])("PaddleNLP's of its Trainer are known to %s", async (verb) => {
    expect(await strangers(verb, known.paddlenlp)).toEqual([]);
  });

  it.each(["sft", "reward", "raft"])("LMFlow's are known to %s", async (verb) => {
    expect(await strangers(verb, known.lmflow)).toEqual([]);
    if (verb === "raft") expect(await strangers(verb, known["lmflow-raft"])).toEqual([]);
  });
});

describe("an original's config or command line", () => {
  it.each(originals)("$name is read as it is", async ({ command, pointed }) => {
    const { told } = await parsed(`${command} ${pointed}`.replaceAll("@here", folder).split(" "));
    expect(told.split("\n").length).toBeLessThanOrEqual(2);
  });
});

describe("names and values of other programs", () => {
  it.each([
    ["sft", { recompute: 1 }, { gradientCheckpointing: true }],
    ["ppo", { ...needed, rollout_n: 4, recompute: 0 }, { numGenerations: 4, gradientCheckpointing: false }],
    ["sft", { use_lora: 1, model_name_or_path: "m" }, { usePeft: true }],
    ["sft", { lora: true, lora_rank: 4, model_name_or_path: "m" }, { usePeft: true, loraR: 4 }],
    ["sft", { validation_split_percentage: 5, block_size: 512 }, { testSize: 0.05, maxLength: 512 }],
    [
      "sft",
      { max_steps: -1, save_total_limit: null, resume_from_checkpoint: null },
      { maxSteps: null, saveTotalLimit: 0 },
    ],
    [
      "ppo",
      { ...needed, lr_scheduler_kwargs: { min_lr: 1e-6 }, dtype: "auto" },
      { dtype: "float32", minLearningRate: 1e-6 },
    ],
    ["sft", { eval_strategy: "no", save_strategy: "epoch" }, { evalStrategy: "no", saveStrategy: "epoch" }],
    ["sft", { evaluation_strategy: "epoch", eval_steps: null }, { evalStrategy: "epoch", evalSteps: 0 }],
    [
      "sft",
      { load_best_model_at_end: true, metric_for_best_model: "eval_loss", greater_is_better: null },
      { loadBestModelAtEnd: true, metricForBestModel: "eval_loss", greaterIsBetter: null },
    ],
    [
      "reward",
      { model_name_or_path: "m", load_best_model_at_end: false, metric_for_best_model: "accuracy" },
      { loadBestModelAtEnd: false },
    ],
    [
      "sft",
      { output_model_path: "x", conversation_template: "chatml" },
      { outputDir: "x", chatTemplatePath: "builtin:chatml" },
    ],
    ["sft", { conversation_template: "disable" }, { chatTemplatePath: "builtin:empty" }],
    ["sft", { lora_model_path: "a", model_name_or_path: "b" }, { modelNameOrPath: "a", baseModelNameOrPath: "b" }],
    [
      "merge",
      { lora_model_path: "a", model_name_or_path: "b", output_model_path: "c" },
      { adapterPath: "a", modelNameOrPath: "b", outputDir: "c" },
    ],
    [
      "kto",
      { model_name_or_path: "m", train_dataset_path: "t", dev_dataset_path: "d", max_seq_len: 99, max_prompt_len: 9 },
      { datasetName: "t", evalDatasetName: "d", maxLength: 99 },
    ],
    ["dpo", { model_name_or_path: "m", reference_model_name_or_path: "r" }, { refModelNameOrPath: "r" }],
    ["pairs", { input_file: "d", margin_scale: 2, output_file: "f" }, { marginScale: 2 }],
    ["grpo", { ...needed, num_train_epochs: 2 }, { numTrainEpochs: 2, maxSteps: null }],
    ["grpo", { ...needed, top_k: null, top_p: null, max_steps: 3, num_train_epochs: 2 }, { topK: 0, topP: 1 }],
  ])("%s takes %j", async (verb, values, wanted) => {
    expect((await config(verb, values)).values).toMatchObject(wanted);
  });

  it.each([
    ["sft", { packing: true }, "packing in FILE line 1: examples are not packed"],
    ["dpo", { margin_scale: 2 }, "margins are scaled where pairs are made"],
    ["dpo", { length_penalty: 0.1 }, "length counts where pairs are made"],
    ["dpo", { sampling_paired_method: "max_random" }, "webrlhf pairs --choose_type"],
    ["dpo", { mask_prompt: false }, "nothing is learned from prompts"],
    ["sft", { optim: "adafactor" }, "AdamW and Muon are the optimizers here, not adafactor"],
    ["sft", { neftune_noise_alpha: 5 }, "no noise is added"],
    ["merge", { load_best_model_at_end: true }, "nothing is evaluated on the way"],
    ["sft", { loss_type: "dft" }, "negative log-likelihood"],
    ["sft", { adam_epsilon: 1e-6 }, "AdamW's epsilon is 1e-8 here"],
    ["sft", { model_init_kwargs: { rope_scaling: 2 } }, "without other arguments"],
    ["grpo", { ...needed, max_steps: 1, sync_ref_model: true }, "the reference stays as it is"],
  ])("%s refuses %j and says why", async (verb, values, message) => {
    await expect(config(verb, values)).rejects.toThrow(message.replace("FILE", join(dir, "config.json")));
  });

  it('accepts all kinds of AdamW and of "off"', async () => {
    for (const optim of ["adamw_torch", "adamw_torch_fused", "paged_adamw_32bit"]) {
      expect((await config("sft", { optim })).values).toMatchObject({ optim: "adamw_torch" });
    }
    for (const optim of ["adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit"]) {
      expect((await config("sft", { optim })).values).toMatchObject({ optim: "adamw_8bit" });
    }
    expect((await config("sft", { optim: "muon" })).values).toMatchObject({ optim: "muon" });
    for (const packing of [false, 0, "False", "false", "no", null]) await config("sft", { packing });
  });

  it("says in one line what has no effect, whether it came in a file or as a flag", async () => {
    const { told } = await config("sft", { bf16: true, report_to: "none" }, "--do_train", "--ddp-timeout", "72000");
    expect(told).toBe("no effect here: bf16, do_train, ddp_timeout\n");
  });

  it("says nothing of secrets among them", async () => {
    const { told } = await config("sft", { push_to_hub_token: "hf_private", wandb_api_key: "abc" });
    expect(told).toBe("no effect here: push_to_hub_token, wandb_api_key\n");
  });
});

describe("mistakes", () => {
  it("are told all at once", async () => {
    const all = { kl_coef: 1, seed: -1, max_stepz: 3, learning_rate: "fast", packing: true };
    const error = await config("reward", all, "--num_epochz", "3", "extra").catch((e: Error) => e.message);
    for (const name of ["kl_coef", "seed", "max_stepz", "learning_rate", "--num_epochz", "--model_name_or_path"]) {
      expect(error).toContain(name);
    }
  });

  it.each([
    [["sft", "--kl_coef", "1"], /there is no option --kl_coef for sft: it is an option of .*ppo/],
    [["sft", "--loss-tipe", "1"], /there is no option --loss_tipe/],
    [["sft", "--max_stepz", "1"], /there is no option --max_stepz \(did you mean --max_steps\?\)/],
    [["score", "--test_dataset", "x"], /there is no option --test_dataset/],
    [
      ["sft", "--learning", "1"],
      /there is no option --learning \(did you mean --learning_rate or --min_learning_rate\?\)|--learning_rate/,
    ],
    [["sft", "-x"], /there is no option --x|-x/],
    [["sft", "stray"], /unexpected "stray": options are written --name value/],
  ])("%j", async (words, message) => {
    await expect(parsed(words)).rejects.toThrow(message);
  });

  it("never suggest another thing", async () => {
    const { nearest } = await import("../../src/settings/nearest.ts");
    const names = ["fp16", "use_rslora", "dataset_name", "lora_r", "kl_coef", "load_in_4bit", "load_in_8bit"];
    for (const name of ["bf16", "use_lora", "tf32", "lora_rank"]) expect(nearest(name, names)).toBeNull();
    expect(nearest("dataset", names)).toBe("dataset_name");
    expect(nearest("datasetname", names)).toBe("dataset_name");
    expect(nearest("load_in8bit", names)).toBe("load_in_8bit");
  });

  it("do not say more of a switch that is written in whatever way", async () => {
    for (const [text, value] of [
      ["1", true],
      ["0", false],
      ["True", true],
      ["False", false],
      ["yes", true],
    ] as const) {
      expect((await parsed(["sft", "--append_eos", text])).values.appendEos).toBe(value);
    }
    for (const value of [1, 0, "1", "0", "True", "False", true, false]) {
      const on = ["1", "true"].includes(String(value).toLowerCase());
      expect((await config("sft", { append_eos: value })).values.appendEos).toBe(on);
    }
  });
});
