/** Pair-preference models against test/fixtures/generators/pairwise.py, and by their own rules. */
import { beforeAll, describe, expect, it, vi } from "vitest";
import { memoryFiles } from "webrlhf";
import { ChatTemplate } from "webrlhf/data";
import { CausalLM } from "webrlhf/nn";
import { openDataset } from "webrlhf/open";
import {
  evaluatePairwise,
  PairPreferenceModel,
  PairWriter,
  type PreferenceModel,
  type QuestionExample,
  questionExample,
  type RunFolder,
  roundRobin,
  sideOf,
  tournament,
  trainPairwise,
} from "webrlhf/rlhf";
import { answerLogProbs, bothOrders, chancesOfFirst, correctness } from "../../../src/rlhf/pairwise/model.ts";
import { contextTemplate, contextText, conversationOf } from "../../../src/rlhf/pairwise/template.ts";
import fixtures from "../../fixtures/pairwise.json" with { type: "json" };
import { expectClose, gpuReady } from "../../helpers.ts";
import { collect, metricsOf, tinyConfig, tokenizer as world } from "../tiny.ts";
import { bytesTokenizer } from "./bytes.ts";

beforeAll(gpuReady);

describe("the question", () => {
  it("has the context and both responses between the published marks", async () => {
    const byContext = await contextTemplate();
    const writer = new PairWriter(bytesTokenizer(), "plain");
    for (const { messages, a, b, context, question } of fixtures.texts) {
      expect(contextText(messages)).toBe(context);
      expect(byContext.renderTurn(messages, [{ role: "assistant", content: a }])).toEqual({
        prompt: context,
        completion: a,
      });
      expect(writer.context(messages)).toBe(context);
      expect(bytesTokenizer().decode(writer.question(context, a, b))).toBe(question);
    }
  });

  it("stands in the model's chat template, without its beginning-of-text token unless that is kept", async () => {
    const tokenizer = bytesTokenizer({ bos_token: "<s>" });
    const source =
      "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}" +
      "{% if add_generation_prompt %}<assistant>{% endif %}";
    tokenizer.chatTemplate = await ChatTemplate.compile(source, "test", { bos_token: "<s>" });
    const [{ context, a, b, question }] = fixtures.texts;
    const text = (keep: boolean) => {
      const writer = new PairWriter(tokenizer, null, keep);
      expect(writer.template).toBe("chat");
      return tokenizer.decode(writer.question(context, a, b), { skipSpecialTokens: false });
    };
    expect(text(false)).toBe(`<user>${question}<end><assistant>`);
    expect(text(true)).toBe(`<s><user>${question}<end><assistant>`);
  });

  it("takes the answer as the template writes it, and refuses one that is no single token", async () => {
    const tokenizer = bytesTokenizer();
    expect(new PairWriter(tokenizer).letters).toEqual([tokenizer.tokenToId("A"), tokenizer.tokenToId("B")]);
    tokenizer.chatTemplate = await ChatTemplate.compile(
      "{% for m in messages %}{{ ' ' + m.content }}{% endfor %}",
      "spaced",
    );
    expect(() => new PairWriter(tokenizer)).toThrow(/" A".*single token.*2 of it/s);
    tokenizer.chatTemplate = await ChatTemplate.compile(
      "{% for m in messages %}{{ m.content }}{% endfor %}{% if not add_generation_prompt %}<think></think>{% endif %}",
      "thinking",
    );
    expect(new PairWriter(tokenizer).letters).toHaveLength(2);
    tokenizer.chatTemplate = await ChatTemplate.compile(
      "{% for m in messages %}{{ '<t>' if m.role == 'assistant' }}{{ m.content }}{% endfor %}",
      "thinking.jinja",
    );
    expect(() => new PairWriter(tokenizer)).toThrow(/thinking.jinja.*not the assistant's "A"/s);
  });

  it("falls back on the letters alone where the vocabulary is too small", () => {
    const writer = new PairWriter(world);
    expect(writer.template).toBe("letters");
    expect(world.decode(writer.question("Today Tim the cat wanted a hat.", " Tim ran.", " Tim sat."))).toBe(
      "Today Tim the cat wanted a hat.A Tim ran.B Tim sat.",
    );
    expect(() => new PairWriter(world, "plain")).toThrow(/pair_template letters/);
    expect(() => new PairWriter(world, "chat")).toThrow(/no chat template/);
    expect(writer.context([{ role: "user", content: "Tim" }])).toBe("\n\nHuman: Tim\n\nAssistant:");
  });

  it("reads transcripts as their messages", () => {
    expect(conversationOf("\n\nHuman: a\n\nb\n\nAssistant: c\n\nHuman: d\n\nAssistant:")).toEqual([
      { role: "user", content: "a\n\nb" },
      { role: "assistant", content: "c" },
      { role: "user", content: "d" },
    ]);
    expect(conversationOf("a")).toEqual([{ role: "user", content: "a" }]);
  });
});

describe("the readout", () => {
  it("is the softmax of the two letters, averaged over both orders", () => {
    for (const { temperature, logits, chances, correct } of fixtures.readouts) {
      const first = logits.map((orders) => orders.map(([a, b]) => 1 / (1 + Math.exp((b - a) / temperature))));
      const both = first.map(([x, y]) => bothOrders(x, y));
      expectClose(both, chances, 1e-8);
      expect(both.map(correctness)).toEqual(correct);
    }
  });

  it("is taken at the last position, whatever else is in the batch", async () => {
    const model = new CausalLM(tinyConfig()).initialize(3);
    const writer = new PairWriter(world);
    const questions = [" Tim ran.", " Tim ran to the park and sat down.", ""].map((b) =>
      writer.question("Today Tim the cat wanted a hat.", " Tim sat.", b),
    );
    const together = await answerLogProbs(model, questions, writer.letters);
    for (const [i, question] of questions.entries()) {
      const [alone] = await answerLogProbs(model, [question], writer.letters);
      expectClose(alone, together[i], 1e-5);
    }
    const [chance] = await chancesOfFirst(model, [questions[1]], writer.letters, 2);
    const [a, b] = together[1];
    expect(chance).toBeCloseTo(Math.exp(a / 2) / (Math.exp(a / 2) + Math.exp(b / 2)), 5);
  });

  it("refuses questions beyond its context", async () => {
    const model = new PairPreferenceModel(new CausalLM(tinyConfig()).initialize(3), new PairWriter(world));
    await expect(model.prefer(["Today"], [" Tim ran."], [" Tim sat.".repeat(30)])).rejects.toThrow(
      /the question about " Tim ran." and another response has \d+ tokens, more than .* context of 64/,
    );
  });

  it("gives the other response the rest of the chance", async () => {
    const model = new PairPreferenceModel(new CausalLM(tinyConfig()).initialize(3), new PairWriter(world));
    const prompts = ["Today Tim the cat wanted a hat.", "Once Mia the dog wanted a ball."];
    const [a, b] = [
      [" Tim ran.", " Mia sat."],
      [" Tim sat down.", " Mia sat."],
    ];
    const one = await model.prefer(prompts, a, b);
    const other = await model.prefer(prompts, b, a);
    expectClose(
      one.map((p, i) => p + other[i]),
      [1, 1],
      1e-6,
    );
    expect(one[1]).toBe(0.5);
  });
});

describe("tournaments", () => {
  for (const { chances, winner, rewards, roundRobin: robin } of fixtures.tournaments) {
    const n = chances.length;
    const model: PreferenceModel = {
      prefer: async (_, a, b) => a.map((name, i) => chances[Number(name)][Number(b[i])]),
    };
    it(`agree with the reference for ${n} responses, beside prompts with fewer`, async () => {
      const names = chances.map((_, i) => String(i));
      const prompts = ["x", "y", "z"];
      const responses = [names, names.slice(0, 1), names];
      const played = await tournament(model, prompts, responses);
      expect(played.winners).toEqual([winner, 0, winner]);
      expectClose(played.rewards[0], rewards, 1e-8);
      expect(played.rewards[1]).toEqual([1]);
      const all = await roundRobin(model, prompts, responses);
      expectClose(all.rewards[2], robin, 1e-8);
      expect(all.rewards[1]).toEqual([0.5]);
    });
  }

  it("refuse a prompt without responses", async () => {
    const model: PreferenceModel = { prefer: async () => [] };
    await expect(tournament(model, ["x"], [[]])).rejects.toThrow(/prompt 1 has no responses/);
  });

  it("refuse answers that are no probabilities", async () => {
    const model: PreferenceModel = { prefer: async (prompts) => prompts.map(() => Number.NaN) };
    for (const rank of [tournament, roundRobin]) {
      await expect(rank(model, ["x"], [["a", "b"]])).rejects.toThrow(/gave a chance of NaN for "a" against "b"/);
    }
  });
});

/** Whoever runs is better, wherever he stands. */
const examples = (n: number): { writer: PairWriter; train: QuestionExample[] } => {
  const writer = new PairWriter(world);
  const train = Array.from({ length: n }, (_, i) =>
    questionExample(writer, { context: "Today", chosen: " Tim ran.", rejected: " Tim sat." }, sideOf(7, i)),
  );
  return { writer, train };
};

describe("training", () => {
  it("draws sides by seed", () => {
    const sides = Array.from({ length: 400 }, (_, i) => sideOf(1, i) as number);
    expect(sides).toEqual(Array.from({ length: 400 }, (_, i) => sideOf(1, i)));
    expect(Math.abs(sides.reduce((a, b) => a + b) - 200)).toBeLessThan(40);
  });

  it("learns the letter of the better response in both orders", async () => {
    const { writer, train } = examples(32);
    const model = new CausalLM(tinyConfig()).initialize(1);
    const before = await evaluatePairwise(model, train, writer.letters);
    expect(before.eval_loss).toBeCloseTo(Math.log(world.vocabSize), 1);
    const settings = {
      maxSteps: 150,
      perDeviceTrainBatchSize: 16,
      learningRate: 2e-2,
      lrSchedulerType: "linear",
    } as const;
    const events = await collect(trainPairwise({ policy: model, writer }, { train, eval: train }, settings));
    const last = metricsOf(events).at(-1);
    expect(last?.accuracy).toBe(1);
    const after = await evaluatePairwise(model, train, writer.letters);
    expect(after.eval_accuracy).toBe(1);
    expect(after.eval_consistency).toBe(1);
    expect(after.eval_loss).toBeLessThan(0.5);
    expect(Math.abs(after.eval_position_bias)).toBeLessThan(0.1);
  });

  it("adds micro-batches up to the same update", async () => {
    const { writer, train } = examples(6);
    const losses = async (perDeviceTrainBatchSize: number, gradientAccumulationSteps: number) => {
      const policy = new CausalLM(tinyConfig()).initialize(2);
      const sizes = { perDeviceTrainBatchSize, gradientAccumulationSteps, maxSteps: 3, learningRate: 1e-2 };
      return metricsOf(await collect(trainPairwise({ policy, writer }, train, sizes)));
    };
    const [whole, parts] = [await losses(6, 1), await losses(2, 3)];
    expectClose(
      parts.map((m) => m.loss),
      whole.map((m) => m.loss),
      1e-4,
    );
    expectClose(
      parts.map((m) => m.grad_norm),
      whole.map((m) => m.grad_norm),
      1e-3,
    );
  });

  it("goes on after a stop as if there had been none", async () => {
    const { writer, train } = examples(10);
    const start = (folder: RunFolder, signal?: AbortSignal, resume = false) => {
      const policy = new CausalLM(tinyConfig()).initialize(1);
      const sizes = { perDeviceTrainBatchSize: 4, maxSteps: 5, learningRate: 1e-2 };
      return trainPairwise({ policy, writer }, train, sizes, { folder, resume, ...(signal && { signal }) });
    };
    const whole = { files: memoryFiles(), path: "run" };
    const straight = metricsOf(await collect(start(whole)));
    const broken = { files: memoryFiles(), path: "run" };
    const controller = new AbortController();
    for await (const event of start(broken, controller.signal))
      if (event.type === "step" && event.step === 2) controller.abort();
    const rest = metricsOf(await collect(start(broken, undefined, true)));
    expect(rest).toEqual(straight.slice(-rest.length));
    expect(rest.length).toBeLessThan(5);
    expect(await broken.files.read("run/model.safetensors")).toEqual(await whole.files.read("run/model.safetensors"));
  });

  it("makes questions of a dataset's pairs, and RRM's beside them", async () => {
    const rows = ["Today", "Once", "Then", "One day"].flatMap((start) =>
      ["Tim", "Mia"].map((name) => `${start} ${name}`),
    );
    const data = openDataset(rows.map((prompt) => ({ prompt, chosen: " Tim ran.", rejected: " Tim sat." })));
    const writer = new PairWriter(world, "letters");
    const idOf = vi.spyOn(writer, "idOf");
    const run = async (rrmAugmentation: boolean) => {
      const policy = new CausalLM(tinyConfig()).initialize(1);
      const [metrics] = metricsOf(
        await collect(trainPairwise({ policy, writer }, data, { rrmAugmentation, maxSteps: 1 })),
      );
      expect(metrics.loss).toBeCloseTo(Math.log(world.vocabSize), 1);
    };
    await run(false);
    expect(idOf).not.toHaveBeenCalled();
    await run(true);
    expect(idOf.mock.calls).toEqual([[2]]); // "Same" is an answer, too
    const short = collect(trainPairwise({ policy: new CausalLM(tinyConfig()), writer }, data, { maxLength: 8 }));
    await expect(short).rejects.toThrow(/the question with both answers has \d+ tokens, more than 8/);
  });
});
