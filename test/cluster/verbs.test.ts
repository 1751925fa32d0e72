/** A cluster from the command line. */
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { main } from "webrlhf/cli";
import { connectCluster, runWorker } from "webrlhf/cluster";
import { silentTerminal } from "../cli/terminal.ts";
import { freePort, natsServer, serveFolder } from "./server.ts";

let dir: string;
beforeAll(async () => {
  await openDevice();
  dir = await mkdtemp(join(tmpdir(), "webrlhf-cluster-verbs-"));
});
afterAll(() => rm(dir, { recursive: true }));

/** Runs a verb; gives its exit code and what it said. */
async function webrlhf(...words: string[]): Promise<{ code: number; said: string }> {
  const lines: string[] = [];
  const terminal = silentTerminal();
  terminal.line = (line) => void lines.push(line);
  terminal.result = (line) => void lines.push(line);
  const code = await main(words, terminal);
  return { code, said: lines.join("\n") };
}

describe("webrlhf cluster", () => {
  it("sets one up that others cannot read, and not twice", async () => {
    const folder = join(dir, "once");
    const made = await webrlhf("cluster", "init", "--cluster_dir", folder, "--host", "0.0.0.0");
    expect(made).toMatchObject({ code: 0, said: expect.stringContaining("nats-server -c") });
    expect(made.said).toMatch(/go over the network unencrypted/);
    expect(await readdir(folder)).toEqual([
      "cluster.json",
      "keys.json",
      "nats.conf",
      "system.creds",
      "trainer.creds",
      "worker.creds",
    ]);
    for (const name of ["keys.json", "system.creds", "trainer.creds", "worker.creds"]) {
      expect((await stat(join(folder, name))).mode & 0o777, name).toBe(0o600);
    }
    const again = await webrlhf("cluster", "init", "--cluster_dir", folder);
    expect(again).toMatchObject({ code: 1, said: expect.stringContaining("holds a cluster already") });
  });

  it("says what is missing, and what has no effect", async () => {
    const folder = join(dir, "nothing");
    expect((await webrlhf("cluster", "status", "--cluster_dir", folder)).said).toMatch(
      /holds no cluster .*cluster init/,
    );
    expect((await webrlhf("cluster", "init", "--cluster_dir", folder, "--tls_cert", "x.pem")).said).toMatch(
      /--tls_cert and --tls_key go together/,
    );
    expect((await webrlhf("cluster", "revoke", "--cluster_dir", folder)).said).toMatch(/name whom to revoke/);
    expect((await webrlhf("cluster", "status", "--minutes", "5")).said).toMatch(/--minutes has no effect unless/);
    expect((await webrlhf("worker", "--cluster", "host:4222", "--creds", "x")).said).toMatch(/is no cluster's address/);
    expect((await webrlhf("worker", "--cluster", "nats://host", "--creds", join(dir, "x"))).said).toMatch(
      /no such file/,
    );
  });
});

describe.skipIf(!natsServer)("a cluster's server from the command line", () => {
  let folder: string;
  let url: string;
  let server: { close(): Promise<void> };
  beforeAll(async () => {
    folder = join(dir, "served");
    const port = await freePort();
    url = `nats://127.0.0.1:${port}`;
    expect((await webrlhf("cluster", "init", "--cluster_dir", folder, "--port", String(port))).code).toBe(0);
    server = await serveFolder(folder);
  });
  afterAll(() => server?.close());

  it("invites, shows and revokes", async () => {
    const invited = await webrlhf(
      "cluster",
      "invite",
      "room-12",
      "--minutes",
      "5",
      "--label",
      "Tuesday",
      "--cluster_dir",
      folder,
    );
    expect(invited).toMatchObject({ code: 0, said: expect.stringMatching(/room-12 may work until .*room-12\.creds/) });
    const creds = await readFile(join(folder, "room-12.creds"), "utf8");
    const stop = new AbortController();
    const { nc, user } = await connectCluster({ url, creds, file: "room-12.creds" }, "test");
    const working = runWorker({ nc, user }, { name: "lab", adapter: "an adapter", signal: stop.signal }).catch(String);
    const { code, said } = await webrlhf("cluster", "status", "--cluster_dir", folder);
    expect(code).toBe(0);
    expect(said).toMatch(/worker lab \(room-12\): 0 jobs done, 0 tokens\/s, waiting; webrlhf .* on an adapter/);
    expect(said).toMatch(/member room-12 \(Tuesday\): worker, until 2/);
    const revoked = await webrlhf("cluster", "revoke", "room-12", "--cluster_dir", folder);
    expect(revoked).toMatchObject({ code: 0, said: expect.stringContaining("room-12 is revoked") });
    expect(await working).toMatch(/the credential has expired or was revoked/);
    expect((await webrlhf("cluster", "status", "--cluster_dir", folder)).said).toMatch(/member room-12 .*revoked/);
  }, 60_000);

  it("draws for a trainer: the model is that of a run without one, to the byte", async () => {
    const shape = "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --max_position_embeddings 64";
    const few = "--max_train_samples 16 --per_device_train_batch_size 4 --seed 3 --logging_steps 1";
    const base = join(dir, "base");
    expect((await webrlhf("sft", ...`${shape} ${few} --max_steps 4 --output_dir ${base}`.split(" "))).code).toBe(0);
    const teacher = join(dir, "teacher");
    const wider = shape.replace("hidden_size 16", "hidden_size 24");
    expect((await webrlhf("sft", ...`${wider} ${few} --max_steps 4 --output_dir ${teacher}`.split(" "))).code).toBe(0);
    const { nc, user } = await connectCluster(
      { url, creds: await readFile(join(folder, "worker.creds"), "utf8"), file: "worker.creds" },
      "test",
    );
    const stop = new AbortController();
    const working = runWorker({ nc, user }, { name: "lab", adapter: "an adapter", signal: stop.signal });
    const models = `--model_name_or_path ${base} --reward_model_path builtin:world --dataset_name builtin:world`;
    const rest = `${few} --max_steps 3 --response_length 12 --learning_rate 1e-3 --prompts_per_job 1`;
    const group = `grpo ${models} ${rest} --generation_batch_size 16 --num_generations 4`;
    const runs: [string, string][] = [
      ["adapter", `${group} --use_peft --lora_r 2 --check 0.5`],
      ["whole", group],
      ["behind", `${group} --use_peft --lora_r 2 --max_staleness 1`],
      ["halves", `${group} --use_peft --lora_r 2 --lora_wire f16 --check 0.5`],
      ["bytes", `${group} --use_peft --lora_r 2 --lora_wire int8 --max_staleness 1`],
      [
        "raft",
        `raft ${models} --use_peft ${few} --num_raft_iteration 2 --raft_batch_size 8 --output_max_length 12 --prompts_per_job 2`,
      ],
      [
        "distill",
        `distill --model_name_or_path ${base} --teacher_model_name_or_path ${teacher} ${rest} --lmbda 0.6 --seq_kd`,
      ],
    ];
    for (const [name, line] of runs) {
      const [alone, together] = [join(dir, `${name}-alone`), join(dir, `${name}-together`)];
      expect(await webrlhf(...line.replace(/ --check \S+/, "").split(" "), "--output_dir", alone)).toMatchObject({
        code: 0,
      });
      const words = ["--cluster", url, "--creds", join(folder, "trainer.creds"), "--output_dir", together];
      const ran = await webrlhf(...line.split(" "), ...words);
      expect(ran, ran.said).toMatchObject({
        code: 0,
        said: expect.stringContaining("responses are drawn in the cluster"),
      });
      const entries = await readdir(alone, { withFileTypes: true });
      for (const { name: file } of entries.filter((entry) => entry.isFile() && entry.name !== "timing.jsonl")) {
        const [one, two] = await Promise.all([alone, together].map((where) => readFile(join(where, file))));
        expect(two.equals(one), `${name}: ${file}`).toBe(true);
      }
      expect(await readdir(together)).toEqual(await readdir(alone)); // results go when a run is over
      expect(ran.said, name).not.toContain("no worker has joined");
    }
    stop.abort();
    expect(await working).toBeGreaterThan(0);
    await nc.close();
  }, 240_000);

  it("lets several learners meet, who end with the same model", async () => {
    const creds = join(folder, "trainer.creds");
    const learn = (number: number) => {
      const shape =
        "--model_type llama --hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --intermediate_size 32";
      const sizes = "--max_position_embeddings 64 --max_steps 4 --per_device_train_batch_size 4 --max_train_samples 32";
      const words = `sft --dataset_name builtin:world ${shape} ${sizes} --diloco_steps 2 --learner ${number}`.split(
        " ",
      );
      const to = join(dir, `learner-${number}`);
      return webrlhf(...words, "--learners_quorum", "2", "--cluster", url, "--creds", creds, "--output_dir", to);
    };
    const [a, b] = await Promise.all([learn(1), learn(2)]);
    expect([a.code, b.code], `${a.said} ${b.said}`).toEqual([0, 0]);
    const model = (number: number) => readFile(join(dir, `learner-${number}`, "model.safetensors"));
    expect((await model(1)).equals(await model(2))).toBe(true);
    const alone = await webrlhf("sft", "--dataset_name", "builtin:world", "--diloco_steps", "2", "--learner", "1");
    expect(alone).toMatchObject({ code: 1, said: expect.stringContaining("--learner needs --cluster and --creds") });
  });
});
