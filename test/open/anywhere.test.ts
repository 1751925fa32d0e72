/** Names become things in every runtime: nothing here is read from a disk. */
import { beforeAll, describe, expect, it } from "vitest";
import { memoryFiles, openDevice } from "webrlhf";
import { worldPrompts, worldTokenizer } from "webrlhf/data";
import { CausalLM, type Decoder, modelFiles } from "webrlhf/nn";
import {
  openDataset,
  openModel,
  openReward,
  openRewards,
  openScoreModel,
  openTokenizer,
  tokenizerFiles,
} from "webrlhf/open";
import { ppo, type Response, rewardParts, trainPpo } from "webrlhf/rlhf";
import { directoryStore } from "../../src/io/hub-browser.ts";
import { FakeDirectory } from "../io/fake-directory.ts";
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
