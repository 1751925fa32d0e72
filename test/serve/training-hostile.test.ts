import { readdir } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { proto } from "../../src/io/protobuf.ts";
import { Line } from "../../src/serve/line.ts";
import { serverDefaults } from "../../src/serve/options.ts";
import { Turns } from "../../src/serve/train/turns.ts";
import { writePassOutput } from "../../src/serve/train/wire.ts";
import { type Datum, datum, passBody, type TinyTraining, TrainingClient, tinyTraining } from "./training-client.ts";

const ids = [40, 41, 42, 43];
const good = { loss_fn: "cross_entropy", data: [datum(ids, { weights: [1, 1, 1] })] };
const adam = { learning_rate: 1e-2 };

let tiny: TinyTraining;
let client: TrainingClient;
let model: string;
beforeAll(async () => {
  tiny = await tinyTraining({ maxLoraRank: 8, maxCheckpoints: 3 });
  client = await new TrainingClient(tiny.server.url).open();
  model = await client.createModel();
});
afterAll(() => tiny.stop());

describe("passes that cannot be", () => {
  const one = (inputs: Record<string, readonly number[]>, more: Partial<Datum> = {}) => [
    { ids: ids.slice(0, 3), inputs, ...more },
  ];
  const targets = ids.slice(1);
  const ok = { target_tokens: targets, weights: [1, 1, 1] };
  const policy = { target_tokens: targets, logprobs: [-1, -1, -1], advantages: [1, 1, 1] };
  it.each([
    ["no data", { data: [] }, /no data/],
    ["no tokens", { data: one({ target_tokens: [], weights: [] }, { ids: [] }) }, /datum 0: model_input has no tokens/],
    ["foreign ids", { data: one(ok, { ids: [40, 1e6, 41] }) }, /datum 0: model_input holds 1000000 at 1/],
    ["negative ids", { data: one(ok, { ids: [40, -1, 41] }) }, /holds -1 at 1/],
    ["foreign targets", { data: one({ ...ok, target_tokens: [1, 2, 1e6] }) }, /target_tokens holds 1000000 at 2/],
    ["too few targets", { data: one({ ...ok, target_tokens: [1, 2] }) }, /target_tokens has the shape \[2\]/],
    ["no weights", { data: one({ target_tokens: targets }) }, /cross_entropy needs weights/],
    ["too few weights", { data: one({ ...ok, weights: [1] }) }, /weights has the shape \[1\]/],
    ["no numbers", { data: one({ ...ok, weights: [1, Number.NaN, 1] }) }, /weights holds NaN at 1/],
    ["another loss's input", { data: one({ ...ok, advantages: [1, 1, 1] }) }, /no use for "advantages"/],
    ["an unknown loss", { loss_fn: "grpo" }, /loss_fn "grpo" is not known/],
    ["a loss of every object", { loss_fn: "constructor" }, /is not known/],
    ["an unknown option", { config: { beta: 1 } }, /takes nothing in loss_fn_config, not "beta"/],
    [
      "an option out of range",
      { loss_fn: "dro", data: one(policy), config: { beta: -1 } },
      /beta must be a number from 0/,
    ],
    ["thresholds upside down", { loss_fn: "ppo", data: one(policy), config: { clip_low_threshold: 2 } }, /lies above/],
    [
      "more than the context",
      { data: [datum(new Array(500).fill(40), { weights: new Array(499).fill(1) })] },
      /the model's context is/,
    ],
  ])("%s: one clear error, and the next step is not taken", async (_, wrong, message) => {
    await client.pass(model, good);
    await expect(client.pass(model, { ...good, ...wrong })).rejects.toThrow(message);
    await expect(client.step(model, adam)).rejects.toThrow(/left out.*forward_backward before it was refused/);
    await client.pass(model, good);
    await client.step(model, adam);
  });

  it("bodies that are no message, of no model, or of another type are refused at once", async () => {
    const send = async (body: Uint8Array | object) => (await client.send("POST", "forward_backward", body)).status;
    expect(await send(new Uint8Array([0x0a, 0xff]))).toBe(400);
    expect(await send(proto.whole(proto.int(2, 1)))).toBe(404);
    expect(await send(passBody("nobody", 1, good))).toBe(404);
    expect(await send(passBody(model, 0, good))).toBe(400);
    expect(await send({})).toBe(415);
  });

  it("a body that breaks off in the middle of its data is a failed request, and costs its turn", async () => {
    const body = proto.whole(
      passBody(model, client.next(model), { ...good, data: [] }),
      proto.bytes(3, Uint8Array.of(0x0a, 9)),
    );
    await expect(client.done("forward_backward", body)).rejects.toThrow(/no whole protobuf message/);
    await expect(client.step(model, adam)).rejects.toThrow(/left out/);
  });

  it("a forward alone that is refused costs the next step nothing", async () => {
    await client.pass(model, good);
    const wrong = { ...good, data: [], forwardOnly: true };
    await expect(client.pass(model, wrong)).rejects.toThrow(/no data/);
    await client.step(model, adam);
  });

  it("many sparse tensors cannot grow beyond the request together", async () => {
    const width = serverDefaults.maxRequestTokens;
    const rows = new Uint8Array(16); // of one row, in which there is nothing
    const sparse = proto.message(2, proto.bytes(2, rows));
    const tensor = proto.whole(sparse, proto.int(3, 2), proto.ints(4, [1, width]));
    const entry = proto.message(2, proto.text(1, "target_tokens"), proto.bytes(2, tensor));
    const send = (count: number) => {
      const head = passBody(model, client.next(model), { ...good, data: [], forwardOnly: true });
      return client.done("forward_backward", proto.whole(head, ...Array(count).fill(proto.message(3, entry))));
    };
    await expect(send(5)).rejects.toThrow(/datum 0: model_input has no tokens/);
    await expect(send(6)).rejects.toThrow(/with a sparse tensor of \[1,262144\] the data have more values/);
    await expect(send(20_000)).rejects.toThrow(/the data have more values/);
  });

  it.each([3, 500_000])("a tensor of %i dimensions is refused in words", async (count) => {
    const tensor = proto.whole(
      proto.bytes(1, new Uint8Array(24)),
      proto.int(3, 2),
      proto.ints(4, Array(count).fill(1)),
    );
    const entry = proto.message(2, proto.text(1, "target_tokens"), proto.bytes(2, tensor));
    const head = passBody(model, client.next(model), { ...good, data: [], forwardOnly: true });
    const sent = client.done("forward_backward", proto.whole(head, proto.message(3, entry)));
    await expect(sent).rejects.toThrow(/a tensor has more than 2 dimensions: each token has one number/);
  });

  it("answers to many sequences are written whole", () => {
    const many = Array.from({ length: 150_000 }, () => new Float32Array(1));
    expect(writePassOutput(many, Array(many.length).fill(null), {}).length).toBeGreaterThan(12 * many.length); // a number and an end of each
  });

  it("a sparse tensor cannot grow beyond the request", async () => {
    const shape = proto.ints(4, [1 << 20, 1 << 20]);
    const tensor = proto.whole(proto.message(2, proto.bytes(1, new Uint8Array())), proto.int(3, 2), shape);
    const entry = proto.message(2, proto.text(1, "target_tokens"), proto.bytes(2, tensor));
    const body = proto.whole(passBody(model, client.next(model), { ...good, data: [] }), proto.message(3, entry));
    await expect(client.done("forward_backward", body)).rejects.toThrow(/sparse tensor/);
    await expect(client.step(model, adam)).rejects.toThrow(/left out/);
  });
});

