/** Names become things in every runtime: nothing here is read from a disk. */
import { beforeAll, describe, expect, it } from "vitest";
import {
  blobFiles,
  directoryFiles,
  type Files,
  fileListFiles,
  memoryFiles,
  openDevice,
  overlayFiles,
  stats,
  unzipFiles,
  urlFiles,
  zipStream,
} from "webrlhf";
import { worldPrompts, worldTokenizer } from "webrlhf/data";
import { CausalLM, type Decoder, generate, modelFiles } from "webrlhf/nn";
import {
  estimateRun,
  openDataset,
  openModel,
  openReward,
  openRewards,
  openScoreModel,
  openTokenizer,
  tokenizerFiles,
  trainedFiles,
} from "webrlhf/open";
import { ppo, type Response, rewardParts, trainPpo } from "webrlhf/rlhf";
import { directoryStore } from "../../src/io/hub-browser.ts";
import { FakeDirectory, fakeDirectory } from "../io/fake-directory.ts";
import { GgufWriter } from "../io/gguf-writer.ts";
import { keeper } from "../keep.ts";
import { tinyConfig } from "../rlhf/tiny.ts";

const keep = keeper();
const tokenizer = worldTokenizer();
const files = memoryFiles();
const room = { context: 64, response: 16 };
let weights: Float32Array;

beforeAll(async () => {
  await openDevice();
  const model = new CausalLM(tinyConfig()).initialize(5);
  weights = await embedding(model);
  await files.writeFolder("models/tiny", { ...(await modelFiles(model)), ...tokenizerFiles(tokenizer) });
  model.destroy();
});

const embedding = (model: CausalLM) => ((model.baseModel ?? model).decoder as Decoder).embed.weight.value.read();

describe("openDataset", () => {
  const texts = worldPrompts(8, 1);
  const stories = Array.from({ length: 10 }, (_, i) => ({ prompt: texts[i % 8], completion: " a cat", level: i }));

  it("keeps every column of a row beside its prompt, each prompt once", async () => {
    const { train, eval: held } = await openDataset(stories).prompts(tokenizer, room);
    expect(train.map(({ text, target, row }) => [text, target, row])).toEqual(
      [2, 3, 4, 5, 6, 7, 8, 9].map((i) => [stories[i].prompt, " a cat", stories[i]]),
    );
    expect(held).toEqual([]);
    expect([...train[0].ids]).toEqual([...tokenizer.prefixIds, ...tokenizer.encode(texts[2])]);
  });

  it("reads a generator's rows for every trainer that asks, and holds out whole prompts", async () => {
    const data = openDataset(
      (function* () {
        yield* stories;
      })(),
      { testSize: 0.25 },
    );
    for (let time = 0; time < 2; time++) {
      const { train, eval: held } = await data.records(tokenizer);
      expect([train.length + held.length, new Set(held.map(({ row }) => row?.prompt)).size]).toEqual([10, 2]);
      const learned = new Set(train.map(({ row }) => row?.prompt));
      expect(held.some(({ row }) => learned.has(row?.prompt))).toBe(false);
    }
    const { train } = await data.sequences(tokenizer, { maxLength: 64, completionOnlyLoss: false });
    const whole = (await data.records(tokenizer)).train.map(({ row }) => `${row?.prompt}${row?.completion}`);
    expect(train.map(({ ids }) => tokenizer.decode(ids))).toEqual(whole);
    expect(new Set(train.map(({ promptLength }) => promptLength))).toEqual(new Set([0]));
  });

  it("reads files of folders within folders, and says which file and line is wrong", async () => {
    await files.writeFile(
      "data/set/README.md",
      "---\nconfigs:\n- config_name: default\n  data_files: deep/er/*.jsonl\n---\n",
    );
    await files.writeFile("data/set/deep/er/one.jsonl", '{"chosen": "a cat", "rejected": "a dog", "prompt": "had"}\n');
    const { train } = await openDataset("data/set", { files }).pairs(tokenizer, { maxLength: 32 });
    expect(train.map(({ record }) => record.row)).toEqual([{ chosen: "a cat", rejected: "a dog", prompt: "had" }]);
    await files.writeFile("data/bad.jsonl", '{"prompt": "a"}\n{"prompt": }\n');
    await expect(openDataset("data/bad.jsonl", { files }).prompts(tokenizer, room)).rejects.toThrow(
      /data\/bad\.jsonl:2: not valid JSON/,
    );
    await expect(openDataset("data/none.jsonl", { files }).texts()).rejects.toThrow(/data\/none\.jsonl: no such file/);
  });

  it("leaves out what is too long when asked to, and says so", async () => {
    const said: string[] = [];
    const rows = ["a boy had a cat ".repeat(20), "a boy"];
    const prompts = (options: object) =>
      openDataset(rows, { say: (line) => said.push(line), ...options }).prompts(tokenizer, room);
    const { train } = await prompts({ longPrompts: "skip" });
    expect([train.map(({ text }) => text), said]).toEqual([
      ["a boy"],
      ["1 of 2 records left out: their prompts are too long"],
    ]);
    await expect(async () => (await prompts({})).train).rejects.toThrow(
      /rows, row 1: the prompt has .*longPrompts: "skip"/,
    );
  });
});

