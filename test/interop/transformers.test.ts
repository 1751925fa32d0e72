/**
 * Real transformers opens what webrlhf writes, and webrlhf opens what transformers writes. Needs a Python with torch and
 * transformers: python3 on the PATH, or the one that WEBRLHF_PYTHON names. Skipped, with the reason, where there is none.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diskFiles } from "webrlhf";
import { Tokenizer, trainBpe } from "webrlhf/data";
import {
  CausalLM,
  type DecoderConfig,
  decoderConfig,
  generate,
  loadCausalLM,
  loadScoreModel,
  type Model,
  modelFiles,
  ScoreModel,
  toHfConfig,
} from "webrlhf/nn";
import { normal } from "../../src/runtime/rng.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { logitsOf, runPython, whyNot } from "./python.ts";

const reason = whyNot(["torch", "transformers"]);

const texts = [
  "Once upon a time, there was a cat.",
  "  two  spaces,\nnew lines\n\n\tand a tab ",
  "naïve café, 東京, emoji 🦊!",
  "it's 1234 o'clock; they'll say <|endoftext|> here",
];
const ids = [[3, 5, 7, 4, 6, 40, 41], [9], [10, 10, 11, 250]];
const newTokens = 6;

const trained = trainBpe([...texts, ...texts], { vocabSize: 280 });
const tokenizer = Tokenizer.fromTrained(trained);
const shape = {
  vocabSize: tokenizer.vocabSize,
  hiddenSize: 16,
  layers: 2,
  heads: 4,
  maxPositions: 32,
  eosId: tokenizer.eosId,
  padId: tokenizer.padId,
};
const gpt2 = decoderConfig({ ...shape, family: "gpt2" });
const llama = { ...shape, family: "llama", kvHeads: 2, headDim: 8, intermediateSize: 20, ropeTheta: 500 } as const;

const grouped = { kvHeads: 2, headDim: 8, intermediateSize: 20, eosIds: [tokenizer.eosId as number, 5] };
const sliding = { slidingWindow: 3 };
const others = {
  gpt_neo: sliding,
  gpt_neox: { ropeFraction: 0.5 },
  smollm3: { ...grouped, headDim: 4, ropeLayers: [false, true] },
  mistral: { ...grouped, ...sliding },
  qwen2: { ...grouped, headDim: 4, ...sliding, slidingLayers: [false, true], tieEmbeddings: false },
  qwen3: grouped,
  gemma: grouped,
  gemma2: { ...grouped, ...sliding, attentionSoftcap: 2, logitSoftcap: 3, attentionScale: 0.5 },
  gemma3_text: { ...grouped, ...sliding, slidingLayers: [true, false], ropeScaling: { type: "linear", factor: 2 } },
} as const;

const models: [folder: string, config: DecoderConfig, kind: typeof CausalLM | typeof ScoreModel][] = [
  ["gpt2", gpt2, CausalLM],
  ["llama", decoderConfig({ ...llama, tieEmbeddings: false }), CausalLM],
  ["llama-tied", decoderConfig({ ...llama, tieEmbeddings: true }), CausalLM],
  ["gpt2-score", gpt2, ScoreModel],
  ["llama-score", decoderConfig(llama), ScoreModel],
  ...(Object.keys(others) as (keyof typeof others)[]).flatMap(
    (family): [string, DecoderConfig, typeof CausalLM | typeof ScoreModel][] => {
      const config = decoderConfig({ ...shape, family, ...others[family] });
      return [
        [family, config, CausalLM],
        [`${family}-score`, config, ScoreModel],
      ];
    },
  ),
];

interface Answer {
  architecture: string;
  tied: boolean;
  parameters: number;
  logits: number[][] | number[][][];
  greedy?: number[][];
  generation?: Record<string, number | readonly number[] | null>;
  tokenizer: { length: number; specials: Record<string, string | null>; ids: number[][]; decoded: string[] };
}

describe.skipIf(reason !== "")(`transformers${reason && ` (skipped: ${reason})`}`, () => {
  let root = "";
  const answers = new Map<string, Answer>();
  const opened = new Map<string, Model>();

  beforeAll(async () => {
    await gpuReady();
    root = mkdtempSync(join(tmpdir(), "webrlhf-interop-"));
    const files = await diskFiles();
    for (const [name, config, Kind] of models) {
      const model = new Kind(config, name);
      opened.set(name, model);
      randomize(model);
      await files.writeFolder(join(root, name), {
        ...(await modelFiles(model)),
        "tokenizer.json": JSON.stringify(tokenizer.json),
        "tokenizer_config.json": JSON.stringify(tokenizer.configJson),
      });
    }
    const request = join(root, "request.json");
    writeFileSync(request, JSON.stringify({ ids, texts, newTokens, resave: "again" }));
    const lines = runPython("check_transformers.py", [...models.map(([name]) => join(root, name)), request]);
    for (const [i, [name]] of models.entries()) answers.set(name, JSON.parse(lines[i]));
  }, 300_000);

  afterAll(() => {
    for (const model of opened.values()) model.destroy();
    if (root) rmSync(root, { recursive: true, force: true });
  });

  it.each(models)("opens %s and computes the same", async (name, config) => {
    const answer = answers.get(name) as Answer;
    const model = opened.get(name) as Model;
    await expectSame(model, answer);
    const [architecture] = toHfConfig(config, model instanceof ScoreModel ? "score" : "lm").architectures as string[];
    expect(answer.architecture).toBe(architecture);
    expect(answer.parameters).toBe(model.store.count);
    if (!(model instanceof CausalLM)) return;
    expect(answer.tied).toBe(config.tieEmbeddings);
    const ends = config.eosIds.length > 1 ? config.eosIds : config.eosId;
    expect(answer.generation).toEqual({ bos_token_id: null, eos_token_id: ends, pad_token_id: config.padId });
    const prompts = ids.map((p) => Uint32Array.from(p));
    const responses = await generate(model, prompts, { maxNewTokens: newTokens, temperature: 0, seed: 1, eosIds: [] });
    expect(responses.map((r) => Array.from(r.ids))).toEqual(answer.greedy);
  });

  it.each(models)("saves %s so that it opens here", async (name, _, Kind) => {
    const files = await diskFiles();
    const load = Kind === CausalLM ? loadCausalLM : loadScoreModel;
    const model = await load(files, join(root, name, "again"));
    await expectSame(model, answers.get(name) as Answer);
    model.destroy();
  });

  it("reads the tokenizer the same way", () => {
    const answer = (answers.get("gpt2") as Answer).tokenizer;
    expect(answer.length).toBe(tokenizer.vocabSize);
    expect(answer.ids).toEqual(texts.map((t) => tokenizer.encode(t)));
    expect(answer.decoded).toEqual(texts);
    expect(answer.specials.eos_token).toBe(tokenizer.idToToken(tokenizer.eosId as number));
    expect(answer.specials.pad_token).toBe(tokenizer.idToToken(tokenizer.padId as number));
  });
});

/** Weights large enough to make every part of the model matter, biases and norms included. */
function randomize(model: Model): void {
  for (const [i, { value, init }] of model.store.parameters.entries()) {
    const centre = "constant" in init ? init.constant : 0;
    const data = new Float32Array(value.size);
    for (let k = 0; k < data.length; k++) data[k] = centre + 0.25 * normal(7, i, k);
    value.write(data);
  }
}

async function expectSame(model: Model, answer: Answer): Promise<void> {
  expectClose(await logitsOf(model, ids), (answer.logits as number[][][]).flat(2), 1e-5, 1e-6, "logits");
}