describe("other requests that cannot be", () => {
  const session = () => client.session;
  it.each([
    ["create_model", () => ({ base_model: "other", lora_config: { rank: 4 } }), /trains "tiny", not "other"/],
    ["create_model", () => ({ base_model: "tiny", lora_config: { rank: 0 } }), /rank must be an integer from 1 to 8/],
    ["create_model", () => ({ base_model: "tiny", lora_config: { rank: 9 } }), /rank must be an integer from 1 to 8/],
    ["create_model", () => ({ base_model: "tiny" }), /lora_config with a rank is missing/],
    [
      "create_model",
      () => ({ base_model: "tiny", lora_config: { rank: 4, train_mlp: false, train_attn: false } }),
      /unembedding alone/,
    ],
    ["create_model", () => ({ base_model: "tiny", lora_config: { rank: 4, alpha: 1 } }), /Unrecognized.*alpha/],
    [
      "create_model",
      () => ({ base_model: "tiny", lora_config: { rank: 4 }, optimizer_config: { type: "dimuon" } }),
      /"dimuon" is not known/,
    ],
    ["create_sampling_session", () => ({ sampling_session_seq_id: 0 }), /either model_path or base_model/],
    [
      "create_sampling_session",
      () => ({ sampling_session_seq_id: 0, model_path: "tinker://x" }),
      /no path of saved weights/,
    ],
    ["load_weights", () => ({ path: `tinker://${model}/weights/none`, optimizer: true }), /no weights at/],
  ])("%s %#", async (path, more, message) => {
    await expect(client.post(path, { session_id: session(), model_seq_id: 900, ...more() })).rejects.toThrow(message);
  });

  it.each([
    [{ adam_params: { learning_rate: -1 } }, /learning_rate must be a number from 0/],
    [{ adam_params: { beta1: 1 } }, /beta1 must be a number/],
    [{ adam_params: { momentum: 1 } }, /Unrecognized.*momentum/],
    [{ optimizer_params: { type: "dimuon", learning_rate: 1 } }, /"dimuon" is not known/],
    [{}, /adam_params must be there/],
  ])("optim_step %#", async (more, message) => {
    await expect(client.ordered("optim_step", model, more)).rejects.toThrow(message);
  });

  it.each([
    [{ max_tokens: 0 }, {}, /max_tokens must be an integer of at least 1/],
    [{ max_tokens: 1e5 }, {}, /maximum context length/],
    [{ temperature: -1 }, {}, /temperature must be/],
    [{ stop: [{}] }, {}, /stop must be/],
    [{ best_of: 2 }, {}, /Unrecognized.*best_of/],
    [{ max_tokens: 1 }, { num_samples: 1000 }, /num_samples must be/],
    [{ max_tokens: 1 }, { prompt: { chunks: [] } }, /no tokens/],
    [{ max_tokens: 1 }, { prompt: { chunks: [{ tokens: [1e9] }] } }, /prompt holds 1000000000 at 0/],
    [{ max_tokens: 1 }, { prompt: { chunks: [{ type: "image" }] } }, /picture or sound/],
    [{ max_tokens: 1 }, { prompt_alt_tokens_k: 2 }, /prompt_alt_tokens_k 2 is not supported/],
  ])("asample %#", async (params, more, message) => {
    const base = await client.sampler({ base_model: "tiny" });
    await expect(client.sample(base, ids, params, more)).rejects.toThrow(message);
  });

  it("sessions, models, clients and results that are not there", async () => {
    const status = async (path: string, body: object) => (await client.send("POST", path, body)).status;
    expect(await status("session_heartbeat", { session_id: "x" })).toBe(410);
    expect(await status("retrieve_future", { request_id: "x" })).toBe(410);
    expect(await status("get_info", { model_id: "x" })).toBe(404);
    expect(await status("join_sampling_session", { sampling_session_id: "x" })).toBe(404);
    expect(await status("no_such_thing", {})).toBe(404);
  });
});

