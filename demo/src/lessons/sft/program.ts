/** Lesson 3's work: fine-tunes on the stories that were chosen. */
import { Dataset, goldReward, type RecordSource } from "webrlhf/data";
import { loadCausalLM } from "webrlhf/nn";
import { average, trainSft } from "webrlhf/rlhf";
import type { Program } from "../../lib/lesson/types.ts";
import { changes, heldOutPrompts, kept, look, Models, readTokenizer, trained } from "../../lib/lesson/work.ts";
import { type SftInput, settingsOf } from "./lesson.ts";

/** The stories are made up: none is read. */
const unread: RecordSource = {
  entries: async ({ name }) => {
    throw new Error(`${name} is not made up`);
  },
};

export const program: Program<SftInput> = async function* (input, context) {
  const { seed, steps } = input;
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

    const { datasetName, maxTrainSamples, ...settings } = settingsOf(input);
    const stories = new Dataset(datasetName, unread, { maxTrainSamples, seed });
    yield* trained("sft", trainSft({ policy, tokenizer }, stories, settings, kept(context, "sft")), signal);
    if (signal.aborted) return;

    yield { type: "enter", stage: "after" };
    const after = await look({ policy, tokenizer, prompts }, seed);
    const shown = (await stories.records(tokenizer)).train.map((record) => {
      if (record.kind !== "prompt_completion") throw new Error(`${datasetName} has no stories`);
      return goldReward(record.prompt, record.completion);
    });
    const values = {
      ...after.values,
      ...changes(before.samples, after.samples),
      shown: average(shown),
    };
    yield { type: "measured", stage: "after", step: steps, values };
    yield { type: "samples", stage: "after", step: steps, samples: after.samples.slice(0, 4) };
  } finally {
    models.free();
  }
};