describe("openReward", () => {
  const response = (text: string, row?: object) =>
    ({ text, promptText: "p", ids: new Uint32Array(), row }) as unknown as Response;

  it("hands functions whole rows, and names them by themselves", async () => {
    const closeness = (all: readonly Response[]) =>
      all.map(({ text, row }) => -Math.abs(text.length - Number(row?.length)));
    const reward = await openReward(closeness);
    expect(reward.name).toBe("closeness");
    expect(await reward([response("abc", { length: 3 }), response("abc", { length: 5 })])).toEqual([-0, -2]);
    const both = await openRewards([closeness, closeness, "builtin:world"]);
    expect(rewardParts(both, tokenizer).names).toEqual(["closeness", "closeness-2", "builtin:world"]);
  });

  it("says what a function did wrong", async () => {
    const short = await openReward(async () => [1]);
    await expect(short([response("a"), response("b")])).rejects.toThrow(/gave 1 numbers for 2 responses/);
    const broken = await openReward(function mine(all) {
      return all.map(({ row }) => (row as { length: number }).length);
    });
    await expect(broken([response("a")])).rejects.toThrow(/mine failed: TypeError: /);
  });
});

describe("openModel", () => {
  it("opens a folder with its tokenizer, to train whole, by an adapter, or not at all", async () => {
    const whole = keep(await openModel("models/tiny", { files }));
    expect(await embedding(whole)).toEqual(weights);
    expect(whole.tokenizer.encode("a boy")).toEqual(tokenizer.encode("a boy"));
    const adapted = keep(await openModel("models/tiny", { files, lora: { r: 3, targetModules: ["q_proj"] } }));
    expect(new Set(adapted.adapter?.modules.map(({ rank, name }) => `${rank} ${name}`))).toEqual(
      new Set(["3 model.layers.0.self_attn.q_proj"]),
    );
    expect(await embedding(adapted)).toEqual(weights);
    const packed = keep(await openModel("models/tiny", { files, dtype: "int8" }));
    expect(packed.store.format).toBe("int8");
    const scorer = keep(await openScoreModel("models/tiny", { files, scoreBias: true }));
    expect([scorer.score.shape, scorer.scoreBias?.shape]).toEqual([[1, 16], [1]]);
    await expect(openScoreModel("models/tiny", { files, trainable: false })).rejects.toThrow(/without a score head/);
    await expect(openModel("models/none", { files })).rejects.toThrow(/models\/none: there is no such folder/);
  });

  it("loads names on the hub once, with progress, and finds them again without a network", async () => {
    const bytes: Record<string, Uint8Array> = {};
    for (const name of await files.list("models/tiny"))
      bytes[name] = (await files.read(`models/tiny/${name}`)) as Uint8Array;
    const asked: string[] = [];
    const hub = {
      store: directoryStore(new FakeDirectory() as unknown as FileSystemDirectoryHandle),
      endpoint: "https://hub.test",
    };
    const heard = new Map<string, number>();
    const online = { ...hub, fetch: hubOf("org/tiny", bytes, asked) };
    const progress = (file: string, received: number, total: number) => heard.set(file, received / total);
    const model = keep(await openModel("org/tiny", { hub: online, progress, lora: true }));
    expect(await embedding(model)).toEqual(weights);
    expect(model.adapter?.basePath).toBe("org/tiny");
    expect(heard.get("model.safetensors")).toBe(1);
    const before = asked.length;
    const again = await openTokenizer("org/tiny", { hub, offline: true });
    expect([again.encode("a boy"), asked.length]).toEqual([tokenizer.encode("a boy"), before]);
    await expect(openModel("org/other", { hub, offline: true })).rejects.toThrow(/org\/other: .*three ways/);
  });
});