describe("names and paths", () => {
  const names = [
    "../up",
    "..",
    ".",
    "a/b",
    "a\\b",
    "/etc/passwd",
    "a\0b",
    "",
    "-",
    ".hidden",
    "a".repeat(129),
    "ä",
    "a.partial-123",
  ];
  it.each(names)("%j is no name to save by, and nothing is written", async (path) => {
    const before = await readdir(dirname(tiny.folder), { recursive: true });
    for (const how of ["save_weights", "save_weights_for_sampler", "save_weights_external"]) {
      await expect(client.ordered(how, model, { path })).rejects.toThrow(/no name to save by|must be a text/);
    }
    expect(await readdir(dirname(tiny.folder), { recursive: true })).toEqual(before);
  });

  it.each([
    "tinker://../weights/x",
    "tinker://MODEL/weights/..",
    "tinker://MODEL/../base",
    "tinker://MODEL/weights/../../../base",
    "tinker://MODEL/weights/%2e%2e",
    "tinker://MODEL/optimizer/x",
    "file:///etc",
    "../base",
  ])("%s leads nowhere", async (text) => {
    const path = text.replace("MODEL", model);
    const request = { session_id: client.session, model_seq_id: 901, path, optimizer: false };
    await expect(client.post("load_weights", request)).rejects.toThrow(/no path of saved weights/);
    await expect(client.ordered("load_weights", model, { path, optimizer: false })).rejects.toThrow(/no path of/);
    await expect(client.sampler({ model_path: path })).rejects.toThrow(/no path of/);
    await expect(client.post("weights_info", { tinker_path: path })).rejects.toThrow(/no path of/);
  });

  it.each(["%2e%2e/weights/x", "MODEL/weights/..%2f..%2f..", "MODEL/%2e%2e/base"])(
    "nothing is deleted by %s",
    async (text) => {
      const [run, ...rest] = text.replace("MODEL", model).split("/");
      const { status } = await client.send("DELETE", `training_runs/${run}/checkpoints/${rest.join("/")}`);
      expect([400, 404, 405]).toContain(status);
      expect(await readdir(dirname(tiny.folder))).toContain("base");
    },
  );
});

