/** Every family against Hugging Face transformers: logits, gradients, greedy decoding, scores, and files both ways. */
import { beforeAll, describe, expect, it } from "vitest";
import { backward, caps, memoryFiles, noGrad, packing, scale, scope, sum, type Tensor, tensor } from "webrlhf";
import {
  type CausalLM,
  fromHfConfig,
  generate,
  loadCausalLM,
  loadScoreModel,
  type Model,
  modelFiles,
  toHfConfig,
} from "webrlhf/nn";
import { values } from "../fixture.ts";
import { expectClose, gpuReady } from "../helpers.ts";
import { values as draw } from "../tensor/check.ts";
import { type Case, cases, folder, open, weightsOf } from "./family-cases.ts";
import { fileGradients } from "./reference-model.ts";

beforeAll(gpuReady);

/** The sequences packed with a row of filler before each. */
function pack(sequences: number[][]) {
  const starts: number[] = [];
  const rows: number[] = [];
  for (const s of sequences) {
    starts.push(rows.length + 1);
    rows.push(1, ...s);
  }
  const host = Uint32Array.from(rows);
  const lengths = sequences.map((s) => s.length);
  return { ids: { gpu: tensor(host), host }, packing: packing(lengths, starts, rows.length), starts };
}

/** Mean negative log-likelihood of every token but each sequence's first. */
function meanLoss(model: CausalLM, { ids }: Case): Tensor {
  const batch = pack(ids);
  const rows = Uint32Array.from(ids.flatMap((s, i) => s.slice(1).map((_, t) => batch.starts[i] + t)));
  const targets = Uint32Array.from(ids.flatMap((s) => s.slice(1)));
  const { logProbs } = model.logProbs(batch.ids, batch.packing, rows, targets);
  return scale(sum(logProbs), -1 / rows.length);
}

describe.each(cases)("%s", (_, reference) => {
  it("gives the logits of transformers", async () => {
    const model = await open(reference);
    const { all, starts } = scope(() =>
      noGrad(() => {
        const batch = pack(reference.ids);
        return { all: model.logits(model.decoder.forward(batch.ids, batch)), starts: batch.starts };
      }),
    );
    const found = await all.read();
    for (const [i, want] of reference.logits.entries()) {
      const [rows, vocab] = want.shape;
      const part = found.subarray(starts[i] * vocab, (starts[i] + rows) * vocab);
      expectClose(part, values(want), 1e-5, 1e-6, `sequence ${i}`);
    }
    all.free("the test");
    model.destroy();
  });

  it("gives the gradients of the mean loss", async () => {
    const model = await open(reference);
    model.store.trainable();
    const loss = scope(() => {
      const mean = meanLoss(model, reference);
      backward(mean);
      return mean;
    });
    expectClose(await loss.read(), [reference.loss], 1e-5);
    const found = await fileGradients(model, "lm");
    expect([...found.keys()].sort()).toEqual(reference.tensors.map(([name]) => name).sort());
    const largest = Math.max(...reference.gradients.map((g) => g.norm));
    for (const [i, [name]] of reference.tensors.entries()) {
      const gradient = found.get(name) as Float32Array;
      const { norm, dots } = reference.gradients[i];
      const atol = 2e-5 * norm + 1e-7 * largest;
      expectClose([Math.hypot(...gradient)], [norm], 0, atol, `norm of ${name}`);
      const projections = dots.map((_, k) => {
        const along = draw(gradient.length, 7 + k);
        return gradient.reduce((dot, g, j) => dot + g * along[j], 0);
      });
      expectClose(projections, dots, 0, atol, name);
    }
    loss.free("the test");
    model.destroy();
  });

  it("computes nearly the same in half precision", async (context) => {
    if (!caps().f16) return context.skip();
    const model = await open(reference);
    model.store.trainable();
    model.half = true;
    const loss = scope(() => {
      const mean = meanLoss(model, reference);
      backward(mean);
      return mean;
    });
    expectClose(await loss.read(), [reference.loss], 5e-3);
    const found = await fileGradients(model, "lm");
    const norms = reference.tensors.map(([name]) => Math.hypot(...(found.get(name) as Float32Array)));
    expectClose(
      norms,
      reference.gradients.map((g) => g.norm),
      1e-2,
    );
    loss.free("the test");
    model.destroy();
  });

  it("continues prompts through the cache as transformers does", async () => {
    const model = await open(reference);
    const prompts = reference.prompts.map((p) => Uint32Array.from(p));
    const settings = { maxNewTokens: reference.greedy[0].length, temperature: 0, seed: 1, eosIds: [] };
    const responses = await generate(model, prompts, settings);
    expect(responses.map(({ ids }) => Array.from(ids))).toEqual(reference.greedy);
    model.destroy();
  });

  it("saves what it opened", async () => {
    const model = await open(reference);
    const files = memoryFiles();
    await files.writeFolder("saved", await modelFiles(model));
    const again = await loadCausalLM(files, "saved");
    expect(again.config).toEqual(model.config);
    await expectSameWeights(again, model);
    for (const m of [model, again]) m.destroy();
  });

  it("says in config.json what it read there", () => {
    for (const [config, head] of [
      [reference.config, "lm"],
      [reference.scorer?.config ?? reference.config, "score"],
    ] as const) {
      const read = fromHfConfig(config, "config.json");
      const written = toHfConfig(read, head);
      expect(fromHfConfig(written, "config.json")).toEqual(read);
      if (head === "lm" || reference.scorer) expect(written.architectures).toEqual(config.architectures);
      // Every field of ours that transformers also writes says the same.
      for (const [key, value] of Object.entries(written)) {
        if (key in config && !saysTheSame(key, config[key])) expect([key, value]).toEqual([key, config[key]]);
      }
    }
  });

  it.runIf(reference.scorer)("scores as transformers does", async () => {
    const { config, tensors, scores } = reference.scorer as NonNullable<Case["scorer"]>;
    const model = await loadScoreModel(await folder(config, weightsOf(tensors, reference.seed)), "model");
    const found = scope(() =>
      noGrad(() => {
        const batch = pack(reference.ids);
        const last = Uint32Array.from(reference.ids, (s, i) => batch.starts[i] + s.length - 1);
        return model.scores(batch.ids, batch.packing, last);
      }),
    );
    expectClose(await found.read(), scores, 1e-5, 1e-6);
    found.free("the test");
    model.destroy();
  });
});

