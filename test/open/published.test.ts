/** Models in the layouts in which others publish them, against PyTorch: test/fixtures/generators/published.py. */
import { beforeAll, describe, expect, it } from "vitest";
import { type Files, memoryFiles, parseSafetensors, writeSafetensors } from "webrlhf";
import { trainBpe } from "webrlhf/data";
import { convertModel } from "webrlhf/nn";
import { ModelOpener, openReward } from "webrlhf/open";
import { multiObjectiveScores, type Response } from "webrlhf/rlhf";
import fixture from "../fixtures/published.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";

beforeAll(gpuReady);

const base64 = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/** A tokenizer whose last tokens are the marks of Llama 3 between a prompt and its answer. */
function tokenizer(marks: readonly string[]): Record<string, string> {
  const specialTokens = [...Array.from({ length: 35 }, (_, i) => `<${i}>`), ...marks];
  const { tokenizerJson, tokenizerConfigJson } = trainBpe([], { vocabSize: 40, specialTokens, alphabet: "seen" });
  return {
    "tokenizer.json": JSON.stringify(tokenizerJson),
    "tokenizer_config.json": JSON.stringify(tokenizerConfigJson),
  };
}

const LLAMA3 = ["<|eot_id|>", "<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n"];

describe("ArmoRM's layout", () => {
  const { config, weights, rows, end } = fixture.armorm;
  const sequences = rows.map(({ ids }) => {
    const promptLength = ids.indexOf(end[0]) + end.length;
    return { ids: Uint32Array.from(ids), promptLength } as Response;
  });

  async function folder(more: Record<string, unknown> = {}, marks = LLAMA3): Promise<Files> {
    const files = memoryFiles();
    await files.writeFolder("armo", {
      "config.json": JSON.stringify({ ...config, ...more }),
      "model.safetensors": base64(weights),
      ...tokenizer(marks),
    });
    return files;
  }

  it("gives the published score, with the rewards and weights that it is a sum of", async () => {
    const opener = new ModelOpener({ files: await folder() });
    const { model, head } = (await opener.multiObjective("armo"))!;
    expect(head.config.attributes).toEqual(["objective_0", "objective_1", "objective_2", "objective_3", "objective_4"]);
    const { scores, rewards, gates } = await multiObjectiveScores(model, head, sequences);
    expectClose(
      gates,
      rows.flatMap((row) => row.gates),
      1e-5,
    );
    expectClose(
      rewards,
      rows.flatMap((row) => row.rewards),
      1e-4,
    );
    expectClose(
      scores,
      rows.map((row) => row.score),
      1e-4,
    );
    opener.destroy();
  });

  it("is a reward by its name, and no policy", async () => {
    const files = await folder();
    const reward = await openReward("armo", { files });
    expectClose(
      Float64Array.from(await reward(sequences)),
      rows.map((row) => row.score),
      1e-4,
    );
    await expect(new ModelOpener({ files }).refuseJudge("armo")).rejects.toThrow(
      /armo is a multi-objective reward model/,
    );
    await expect(convertModel(files, "armo", "out")).rejects.toThrow(
      /tensor .* does not belong to a llama model|lm_head/,
    );
  });

  it("names the objectives of the published model", async () => {
    const files = await folder({ num_objectives: 19 });
    const held = parseSafetensors(base64(weights), "x");
    const zeros = (...shape: number[]) => ({ shape, data: new Float32Array(shape.reduce((a, b) => a * b)) });
    const grown = Object.fromEntries(held.names.map((name) => [name, held.get(name)]));
    Object.assign(grown, {
      "regression_layer.weight": zeros(19, 16),
      reward_transform_matrix: zeros(19, 19),
      "gating.layers.2.weight": zeros(19, 12),
      "gating.layers.2.bias": zeros(19),
    });
    await files.writeFile("armo/model.safetensors", writeSafetensors(grown));
    const opener = new ModelOpener({ files });
    const { attributes } = (await opener.multiObjective("armo"))!.head.config;
    expect([attributes[0], attributes[10], attributes[18]]).toEqual([
      "helpsteer-helpfulness",
      "beavertails-is_safe",
      "code-readability",
    ]);
    opener.destroy();
  });

  it.each<[string, Record<string, unknown>, string[], RegExp]>([
    [
      "another size of the gate",
      { gating_hidden_dim: 13 },
      LLAMA3,
      /gating\.layers\.0\.weight has shape \[12,16\].*\[13,16\]/,
    ],
    [
      "more layers than there are",
      { gating_n_hidden: 3 },
      LLAMA3,
      /tensor gating\.layers\.2\.weight has shape|is missing/,
    ],
    [
      "a size that is none",
      { gating_temperature: "hot" },
      LLAMA3,
      /gating_temperature must be a positive number, not "hot"/,
    ],
    ["a tokenizer without marks", {}, ["a", "b", "c", "d", "e"], /armo: its tokenizer has none of the marks/],
  ])("refuses %s", async (_, more, marks, message) => {
    const opener = new ModelOpener({ files: await folder(more, marks) });
    await expect(opener.multiObjective("armo")).rejects.toThrow(message);
  });
});

