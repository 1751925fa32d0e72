/** The verbs dpo, kto, orpo and cpo from files to files, and what they refuse. */

import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { main } from "webrlhf/cli";
import { CausalLM, modelFiles } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { gpuReady } from "../helpers.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";
import { silentTerminal } from "./terminal.ts";

let dir: string;
beforeAll(async () => {
  process.setMaxListeners(100);
  await gpuReady();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-preference-"));
  const files = await diskFiles();
  const model = new CausalLM(tinyConfig()).initialize(1);
  await files.writeFolder(join(dir, "base"), { ...(await modelFiles(model)), ...tokenizerFiles(tokenizer) });
  model.destroy();
  const answers = ["was happy.", "was sad.", "ran home.", "slept.", "found a dog.", "ate."];
  const pairs = answers.map((chosen, i) => ({ prompt: "Tom ", chosen, rejected: answers[(i + 1) % 6] }));
  const labelled = answers.map((completion, i) => ({ prompt: "Tom ", completion, label: i % 2 === 0 }));
  for (const [name, rows] of Object.entries({ pairs, labelled })) {
    await writeFile(join(dir, `${name}.jsonl`), rows.map((row) => JSON.stringify(row)).join("\n"));
  }
});
afterAll(() => rm(dir, { recursive: true }));

async function webrlhf(
  verb: string,
  out: string,
  data: string,
  words: string,
): Promise<{ code: number; text: string }> {
  const terminal = silentTerminal();
  const paths = ["--model_name_or_path", join(dir, "base"), "--dataset_name", join(dir, data)];
  const sizes = "--max_steps 3 --per_device_train_batch_size 3 --learning_rate 1e-2 --long_prompts skip";
  const options = [...paths, "--output_dir", join(dir, out), ...`${sizes} ${words}`.trim().split(/\s+/)];
  const code = await main([verb, ...options], terminal);
  return { code, text: terminal.written.join("") };
}

const metrics = async (out: string) =>
  (await readFile(join(dir, out, "metrics.jsonl"), "utf8"))
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, number>)
    .filter((row) => row.loss !== undefined);

describe("the verbs", () => {
  it("dpo trains with TRL's metrics; precomputed and live references agree", async () => {
    const live = await webrlhf("dpo", "live", "pairs.jsonl", "--loss_type sigmoid,bco_pair --loss_weights 1,0.5");
    expect(live.code, live.text).toBe(0);
    const words = "--loss_type sigmoid,bco_pair --loss_weights 1,0.5 --precompute_ref_log_probs";
    const once = await webrlhf("dpo", "once", "pairs.jsonl", words);
    expect(once.code, once.text).toBe(0);
    expect(once.text).toContain("computed the reference's log-probabilities of 6 pairs");
    const [a, b] = [await metrics("live"), await metrics("once")];
    expect(a).toHaveLength(3);
    expect(a[0].loss).toBeCloseTo(2 * Math.LN2, 5);
    const named = ["rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"];
    for (const name of [...named, "logps/chosen", "logps/rejected", "entropy", "grad_norm", "learning_rate"]) {
      expect(a[2], name).toHaveProperty([name]);
      expect(b[2][name]).toBeCloseTo(a[2][name], 3);
    }
    expect(await readdir(join(dir, "live"))).toEqual(expect.arrayContaining(["model.safetensors", "tokenizer.json"]));
  });

  it("dpo trains an adapter whose base is the reference", async () => {
    const { code, text } = await webrlhf("dpo", "adapter", "pairs.jsonl", "--use_peft --lora_r 2 --loss_type ipo");
    expect(code, text).toBe(0);
    expect((await metrics("adapter"))[0].loss).toBeCloseTo(25, 3);
    expect(await readdir(join(dir, "adapter"))).toContain("adapter_model.safetensors");
  });

  it.each([
    ["kto", "labelled.jsonl", ""],
    ["kto", "pairs.jsonl", "--loss_type apo_zero_unpaired"],
    ["orpo", "pairs.jsonl", "--max_length 20 --max_prompt_length 8"],
    ["cpo", "pairs.jsonl", "--loss_type simpo --cpo_alpha 0 --truncation_mode keep_end"],
  ])("%s on %s %s", async (verb, data, words) => {
    const out = `${verb}-${data}`;
    const { code, text } = await webrlhf(verb, out, data, words);
    expect(code, text).toBe(0);
    const steps = await metrics(out);
    expect(steps).toHaveLength(3);
    expect(steps.every((step) => Number.isFinite(step.loss))).toBe(true);
  });
});

describe("what is refused", () => {
  const refused = async (verb: string, data: string, words: string) => {
    const { code, text } = await webrlhf(verb, "refused", data, words);
    expect(code).toBe(1);
    await expect(readdir(join(dir, "refused"))).rejects.toThrow(); // nothing was written
    return text;
  };

  it("losses that do not exist, and weights that do not fit", async () => {
    expect(await refused("dpo", "pairs.jsonl", "--loss_type sigmod")).toMatch(/no "sigmod".*sigmoid/);
    expect(await refused("dpo", "pairs.jsonl", "--loss_type ipo,sft --loss_weights 1")).toMatch(/must be 2 numbers/);
    expect(await refused("dpo", "pairs.jsonl", "--loss_type ipo --loss_weights x")).toMatch(
      /loss_weights must be a list of numbers/,
    );
    expect(await refused("dpo", "pairs.jsonl", "--loss_type robust --label_smoothing 0.5")).toMatch(/below 0.5/);
    expect(await refused("dpo", "pairs.jsonl", "--loss_type aot --f_divergence_type js_divergence")).toMatch(
      /f_divergence_type js_divergence does not apply to the loss aot/,
    );
    expect(await refused("dpo", "pairs.jsonl", "--loss_type sft,hinge --label_smoothing 0.1")).toMatch(
      /label_smoothing does not apply to sft, hinge; it applies to sigmoid,/,
    );
    expect(await refused("cpo", "pairs.jsonl", "--loss_type ipo --label_smoothing 0.1")).toMatch(
      /label_smoothing does not apply to ipo; it applies to sigmoid, simpo/,
    );
    expect(await refused("dpo", "pairs.jsonl", "--loss_type sigmoid,aot --use_weighting")).toMatch(
      /use_weighting does not apply to the loss aot,/,
    );
  });

  it("data of another kind, and labels out of range", async () => {
    expect(await refused("dpo", "labelled.jsonl", "")).toMatch(
      /labelled.jsonl:1: this is a completion with a label, but a preference pair .* is needed/,
    );
    await writeFile(join(dir, "bad.jsonl"), '{"prompt": "a", "completion": "b", "label": 2}\n');
    expect(await refused("kto", "bad.jsonl", "")).toMatch(/bad.jsonl:1: "label" must be true or false .* not 2/);
    expect(await refused("kto", "labelled.jsonl", "--per_device_train_batch_size 1")).toMatch(/at least 2/);
    expect(await refused("dpo", "pairs.jsonl", "--sync_ref_model --use_peft")).toMatch(/sync_ref_model needs/);
  });
});