describe("models in files of every kind", () => {
  const places: [string, (contents: Record<string, Uint8Array<ArrayBuffer>>) => Promise<[Files, string]>][] = [
    [
      "a picked folder",
      async (contents) => {
        const to = directoryFiles(fakeDirectory());
        await to.writeFolder("m", contents);
        return [to, "m"];
      },
    ],
    [
      "files that were picked",
      async (contents) => [
        fileListFiles(
          Object.entries(contents).map(([name, bytes]) =>
            Object.defineProperty(new File([bytes], name), "webkitRelativePath", { value: `m/${name}` }),
          ),
        ),
        ".",
      ],
    ],
    [
      "a zip file",
      async (contents) => [await unzipFiles(await new globalThis.Response(zipStream(contents)).blob()), "."],
    ],
    [
      "an overlay",
      async (contents) => {
        const base = Object.entries(contents).map(([name, bytes]) => [`m/${name}`, new Blob([bytes])]);
        return [overlayFiles(blobFiles(Object.fromEntries(base))), "m"];
      },
    ],
    [
      "a server",
      async (contents) => {
        const fetch: typeof globalThis.fetch = async (input, init) => {
          const bytes = contents[new URL(String(input)).pathname.slice("/m/".length)];
          if (!bytes) return answer("", 404);
          const [, first, last] = /bytes=(\d+)-(\d+)/.exec(new Headers(init?.headers).get("range") ?? "") ?? [];
          const headers = { "content-range": `bytes ${first}-${last}/${bytes.length}` };
          return new globalThis.Response(bytes.slice(Number(first), Number(last) + 1), { status: 206, headers });
        };
        return [urlFiles("https://models.test/m", fetch), "."];
      },
    ],
  ];

  it.each(places)("opens a folder in %s", async (_, make) => {
    const contents: Record<string, Uint8Array<ArrayBuffer>> = {};
    for (const name of await files.list("models/tiny")) {
      contents[name] = (await files.read(`models/tiny/${name}`)) as Uint8Array<ArrayBuffer>;
    }
    const [at, folder] = await make(contents);
    const model = keep(await openModel(folder, { files: at }));
    expect(await embedding(model)).toEqual(weights);
    expect(model.tokenizer.encode("a boy")).toEqual(tokenizer.encode("a boy"));
  });

  it.each(places)("opens a GGUF file, with the tokenizer in it, in %s", async (_, make) => {
    const [at, folder] = await make({ "tiny.gguf": tinyGguf() });
    const path = folder === "." ? "./tiny.gguf" : `${folder}/tiny.gguf`;
    const own = await openTokenizer(path, { files: at });
    expect(own.decode(own.encode("abba"))).toBe("abba");
    const model = keep(await openModel(path, { files: at, dtype: "int8" }));
    expect(model.tokenizer.encode("abba")).toEqual(own.encode("abba"));
    const ids = Uint32Array.from(own.encode("ab"));
    const [completion] = await generate(model, [ids], { maxNewTokens: 2, seed: 1 });
    expect(completion.ids.length).toBeGreaterThan(0);
  });

  it("writes whole folders of models and adapters, which are opened again", async () => {
    const model = keep(await openModel("models/tiny", { files }));
    const adapted = keep(await openModel("models/tiny", { files, lora: { r: 2 } }));
    const zip = await new globalThis.Response(zipStream(await trainedFiles(model, model.tokenizer))).blob();
    const whole = await unzipFiles(zip);
    expect(await whole.list(".")).toEqual([
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
      "tokenizer_config.json",
    ]);
    expect(await embedding(keep(await openModel(".", { files: whole })))).toEqual(weights);
    const above = overlayFiles(files);
    await above.writeFolder("adapter", await trainedFiles(adapted, adapted.tokenizer));
    const again = keep(await openModel("adapter", { files: above }));
    expect(again.adapter?.modules.length).toBe(adapted.adapter?.modules.length);
    expect(again.tokenizer.encode("a boy")).toEqual(tokenizer.encode("a boy"));
    const half = await trainedFiles(model, null, { dtype: "bfloat16" });
    expect(Object.keys(half).sort()).toEqual(["config.json", "generation_config.json", "model.safetensors"]);
  });

  it("says how far it is, and stops when it is told to", async () => {
    (await openModel("models/tiny", { files })).destroy();
    const before = stats().poolBytes;
    const heard: [string, number][] = [];
    const loading = (model: string, done: number, total: number) => heard.push([model, done / total]);
    (await openModel("models/tiny", { files, loading })).destroy();
    expect(heard.at(-1)).toEqual(["tiny", 1]);
    const stop = new AbortController();
    const stopped = openModel("models/tiny", {
      files,
      signal: stop.signal,
      loading: () => stop.abort(new Error("enough")),
    });
    await expect(stopped).rejects.toThrow("enough");
    expect(stats().poolBytes).toBe(before);
  });
});