describe("Beaver's layout", () => {
  it("gives the published score, out of shards that torch.save wrote", async () => {
    const { config, index, shards, rows } = fixture.beaver;
    const files = memoryFiles();
    await files.writeFolder("beaver", {
      "config.json": JSON.stringify(config),
      "pytorch_model.bin.index.json": JSON.stringify(index),
      ...Object.fromEntries(Object.entries(shards).map(([name, text]) => [name, base64(text)])),
      ...tokenizer(LLAMA3),
    });
    const opener = new ModelOpener({ files });
    const model = await opener.frozenScorer("beaver");
    expect(model.scoring).toMatchObject({ type: "cost", doNormalize: false });
    const reward = await openReward("beaver", { files, opener });
    const responses = rows.map(({ ids }) => ({ ids: Uint32Array.from(ids), promptLength: 1 }) as Response);
    expectClose(
      Float64Array.from(await reward(responses)),
      rows.map((row) => row.score),
      1e-5,
    );
    await convertModel(files, "beaver", "out");
    const converted = await new ModelOpener({ files }).frozenScorer("out");
    expect(await converted.store.read()).toEqual(await model.store.read());
    opener.destroy();
  });
});

describe("RLHFlow's pair-preference model", () => {
  const name = "pair-preference-model-LLaMA3-8B";

  async function opener(folder: string): Promise<ModelOpener> {
    const { tokenizerJson, tokenizerConfigJson } = trainBpe([], {
      vocabSize: 300,
      specialTokens: ["<|eot_id|>", "<s>"],
    });
    const template = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}<|eot_id|>{% endfor %}";
    const files = memoryFiles();
    const config = {
      ...tokenizerConfigJson,
      bos_token: "<s>",
      chat_template: `${template}{% if add_generation_prompt %}assistant: {% endif %}`,
    };
    await files.writeFolder(folder, {
      "config.json": "{}",
      "tokenizer.json": JSON.stringify(tokenizerJson),
      "tokenizer_config.json": JSON.stringify(config),
    });
    return new ModelOpener({ files });
  }

  it("is known by its name, and asked in its chat template, without a beginning-of-text token", async () => {
    const models = await opener(`models/${name}`);
    const writer = (await models.pairWriter(`models/${name}`))!;
    expect([writer.template, writer.keepBos]).toEqual(["chat", false]);
    const tokenizer = await models.tokenizer(`models/${name}`);
    const ids = writer.question(writer.context("Hi"), "one", "two");
    const text = "user: [CONTEXT] \n\n<turn> user\n Hi\n [RESPONSE A] one [RESPONSE B] two \n<|eot_id|>assistant: ";
    expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(text);
    await expect(models.refuseJudge(`models/${name}`)).rejects.toThrow(/is a pair-preference model, which judges/);
  });

  it("is no other one", async () => {
    for (const other of [`models/${name}-ours`, `models/my-${name}`]) {
      expect(await (await opener(other)).pairWriter(other)).toBeNull();
    }
  });
});