describe("limits", () => {
  it("keeps so many saved folders and no more", async () => {
    for (const name of ["one", "two", "three"]) await client.ordered("save_weights_for_sampler", model, { path: name });
    await expect(client.ordered("save_weights", model, { path: "four" })).rejects.toThrow(
      /3 checkpoints are kept already/,
    );
    // What a sampling client has does not count, and only the newest of it stay.
    const clients: string[] = [];
    for (let i = 0; i < 10; i++) {
      const answer = await client.ordered("save_weights_for_sampler", model, { sampling_session_seq_id: i });
      clients.push(String(answer.sampling_session_id));
    }
    const params = { max_tokens: 1 };
    await client.sample(clients[9], ids, params);
    await expect(client.sample(clients[0], ids, params)).rejects.toThrow(/no weights at/);
  });

  it("trains so many models at once, and those of clients that have ended make room", async () => {
    const two = await tinyTraining({ maxTrainModels: 2 });
    try {
      const own = await new TrainingClient(two.server.url).open();
      await own.createModel();
      await own.createModel();
      await expect(own.createModel()).rejects.toThrow(/2 models are in training already/);
      await own.post(`sessions/${own.session}/finish`, { reason: { type: "success" }, detail: null });
      await (await new TrainingClient(two.server.url).open()).createModel();
      await expect(own.createModel()).rejects.toThrow(/no session/);
    } finally {
      await two.stop();
    }
  });

  it("ends a session that gives no sign of life, with its models and what its sampling clients had", async () => {
    const short = await tinyTraining({ sessionMs: 300 });
    try {
      const own = await new TrainingClient(short.server.url).open();
      const mine = await own.createModel();
      await own.ordered("save_weights_for_sampler", mine, { sampling_session_seq_id: 0 });
      await own.ordered("save_weights_for_sampler", mine, { path: "stays" });
      await expect
        .poll(() => own.send("POST", "get_info", { model_id: mine }), { timeout: 10_000, interval: 200 })
        .toMatchObject({ status: 404 });
      const run = `${short.folder}/${mine.replaceAll(":", "-")}/sampler_weights`;
      await expect.poll(() => readdir(run), { timeout: 5000 }).toEqual(["stays"]);
    } finally {
      await short.stop();
    }
  });

  it("bounds the answers of samples, each and all under way together", async () => {
    const small = await tinyTraining({}, { maxAnswerBytes: 1000 });
    try {
      const own = await new TrainingClient(small.server.url).open();
      const base = await own.sampler({ base_model: "tiny" });
      const params = { max_tokens: 50, temperature: 0, stop: [] };
      const two = { num_samples: 2 }; // 50 tokens of two samples, 8 bytes each
      for (const more of [{ num_samples: 3 }, { topk_sample_logprobs: 2 }]) {
        await expect(own.sample(base, ids, params, more)).rejects.toThrow(
          /answer to this request.*1200 bytes.*--max_answer_bytes/,
        );
      }
      const scored = { prompt_logprobs: true, topk_prompt_logprobs: 20 };
      const long = new Array(10).fill(40);
      await expect(own.sample(base, long, { max_tokens: 1 }, scored)).rejects.toThrow(/1648 bytes/);
      const all = await Promise.allSettled(Array.from({ length: 8 }, () => own.sample(base, ids, params, two)));
      const refused = all.filter((one) => one.status === "rejected");
      expect(refused).toHaveLength(3);
      for (const { reason } of refused) expect(reason).toMatchObject({ status: 429 });
      await own.sample(base, ids, params, two);
    } finally {
      await small.stop();
    }
  });

  it("holds of passes that wait what was sent, and not what it is laid out to", async () => {
    const width = 1 << 15;
    const small = await tinyTraining({}, { maxRequestTokens: width });
    try {
      const own = await new TrainingClient(small.server.url).open();
      const mine = await own.createModel();
      const input = (name: string, dtype: number) => {
        const empty = proto.message(2, proto.bytes(2, new Uint8Array(16)));
        const tensor = proto.whole(empty, proto.int(3, dtype), proto.ints(4, [1, width]));
        return proto.message(2, proto.text(1, name), proto.bytes(2, tensor));
      };
      const token = proto.message(1, proto.message(1, proto.bytes(1, Uint8Array.of(40, 0, 0, 0))));
      const data = proto.message(3, token, input("target_tokens", 2), input("logprobs", 1), input("advantages", 1));
      const before = process.memoryUsage().arrayBuffers;
      // The first one is missing.
      for (let seq = 2; seq < 12; seq++) {
        const head = passBody(mine, seq, { loss_fn: "importance_sampling", data: [], forwardOnly: true });
        await own.post("forward_backward", proto.whole(head, data));
      }
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(5 * 12 * width); // of ten
    } finally {
      await small.stop();
    }
  });

  it("asks for the key that the server was started with, as the package sends it", async () => {
    const keyed = await tinyTraining({}, { apiKey: "tml-secret" });
    try {
      const anybody = new TrainingClient(keyed.server.url);
      expect((await anybody.send("GET", "get_server_capabilities")).status).toBe(401);
      const known = new TrainingClient(keyed.server.url, { "X-API-Key": "tml-secret" });
      expect((await known.send("GET", "get_server_capabilities")).json).toMatchObject({
        supported_models: [{ model_name: "tiny", trainable: true }],
      });
      expect(
        (await new TrainingClient(keyed.server.url, { "X-API-Key": "tml-wrong" }).send("GET", "healthz")).status,
      ).toBe(401);
    } finally {
      await keyed.stop();
    }
  });

  it("stops while clients wait", async () => {
    const short = await tinyTraining();
    const own = await new TrainingClient(short.server.url).open();
    const mine = await own.createModel();
    // Its turn never comes: the one before it is missing.
    const waiting = own.post("optim_step", { model_id: mine, seq_id: 2, adam_params: adam });
    const result = own.result(await waiting).catch((error: Error) => error);
    await sleep(50);
    await short.stop();
    expect(await result).toBeInstanceOf(Error);
  });

  it("a server without --train has none of it", async () => {
    const plain = await tinyTraining({}, { training: null });
    try {
      expect((await new TrainingClient(plain.server.url).send("GET", "get_server_capabilities")).status).toBe(404);
    } finally {
      await plain.stop();
    }
  });
});

