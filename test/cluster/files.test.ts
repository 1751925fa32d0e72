/** Verbs that go through files, with a cluster: what they write is what they write without one, to the byte. */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { main } from "webrlhf/cli";
import type { KindName } from "webrlhf/cluster";
import { silentTerminal } from "../cli/terminal.ts";
import { natsServer, TestCluster } from "./server.ts";

/** Runs a verb; gives its exit code and what it said. */
async function webrlhf(
  line: string,
  heard: (text: string) => void = () => {},
): Promise<{ code: number; said: string }> {
  const lines: string[] = [];
  const terminal = silentTerminal();
  terminal.line = (text) => {
    lines.push(text);
    heard(text);
  };
  terminal.result = (text) => void lines.push(text);
  const code = await main(line.split(" "), terminal);
  return { code, said: lines.join("\n") };
}

describe.skipIf(!natsServer)("files through a cluster", () => {
  let cluster: TestCluster;
  let dir: string;
  let at: string;
  beforeAll(async () => {
    await openDevice();
    cluster = await TestCluster.start();
    dir = await mkdtemp(join(tmpdir(), "webrlhf-files-"));
    at = ` --cluster ${cluster.url} --creds ${cluster.creds("trainer")}`;
    const shape = "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --max_position_embeddings 64";
    const few = "--max_train_samples 16 --per_device_train_batch_size 4 --seed 3 --learning_rate 1e-2";
    const lora = "--use_peft --lora_r 2 --lora_target_modules all-linear";
    for (const line of [
      `sft ${shape} ${few} --max_steps 3 --output_dir ${dir}/base`,
      `sft --model_name_or_path ${dir}/base ${lora} ${few} --max_steps 3 --output_dir ${dir}/policy`,
      `reward --model_name_or_path ${dir}/base ${lora} ${few} --max_steps 3 --normalizer_type RunningMeanStd --output_dir ${dir}/reward`,
    ]) {
      expect(await webrlhf(line)).toMatchObject({ code: 0 });
    }
  }, 120_000);
  afterAll(async () => {
    await cluster?.close();
    await rm(dir, { recursive: true });
  });
  afterEach(() => cluster.part());

  const worker = (role: KindName) => cluster.worker({ roles: [role] });

  /** Runs a verb without a cluster and with one; both write the same file. */
  const alike = async (line: string, name: string, file = "", without = line) => {
    const [alone, together] = [`${dir}/${name}-alone`, `${dir}/${name}-together`];
    const option = file === "" ? "--output_file" : "--output_dir";
    expect(await webrlhf(`${without} ${option} ${alone}`)).toMatchObject({ code: 0 });
    const ran = await webrlhf(`${line}${at} ${option} ${together}`);
    expect(ran, ran.said).toMatchObject({ code: 0 });
    const [one, two] = await Promise.all([alone, together].map((path) => readFile(join(path, file), "utf8")));
    expect(two).toBe(one);
    expect(one.length).toBeGreaterThan(100);
    return ran.said;
  };
  const asks = "--dataset_name builtin:world --num_prompts 10 --num_return_sequences 2 --max_new_tokens 12";
  const byWorkers = /workers did [1-9]\d* jobs, this program \d+/;

  it("generate draws the same, whoever draws, and cuts it at the same words", async () => {
    const line = `generate --model_name_or_path ${dir}/policy ${asks} --stop_strings e --logprobs 0 --return_token_ids true`;
    expect(await alike(line, "stops")).toMatch(/no worker has joined|workers did 0 jobs/);
    await worker("sample");
    const rows = `generate --model_name_or_path ${dir}/policy ${asks} --output_format responses --temperature 0.7`;
    expect(await alike(rows, "rows")).toMatch(byWorkers);
    // One way of cutting for all of a list, here and elsewhere.
    await alike(`${rows} --prompts_per_job 3`, "threes", "", rows);
    const threes = await webrlhf(`${rows} --prompts_per_job 3 --output_file ${dir}/threes-here`);
    expect(threes.code).toBe(0);
    expect(await readFile(`${dir}/threes-here`)).toEqual(await readFile(`${dir}/threes-alone`));
  }, 120_000);

  it("score and annotate give the same scores, whoever scores", async () => {
    const rows = `generate --model_name_or_path ${dir}/base ${asks}`;
    expect((await webrlhf(`${rows} --output_file ${dir}/answers.jsonl`)).code).toBe(0);
    expect((await webrlhf(`${rows} --output_format responses --output_file ${dir}/responses.jsonl`)).code).toBe(0);
    const model = `--reward_model_path ${dir}/reward`;
    // The queue is there from the first on, so that the worker waits at it.
    expect(await alike(`score ${dir}/answers.jsonl ${model}`, "scored")).toMatch(/workers did 0 jobs, this program 1/);
    await worker("score");
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const small = `annotate --input_file ${dir}/responses.jsonl ${model} --rows_at_once 1`;
    expect(await alike(small, "annotated")).toMatch(byWorkers);
    await alike(
      `score ${dir}/answers.jsonl ${model} --normalize true --check 0.5`,
      "checked",
      "",
      `score ${dir}/answers.jsonl ${model} --normalize true`,
    );
  }, 120_000);

  it("evaluate finds the same, whoever draws and scores", async () => {
    await worker("sample");
    await worker("score");
    const policy = `evaluate --model_name_or_path ${dir}/policy --reward_model_path ${dir}/reward --num_prompts 10 --response_length 8`;
    expect(await alike(policy, "policy", "evaluation.json")).toMatch(/workers did \d+ jobs/);
    const reward = `evaluate reward --reward_model_path ${dir}/reward --dataset_name builtin:world --num_prompts 100`;
    expect(await alike(reward, "reward", "evaluation.json")).toMatch(/answers are scored in the cluster/);
  }, 120_000);

  it("goes on where one was stopped", async () => {
    const line = `annotate --input_file ${dir}/r.jsonl --reward_model_path ${dir}/reward --rows_at_once 1 --output_file ${dir}/stopped`;
    const rows = `generate --model_name_or_path ${dir}/base ${asks} --output_format responses --output_file ${dir}/r.jsonl`;
    expect((await webrlhf(rows)).code).toBe(0);
    const whole = await webrlhf(`${line}${at}`);
    expect(whole, whole.said).toMatchObject({ code: 0 });
    const wanted = await readFile(`${dir}/stopped`, "utf8");
    await rm(`${dir}/stopped`);
    const stop = (text: string) => void (/scored 3 of 10/.test(text) && process.emit("SIGINT"));
    const { code, said } = await webrlhf(`${line}${at}`, stop);
    expect(code, said).toBe(130);
    expect(said).toMatch(/the same command goes on there/);
    const again = await webrlhf(line);
    expect(again.said).toMatch(/[3-9] of 10 prompts were scored before/);
    expect(await readFile(`${dir}/stopped`, "utf8")).toBe(wanted);
  }, 120_000);

  it("goes on with answers that were drawn elsewhere, by way of a mirror", async () => {
    const line = `generate --model_name_or_path ${dir}/policy ${asks} --prompts_per_job 1 --output_file ${dir}/mirrored`;
    const mirror = ` --mirror_url http://127.0.0.1:1/weights --mirror_dir ${dir}/weights`;
    let stopped = false;
    const looking = setInterval(async () => {
      const partial = (await readdir(dir)).find((name) => name.startsWith("mirrored.partial-"));
      const { length } = partial ? await readFile(`${dir}/${partial}`).catch(() => "") : "";
      if (stopped || length === 0) return;
      stopped = true;
      process.emit("SIGINT");
    }, 1);
    const { code, said } = await webrlhf(`${line}${at}${mirror}`).finally(() => clearInterval(looking));
    expect(code, said).toBe(130);
    expect((await readdir(`${dir}/weights`)).length).toBeGreaterThan(1);
    const again = await webrlhf(line);
    expect(again.said).toMatch(/[1-9] of 10 prompts were answered before/);
    expect(again.code).toBe(0);
  }, 120_000);

  it("says what it does not do in a cluster", async () => {
    await writeFile(`${dir}/x.jsonl`, '{"prompt": "a", "responses": ["b"]}\n');
    const generate = `generate --model_name_or_path ${dir}/base --prompt x --max_new_tokens 8`;
    const wrong: [string, RegExp][] = [
      [`${generate}${at} --logprobs 2`, /logprobs 2 asks for alternatives/],
      [`generate --server http://127.0.0.1:1 --prompt x${at}`, /--server or --cluster, not both/],
      [`${generate}${at} --dtype float16`, /stored as float16 cannot be sent to workers/],
      [`${generate} --cluster ${cluster.url}`, /--cluster needs --creds/],
      [`${generate} --check 0.5`, /--check has no effect/],
      [
        `annotate --input_file ${dir}/x.jsonl --reward_model_path http://127.0.0.1:1/s --output_file ${dir}/y${at}`,
        /has no weights here: leave out cluster/,
      ],
    ];
    for (const [line, why] of wrong) {
      const { code, said } = await webrlhf(line);
      expect(said, line).toMatch(why);
      expect(code, line).toBe(1);
    }
  }, 120_000);
});
