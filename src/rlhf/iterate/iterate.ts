/**
 * Online iterative DPO (Xiong et al. 2023; Dong et al. 2024, "RLHF Workflow"). Each iteration draws K responses to new
 * prompts from the policy as it is, scores them, makes pairs of them, and trains the policy on these pairs by DPO with a
 * fresh optimizer. Everything an iteration makes is kept in `iteration_<i>/`: responses.jsonl, rewards.jsonl, pairs.jsonl,
 * model/ and, when it is finished, metrics.json. A run that was killed anywhere goes on to the same end, bit by bit.
 */

import { restoreTrained } from "../../nn/trained.ts";
import { checkpointSteps, removePartial, saveModels } from "../checkpoint.ts";
import { checkLosses } from "../dpo.ts";
import { evaluatePolicy } from "../evaluate.ts";
import type { Sample, TrainEvent } from "../events.ts";
import { dpoDefaults } from "../preference/dpo.ts";
import { type Finished, finishedIterations, refuseEarlierRun, removeCheckpoints, reported } from "./finished.ts";
import { oneIteration } from "./iteration.ts";
import type { IterateInputs, IterateOptions } from "./options.ts";
import { promptSlices } from "./slices.ts";

/** Trains the policy in place; the steps of all iterations are counted through. Emits one eval event per iteration. */
export async function* trainIteratively(inputs: IterateInputs, options: IterateOptions): AsyncGenerator<TrainEvent> {
  const { policy, run, resume } = inputs;
  checkLosses({ ...dpoDefaults, ...options }); // not only when the first responses are there
  const { files } = run;
  const slices = promptSlices(inputs.prompts, options);
  const told = { reference: options.reference, promptsPerIteration: slices[0].length };
  const finished = resume ? await finishedIterations(files, run.path, options.iterations, told) : [];
  if (!resume) await refuseEarlierRun(files, run.path);
  const folders = (await files.list(run.path)).filter((name) => /^iteration_\d+$/.test(name));
  await removePartial(files, [run.path, ...folders.map((name) => `${run.path}/${name}`)]);
  const folderOf = (iteration: number) => `${run.path}/iteration_${iteration}`;
  const modelOf = (iteration: number) => ({ ...run, path: `${folderOf(iteration)}/model` });
  const stepsDone = () => finished.reduce((sum, { steps }) => sum + steps, 0);
  const estimate = stepsOf(slices[0].length, options);
  const trained = () => Math.max(0, finished.length - 1);

  const going = resume ? ((await checkpointSteps(files, modelOf(finished.length).path)).at(-1) ?? 0) : 0;
  const parameters = policy.store.count;
  const maxSteps = stepsDone() + (options.iterations - trained()) * estimate;
  const start = finished.length > 0 ? stepsDone() + going : 0;
  yield { type: "start", stage: "iterate", step: start, maxSteps, parameters };
  let at = 0;
  for (const iteration of finished) {
    at += iteration.steps;
    await removeCheckpoints(files, modelOf(iteration.iteration).path);
    yield* reported(iteration, at); // a log that was cut may lack it; another knows that it has it
  }
  if (trained() > 0) await restoreTrained(policy, files, modelOf(trained()).path);

  for (let iteration = finished.length; iteration <= options.iterations; iteration++) {
    if (options.signal?.aborted) return;
    const offset = stepsDone();
    let metrics: Record<string, number> = {};
    let steps = 0;
    if (iteration > 0) {
      const made = yield* oneIteration(inputs, options, {
        iteration,
        prompts: slices[iteration - 1],
        folder: folderOf(iteration),
        model: modelOf(iteration),
        offset,
        left: (options.iterations - iteration) * estimate,
      });
      if (made === null) return;
      ({ metrics, steps } = made);
    }
    const held = await heldOut(inputs, options);
    const done: Finished = {
      iteration,
      ...told,
      steps,
      metrics: { iteration, ...metrics, ...held.metrics },
      samples: held.samples,
    };
    await files.writeFile(`${folderOf(iteration)}/metrics.json`, `${JSON.stringify(done, null, 2)}\n`);
    finished.push(done);
    yield* reported(done, offset + steps);
    await removeCheckpoints(files, modelOf(iteration).path);
  }
  await saveModels(run, { "": policy });
  yield { type: "end", step: stepsDone(), metrics: finished.at(-1)?.metrics ?? {} };
}

/** The policy on held-out prompts; nothing without such. */
async function heldOut(
  { policy, initial, tokenizer, evaluation, gold }: IterateInputs,
  { seed, responseLength, temperature, eosIds, showSamples }: IterateOptions,
): Promise<{ metrics: Record<string, number>; samples: Sample[] }> {
  if (!evaluation || evaluation.prompts.length === 0) return { metrics: {}, samples: [] };
  const { metrics, samples } = await evaluatePolicy(
    { policy, tokenizer, ...evaluation, reference: initial, ...(gold && { gold }) },
    { seed, responseLength, temperature, showSamples, ...(eosIds && { eosIds }) },
  );
  const { mean_length, eos_rate, ...others } = metrics;
  const lengthFirst = Object.entries({ mean_length, eos_rate, ...others });
  return { metrics: Object.fromEntries(lengthFirst.map(([name, value]) => [`heldout_${name}`, value])), samples };
}

const stepsOf = (pairs: number, { maxSteps, epochs, batchSize, accumulation }: IterateOptions): number =>
  maxSteps > 0 ? maxSteps : Math.ceil(Math.ceil(pairs / (batchSize * accumulation)) * epochs);
