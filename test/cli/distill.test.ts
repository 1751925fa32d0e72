/** The verb distill from folders to a folder, and the teachers that it refuses. */
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
  await gpuReady();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-distill-"));
  const files = await diskFiles();
  const own = tokenizerFiles(tokenizer);
  const json = JSON.parse(own["tokenizer.json"] as string) as { model: { vocab: Record<string, number> } };
  const [[a, first], [b, second]] = Object.entries(json.model.vocab).slice(-2);
  Object.assign(json.model.vocab, { [a]: second, [b]: first }); // two words change places
  for (const [name, seed, vocabulary] of [
    ["student", 1, own],
    ["teacher", 2, own],
    ["stranger", 3, { ...own, "tokenizer.json": JSON.stringify(json) }],
  ] as const) {
    const model = new CausalLM(tinyConfig("gpt2")).initialize(seed);
    await files.writeFolder(join(dir, name), { ...(await modelFiles(model)), ...vocabulary });
    model.destroy();
  }
  const rows = ["was happy.", "ran home.", "slept."].map((completion, i) => ({ prompt: `Tom ${i} `, completion }));
  await writeFile(join(dir, "answered.jsonl"), rows.map((row) => JSON.stringify(row)).join("\n"));
});
afterAll(() => rm(dir, { recursive: true }));

async function distill(out: string, teacher: string, words = "") {
  const terminal = silentTerminal();
  const options = [
    ...["--model_name_or_path", join(dir, "student"), "--teacher_model_name_or_path", join(dir, teacher)],
    ...["--dataset_name", join(dir, "answered.jsonl"), "--output_dir", join(dir, out)],
    ..."--max_steps 3 --per_device_train_batch_size 3 --response_length 6 --learning_rate 1e-3".split(" "),
    ...words.split(" ").filter(Boolean),
  ];
  const code = await main(["distill", ...options], terminal);
  return { code, text: terminal.written.join("") };
}

describe("distill", () => {
  it.each([
    ["whole", ""],
    ["adapter", "--use_peft --lora_r 2 --dialect gkd --lmbda 0.5 --ref_model_dtype int8"],
  ])("trains a student from folders: %s", async (out, words) => {
    const { code, text } = await distill(out, "teacher", words);
    expect(code, text).toBe(0);
    const lines = (await readFile(join(dir, out, "metrics.jsonl"), "utf8")).trimEnd().split("\n");
    const losses = lines.map((line) => (JSON.parse(line) as { loss?: number }).loss).filter((one) => one !== undefined);
    expect(losses).toHaveLength(3);
    expect(losses.every((loss) => loss > 0)).toBe(true);
    const saved = out === "adapter" ? "adapter_model.safetensors" : "model.safetensors";
    expect(await readdir(join(dir, out))).toEqual(expect.arrayContaining([saved, "tokenizer.json"]));
  });

  it("refuses a teacher with another tokenizer, and none", async () => {
    const { code, text } = await distill("refused", "stranger");
    expect(code).toBe(1);
    expect(text).toContain(`${join(dir, "stranger")} has another tokenizer than the student`);
    await expect(readdir(join(dir, "refused"))).rejects.toThrow(); // nothing was written
    const terminal = silentTerminal();
    expect(await main(["distill", "--model_name_or_path", join(dir, "student")], terminal)).toBe(1);
    expect(terminal.written.join("")).toContain("teacher_model_name_or_path");
  });
});