/** A language model of zeros that knows the letters a and b. */
function tinyGguf(): Uint8Array<ArrayBuffer> {
  const w = new GgufWriter();
  w.text("general.architecture", "llama");
  const sizes = { context_length: 32, embedding_length: 16, block_count: 1, feed_forward_length: 32 };
  for (const [key, value] of Object.entries({ ...sizes, "attention.head_count": 2 })) w.u32(`llama.${key}`, value);
  w.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
  w.text("tokenizer.ggml.model", "gpt2");
  w.text("tokenizer.ggml.pre", "gpt-2");
  w.texts("tokenizer.ggml.tokens", ["a", "b", "ab", "</s>"]);
  w.numbers("tokenizer.ggml.token_type", Int32Array.of(1, 1, 1, 3));
  w.texts("tokenizer.ggml.merges", ["a b"]);
  w.u32("tokenizer.ggml.eos_token_id", 3);
  w.tensor("token_embd.weight", [4, 16]);
  w.tensor("output_norm.weight", [16]);
  for (const name of ["attn_q", "attn_k", "attn_v", "attn_output"]) w.tensor(`blk.0.${name}.weight`, [16, 16]);
  for (const name of ["ffn_gate", "ffn_up"]) w.tensor(`blk.0.${name}.weight`, [32, 16]);
  w.tensor("blk.0.ffn_down.weight", [16, 32]);
  for (const name of ["attn_norm", "ffn_norm"]) w.tensor(`blk.0.${name}.weight`, [16]);
  return w.bytes();
}

describe("estimateRun", () => {
  const settings = { perDeviceTrainBatchSize: 2, maxLength: 32 };

  it("says what a run takes, beside models that go on as they were", async () => {
    const model = keep(await openModel("models/tiny", { files }));
    const prompt = [Uint32Array.from(tokenizer.encode("a boy"))];
    const drawn = async () => (await generate(model, prompt, { maxNewTokens: 8, seed: 3 }))[0];
    const before = [await drawn(), stats().poolBytes];
    const whole = await estimateRun("sft", "models/tiny", settings, { files });
    expect([await drawn(), stats().poolBytes]).toEqual(before);
    const parameters = model.store.parameters.reduce((sum, { size }) => sum + size, 0);
    expect(whole).toMatchObject({ parameters, trained: parameters, download: 0, batchSize: 2, length: 32, fits: true });
    expect(whole.memory.byKind.weights).toBeGreaterThanOrEqual(4 * parameters);
    expect(whole.memory.total).toBeGreaterThan(16 * parameters); // weights, gradients and two moments
    const adapter = await estimateRun("sft", "models/tiny", { ...settings, usePeft: true, loraR: 2 }, { files });
    expect(adapter.trained).toBeLessThan(0.2 * parameters);
    expect(adapter.parameters).toBe(parameters + (adapter.trained as number));
    const large = { ...settings, perDeviceTrainBatchSize: 2048 };
    const all = await estimateRun("sft", "models/tiny", large, { files });
    const memory = (whole.memory.total + all.memory.total) / 2;
    const small = await estimateRun("sft", "models/tiny", large, { files, memory });
    expect(small.fits).toBe(false);
    const changed = { ...large, ...small.remedy?.settings };
    const less = await estimateRun("sft", "models/tiny", changed, { files });
    expect(less.memory).toEqual(small.remedy?.estimate);
    expect(small.remedy?.flags).toMatch(/--per_device_train_batch_size \d /);
    const taught = { perDeviceTrainBatchSize: 2, responseLength: 8, teacherModelNameOrPath: "models/tiny" };
    const two = await estimateRun("distill", "models/tiny", taught, { files, promptLength: 8 });
    expect(two).toMatchObject({ parameters, trained: parameters, download: 0, batchSize: 2, length: 16 });
    expect(two.memory.byKind.weights).toBeGreaterThanOrEqual(8 * parameters);
    await expect(estimateRun("nothing", "models/tiny", {}, { files })).rejects.toThrow(/name one of sft, .*dpo/);
    await expect(estimateRun("sft", "models/tiny", { maxLenght: 3 }, { files })).rejects.toThrow(/maxLenght/);
  });

  it("fetches of a model on the hub its configuration only, and says how much there is to load", async () => {
    const bytes: Record<string, Uint8Array> = {};
    for (const name of await files.list("models/tiny")) {
      bytes[name] = (await files.read(`models/tiny/${name}`)) as Uint8Array;
    }
    const asked: string[] = [];
    const store = directoryStore(new FakeDirectory() as unknown as FileSystemDirectoryHandle);
    const hub = { store, endpoint: "https://hub.test", fetch: hubOf("org/tiny", bytes, asked) };
    const estimate = await estimateRun("sft", "org/tiny", settings, { hub });
    expect(estimate.download).toBe(Object.values(bytes).reduce((sum, { length }) => sum + length, 0));
    expect(asked.filter((path) => /safetensors|tokenizer\.json/.test(path))).toEqual([]);
    const { download, ...rest } = estimate;
    expect(await estimateRun("sft", "models/tiny", settings, { files })).toEqual({ ...rest, download: 0 });
    keep(await openModel("org/tiny", { hub }));
    expect((await estimateRun("sft", "org/tiny", settings, { hub, offline: true })).download).toBe(0);
    const gguf = { ...hub, fetch: hubOf("org/many", { "a-Q4_0.gguf": tinyGguf(), "a-Q8_0.gguf": tinyGguf() }, []) };
    const one = await estimateRun("sft", "org/many:Q8_0", settings, { hub: gguf });
    expect(one.download).toBe(tinyGguf().length);
    await expect(estimateRun("sft", "org/many", settings, { hub: gguf })).rejects.toThrow(/say which one/);
  });
});

