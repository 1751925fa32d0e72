#!/usr/bin/env node
/**
 * Whether a trainer that draws every job again (--check 1) ever suspects a worker that is honest, where workers compute on other
 * adapters than the trainer and in other runtimes.
 *
 *   npm run build && node scripts/honest-cluster.mjs
 *   --responses 10000   how many are checked      --seed 1   other stories
 *
 * The trainer computes on this machine's adapter; workers on the same one, on it with the kernels of a GPU, on the embedded SwiftShader, and in
 * Deno. A nats-server is taken from WEBRLHF_NATS_SERVER or the PATH.
 */
import { rmSync } from "node:fs";
import { parseArgs } from "node:util";
import { clusterPrograms, freePort } from "./cluster-programs.mjs";
import { denoExecutable } from "./deno.mjs";
import { swiftShader } from "./tabs.mjs";

const { values: flags } = parseArgs({
  options: { responses: { type: "string", default: "10000" }, seed: { type: "string", default: "1" } },
});
const { work, at, start, webrlhf, run, serve, program, endAll } = clusterPrograms();
const EACH = 256; // responses of a step

try {
  const shape = "--hidden_size 64 --num_hidden_layers 2 --num_attention_heads 4 --max_position_embeddings 96";
  const few = "--dataset_name builtin:world --max_train_samples 256 --per_device_train_batch_size 16 --max_steps 30";
  await run("sft", ...`${shape} ${few} --seed ${flags.seed}`.split(" "), "--output_dir", at("base"));
  const port = await freePort();
  await run("cluster", "init", "--cluster_dir", at("cluster"), "--port", String(port));
  const url = `nats://127.0.0.1:${port}`;
  await serve(at("cluster"));
  for (const name of ["same", "kernels", "swiftshader", "deno"])
    await run("cluster", "invite", name, "--cluster_dir", at("cluster"));
  const words = (name) => [
    "worker",
    "--cluster",
    url,
    "--creds",
    at("cluster", `${name}.creds`),
    "--worker_name",
    name,
  ];
  const swiftshader = await swiftShader();
  const deno = denoExecutable();
  const workers = {
    same: start(process.execPath, [program, ...words("same")]),
    kernels: start(process.execPath, [program, ...words("kernels")], { WEBRLHF_ADAPTER_KIND: "hardware" }),
    ...(swiftshader && {
      swiftshader: start(process.execPath, [program, ...words("swiftshader")], swiftshader),
    }),
    ...(deno && { deno: start(deno, ["run", "-A", program, ...words("deno")]) }),
  };
  for (const worker of Object.values(workers)) await worker.says(/works for/);
  const steps = Math.ceil(Number(flags.responses) / EACH);
  const trainer = webrlhf(
    ...`grpo --model_name_or_path ${at("base")} --reward_model_path builtin:world --use_peft --lora_r 4`.split(" "),
    ...`--dataset_name builtin:world --max_train_samples 256 --response_length 24 --num_generations 8`.split(" "),
    ...`--generation_batch_size ${EACH} --per_device_train_batch_size 64 --learning_rate 1e-3 --max_steps ${steps}`.split(
      " ",
    ),
    ...`--prompts_per_job 1 --seed ${flags.seed} --save_minutes 0 --output_dir ${at("out")}`.split(" "),
    ...["--cluster", url, "--creds", at("cluster", "trainer.creds"), "--check", "1"],
  );
  const code = await trainer.ended;
  for (const worker of Object.values(workers)) worker.kill("SIGTERM");
  await Promise.all(Object.values(workers).map((worker) => worker.ended));
  const suspected = [...trainer.said.matchAll(/^.*does not draw as it is told.*$/gm)].map(([line]) => line);
  const refused = [...trainer.said.matchAll(/^.* sent .*asked for again.*$/gm)].map(([line]) => line);
  let checked = 0;
  for (const [name, { said }] of Object.entries(workers)) {
    const jobs = Number(/stopped after (\d+)/.exec(said)?.[1] ?? 0);
    checked += 8 * jobs;
    console.log(`${name}: ${8 * jobs} responses; ${/^.*adapter: .*$/m.exec(said)?.[0] ?? said.slice(-200)}`);
  }
  console.log(
    `${checked} responses of ${steps * EACH} came from workers and were drawn again; suspected: ${suspected.length}, refused: ${refused.length}`,
  );
  for (const line of [...suspected, ...refused]) console.log(line);
  if (code !== 0) console.log(trainer.said);
  process.exitCode = code === 0 && suspected.length + refused.length === 0 && checked > 0 ? 0 : 1;
} finally {
  await endAll();
  rmSync(work, { recursive: true, force: true });
}