describe("the order of requests", () => {
  it("is that of their numbers, whichever comes first; one that comes twice is done once", async () => {
    const [mine, other] = [await client.createModel(), await client.createModel()];
    const step = (of: string, seq_id: number) => client.post("optim_step", { model_id: of, seq_id, adam_params: adam });
    const late = await step(mine, 2);
    const pass = passBody(mine, 1, good);
    const first = await client.post("forward_backward", pass);
    expect(await client.post("forward_backward", pass)).toEqual(first);
    await client.result(first);
    const { json } = await client.result(late);
    await client.pass(other, good);
    expect((await client.step(other, adam)).metrics).toEqual(json.metrics);
    expect(await step(mine, 2)).toEqual(late);
    await expect(step(mine, 100_000)).rejects.toThrow(/too far ahead/);
  });

  it("goes on without one that never comes", async () => {
    const missed: string[] = [];
    const turns = new Turns(1, new Line(), (why) => missed.push(why), 30);
    const done: number[] = [];
    await Promise.all([4, 3].map((seq) => turns.take(seq, async () => void done.push(seq))));
    expect(done).toEqual([3, 4]);
    expect(missed).toEqual(["requests 1 to 2 of this model never came"]);
    expect(() => turns.check(2)).toThrow(/was there already/);
  });
});
