/** Lesson 3's work: fine-tunes on the stories that were chosen. */
import { goldReward, worldSftRecords } from "webrlhf/data";
import { loadCausalLM } from "webrlhf/nn";
import { average, type Sequence, sft, trainSft } from "webrlhf/rlhf";
import type { Program } from "../../lib/lesson/types.ts";
import { changes, heldOutPrompts, kept, look, Models, readTokenizer, trained } from "../../lib/lesson/work.ts";
import type { Diet, SftInput } from "./lesson.ts";

const STORIES = 2048;
const BATCH = 32;

/** The share of the stories that is shown, from which end of the order by truth. */
const shares: Record<Diet, readonly [from: number, to: number]> = {
  all: [0, 1],
  "better half": [0, 0.5],
  "best tenth": [0, 0.1],
  "worse half": [0.5, 1],
};

export const program: Program<SftInput> = async function* ({ diet, seed, steps }, context) {
  const { start, signal } = context;
  const models = new Models();
  try {
    yield { type: "enter", stage: "load" };
    const tokenizer = await readTokenizer(start);
    const policy = models.keep(await loadCausalLM(start.files, start.folder, "policy"));
    const prompts = heldOutPrompts(tokenizer, seed);

    yield { type: "enter", stage: "before" };
    const before = await look({ policy, tokenizer, prompts }, seed);
    yield { type: "measured", stage: "before", step: 0, values: before.values };
    yield { type: "samples", stage: "before", step: 0, samples: before.samples.slice(0, 4) };
    if (signal.aborted) return;

    const ordered = worldSftRecords(STORIES, seed)
      .map((record) => ({ ...record, gold: goldReward(record.prompt, record.completion) }))
      .sort((a, b) => b.gold - a.gold);
    const [from, to] = shares[diet];
    const shown = ordered.slice(from * STORIES, to * STORIES);
    const sequences = shown.map(({ prompt, completion }): Sequence => {
      const promptIds = tokenizer.encode(prompt);
      return { ids: Uint32Array.from(tokenizer.encode(prompt + completion)), promptLength: promptIds.length };
    });
    const settings = sft({
      maxSteps: steps,
      perDeviceTrainBatchSize: BATCH,
      learningRate: 1e-3,
      lrSchedulerType: "cosine",
      saveSteps: 20,
      seed,
    });
    yield* trained("sft", trainSft({ policy, tokenizer }, sequences, settings, kept(context, "sft")), signal);
    if (signal.aborted) return;

    yield { type: "enter", stage: "after" };
    const after = await look({ policy, tokenizer, prompts }, seed);
    const values = {
      ...after.values,
      ...changes(before.samples, after.samples),
      shown: average(shown.map(({ gold }) => gold)),
    };
    yield { type: "measured", stage: "after", step: steps, values };
    yield { type: "samples", stage: "after", step: steps, samples: after.samples.slice(0, 4) };
  } finally {
    models.free();
  }
};
