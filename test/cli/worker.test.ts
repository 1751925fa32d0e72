// biome-ignore-all lint/suspicious/noTemplateCurlyInString: recipes hold references of this form
/** A page's training in a worker is the command line's: the same settings give the same files. */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { diskFiles, unzipFiles } from "webrlhf";
import { main } from "webrlhf/cli";
import { CausalLM, modelFiles } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import type { TrainEvent } from "webrlhf/rlhf";
import { type RecipeEvent, type RecipeInput, recipeProgram, type TrainInput, trainProgram } from "webrlhf/worker";
import { gpuReady } from "../helpers.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";
import { desk } from "../worker/desk.ts";
import { silentTerminal } from "./terminal.ts";

let dir: string;
beforeAll(async () => {
  await gpuReady();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-worker-"));
  const files = await diskFiles();
  const model = new CausalLM(tinyConfig()).initialize(1);
  await files.writeFolder(join(dir, "base"), { ...(await modelFiles(model)), ...tokenizerFiles(tokenizer) });
  model.destroy();
  const answers = ["was happy.", "was sad.", "ran home.", "slept.", "found a dog.", "ate."];
  const pairs = answers.map((chosen, i) => ({ prompt: "Tom ", chosen, rejected: answers[(i + 1) % 6] }));
  await writeFile(join(dir, "pairs.jsonl"), pairs.map((row) => JSON.stringify(row)).join("\n"));
});
afterAll(() => rm(dir, { recursive: true }));

it("trains with the metrics, the samples and the weights of `webrlhf dpo`, bit for bit", async () => {
  const settings = {
    model_name_or_path: join(dir, "base"),
    dataset_name: join(dir, "pairs.jsonl"),
    max_steps: 5,
    per_device_train_batch_size: 3,
    learning_rate: 1e-2,
    use_peft: true,
    save_steps: 2,
  };
  const words = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const terminal = silentTerminal();
  const out = join(dir, "cli");
  expect(await main(["dpo", ...words, "--output_dir", out], terminal), terminal.written.join("")).toBe(0);

  const { session } = desk({ programs: { train: trainProgram }, files: await diskFiles() });
  const run = session.run<TrainInput, TrainEvent>({ program: "train", input: { method: "dpo", settings } });
  const events: TrainEvent[] = [];
  for await (const { event } of run) events.push(event);
  expect(run.state).toBe("done");
  for (const name of ["metrics.jsonl", "adapter_model.safetensors", "adapter_config.json", "tokenizer.json"]) {
    expect(Buffer.from((await run.read(`run/${name}`)) as Uint8Array), name).toEqual(await readFile(join(out, name)));
  }
  const logged = (await readFile(join(out, "metrics.jsonl"), "utf8")).trimEnd().split("\n");
  expect(events.filter(({ type }) => type === "step")).toHaveLength(logged.length);

  const packed = await unzipFiles(await run.snapshot());
  expect(await packed.list("files/run")).toContain("adapter_model.safetensors");
  await session.close();
});

it("trains the stages of the quickstart as `webrlhf run`, bit for bit, also when it goes on", async () => {
  const recipes = fileURLToPath(new URL("../../recipes", import.meta.url));
  const whole = await readFile(join(recipes, "quickstart.yaml"), "utf8");
  // Without the evaluations, which a worker leaves out.
  const text = whole.split("\n  - name: test-reward")[0].replaceAll("${recipe_dir}", recipes);
  await writeFile(join(dir, "training.yaml"), text);
  const set = [
    "response_length=8",
    "reward.max_train_samples=32",
    "reward.max_eval_samples=8",
    ...["ppo", "ppo-free"].flatMap((stage) => [
      `${stage}.max_steps=2`,
      `${stage}.rollout_batch_size=4`,
      `${stage}.per_device_train_batch_size=2`,
    ]),
    ...["raft.num_raft_iteration=1", "raft.raft_batch_size=2", "raft.per_device_train_batch_size=2"],
    "raft.top_reward_percentage=0.5",
  ];
  const out = join(dir, "recipe");
  const terminal = silentTerminal();
  const words = ["run", join(dir, "training.yaml"), "--output_dir", out, ...set.flatMap((text) => ["--set", text])];
  expect(await main(words, terminal), terminal.written.join("")).toBe(0);

  const { session, workers } = desk({ programs: { recipe: recipeProgram }, files: await diskFiles() });
  const input = { recipe: whole, recipeDir: recipes, set: [...set, "test-raft.num_prompts=3"] };
  const run = session.run<RecipeInput, RecipeEvent>({ program: "recipe", input });
  for await (const { event } of run) {
    const stop =
      event.type === "event" && event.stage === "ppo" && event.event.type === "step" && event.event.step === 1;
    if (stop) workers[0].end();
  }
  expect(run.notices.map(({ type }) => type)).toEqual(["rehired"]);
  expect(run.events[0].event).toMatchObject({
    stages: ["reward", "ppo", "raft", "ppo-free"].map((name) => ({ name })),
    leftOut: expect.arrayContaining([{ name: "report", verb: "report" }]),
  });
  for (const stage of ["reward", "ppo", "raft", "ppo-free"]) {
    const ends = run.events.filter(
      ({ event }) => event.type === "event" && event.stage === stage && event.event.type === "end",
    );
    expect([stage, ends.length]).toEqual([stage, 1]);
    const names = (await readdir(join(out, stage), { recursive: true })).filter((name) =>
      /metrics\.jsonl$|\.safetensors$/.test(name),
    );
    expect(names.length, stage).toBeGreaterThan(1);
    for (const name of names) {
      const found = (await run.read(`run/${stage}/${name}`)) ?? "nothing";
      expect(Buffer.from(found), `${stage}/${name}`).toEqual(await readFile(join(out, stage, name)));
    }
  }
  await session.close();
}, 600_000);

it("names a wrong method, and a wrong setting, as the command line does", async () => {
  const { session } = desk({ programs: { train: trainProgram } });
  const failure = async (input: TrainInput) => {
    const run = session.run<TrainInput, TrainEvent>({ program: "train", input });
    await expect.poll(() => run.state, { timeout: 20_000 }).toBe("broken");
    return [run.error?.name, run.error?.message];
  };
  expect(await failure({ method: "reinforc" })).toEqual([
    "UserError",
    expect.stringMatching(/^there is no method "reinforc".*did you mean.*reinforce/),
  ]);
  const [name, message] = await failure({ method: "dpo", settings: { modelNameOrPath: "base", max_stepz: 3 } });
  expect(name).toBe("UserError");
  expect(message).toMatch(/max_stepz/);
  await session.close();
});