it("trains what was opened by names, on rewards that see the dataset's columns", async () => {
  const policy = keep(await openModel("models/tiny", { files, lora: { r: 2 } }));
  const levels: unknown[] = [];
  const level = (all: readonly Response[]) => {
    levels.push(...all.map(({ row }) => row?.level));
    return all.map(({ text, row }) => Number(row?.level) - text.length / 100);
  };
  const rewards = [await openReward(level), await openReward("builtin:world")];
  await files.writeFile(
    "prompts.jsonl",
    worldPrompts(4, 2)
      .map((prompt, i) => `${JSON.stringify({ prompt, level: i })}\n`)
      .join(""),
  );
  const data = openDataset("prompts.jsonl", { files });
  const settings = ppo({ dialect: "paddle", klCoef: 0.1, maxSteps: 2, rolloutBatchSize: 4, responseLength: 8 });
  const events = [];
  for await (const event of trainPpo({ policy, rewards }, data, settings)) events.push(event);
  const steps = events.flatMap((event) => (event.type === "step" ? [event.metrics] : []));
  expect(steps.map((metrics) => "rewards/level" in metrics && "rewards/builtin:world" in metrics)).toEqual([
    true,
    true,
  ]);
  expect(levels.sort()).toEqual([0, 0, 1, 1, 2, 2, 3, 3]);
  expect(events.at(-1)?.type).toBe("end");
});

/** A hub in memory, by the hub's own interface. */
function hubOf(id: string, bytes: Record<string, Uint8Array>, asked: string[]): typeof fetch {
  const sha = "3".repeat(40);
  const hash = async (content: Uint8Array) =>
    [...new Uint8Array(await crypto.subtle.digest("SHA-256", content as Uint8Array<ArrayBuffer>))]
      .map((byte) => byte.toString(16).padStart(2, "0"))
      .join("");
  return async (input) => {
    const path = new URL(String(input)).pathname;
    asked.push(path);
    if (path === `/api/models/${id}/revision/main`) return answer(JSON.stringify({ sha }));
    if (path === `/api/models/${id}/tree/${sha}`) {
      const entries = Object.entries(bytes).map(async ([name, content]) => {
        const lfs = { oid: await hash(content), size: content.length };
        return { type: "file", path: name, size: content.length, oid: "0".repeat(40), lfs };
      });
      return answer(JSON.stringify(await Promise.all(entries)));
    }
    const file = path.slice(`/${id}/resolve/${sha}/`.length);
    return bytes[file] ? answer(bytes[file] as Uint8Array<ArrayBuffer>) : answer("", 404);
  };
}

const answer = (body: BodyInit, status = 200) => new globalThis.Response(body, { status });