describe("files of other shapes", () => {
  const scorerCases = cases.filter(([name]) => ["gpt_neox", "gpt2", "llama with biases, llama3 rope"].includes(name));

  it.each(scorerCases)("%s: a scorer of safe-rlhf, without the prefix of its base model", async (_, reference) => {
    const { config, tensors, scores } = reference.scorer as NonNullable<Case["scorer"]>;
    const weights = weightsOf(tensors, reference.seed);
    const renamed = (bias: number) =>
      Object.fromEntries([
        ...Object.entries(weights).map(([name, tensor]) => [
          name.replace(/^(model|transformer|gpt_neox)\./, "").replace(/^score\./, "score_head."),
          tensor,
        ]),
        ["score_head.bias", { shape: [1], data: Float32Array.of(bias) }],
      ]);
    for (const bias of [0, 0.5]) {
      const model = await loadScoreModel(await folder(config, renamed(bias)), "model");
      const found = scope(() =>
        noGrad(() => {
          const batch = pack(reference.ids);
          const last = Uint32Array.from(reference.ids, (s, i) => batch.starts[i] + s.length - 1);
          return model.scores(batch.ids, batch.packing, last);
        }),
      );
      expectClose(
        await found.read(),
        scores.map((score) => score + bias),
        1e-5,
        1e-6,
      );
      found.free("the test");
      model.destroy();
    }
  });

  it("refuses sequences that the model has no positions for", async () => {
    const model = await open(cases[0][1]);
    const long = new Uint32Array(65).fill(3);
    expect(() =>
      scope(() => noGrad(() => model.decoder.forward({ gpu: tensor(long), host: long }, { packing: packing([65]) }))),
    ).toThrow("a sequence has 65 tokens; this model has positions for 64");
    model.destroy();
  });
});

/** Fields that say the same thing in another way, or nothing where no layer slides. */
const unimportant = new Set([
  "n_inner",
  "intermediate_size",
  "rope_parameters",
  "attention_types",
  "max_window_layers",
]);
const saysTheSame = (key: string, value: unknown): boolean =>
  unimportant.has(key) || /pdrop|dropout|^architectures$/.test(key) || value === "gelu_new";

async function expectSameWeights(a: Model, b: Model): Promise<void> {
  const [x, y] = [await a.store.read(), await b.store.read()];
  expect([...x.keys()]).toEqual([...y.keys()]);
  for (const [name, data] of x) expectClose(data, y.get(name) as Float32Array, 0, 0, name);
}
