import { beforeAll, describe, expect, it } from "vitest";
import { caps, openDevice } from "webrlhf";
import { CausalLM, generate } from "webrlhf/nn";
import {
  type JobResult,
  type JobsOptions,
  jobsOf,
  promptsPerJob,
  responseLogProbs,
  runJob,
  type SamplingJob,
  sampleResponses,
} from "webrlhf/rlhf";
import { prompts, tinyConfig, tokenizer } from "./tiny.ts";

beforeAll(() => openDevice());

const asked = prompts(10);
// One prompt comes twice.
const ids = [7, 8, 9, 10, 11, 12, 13, 7, 15, 16];
const options: JobsOptions = { iteration: 3, samples: 3, seed: 5, maxNewTokens: 6, temperature: 0.7 };
const jobsWith = (more: Partial<JobsOptions> = {}): SamplingJob[] =>
  jobsOf(
    asked.map((prompt) => prompt.ids),
    ids,
    { ...options, ...more },
  );

/** Results in the order of the jobs, run in another one. */
async function shuffled(model: CausalLM, jobs: readonly SamplingJob[], order: (i: number) => number) {
  const results: JobResult[] = [];
  for (const i of jobs.map((_, i) => order(i))) results[i] = await runJob(model, jobs[i]);
  return results;
}

const responses = (results: readonly JobResult[]) => results.flatMap((result) => result.responses);

describe("jobs", () => {
  it("are an iteration in parts of one shape, whose ids and random numbers do not depend on the cut", () => {
    const all = jobsWith({ promptsPerJob: 4 });
    expect(all.map(({ id, version, prompts }) => [id, version, prompts.length])).toEqual([
      ["3/0", 3, 4],
      ["3/1", 3, 4],
      ["3/2", 3, 2],
    ]);
    const streams = (jobs: readonly SamplingJob[]) => jobs.flatMap((job) => [...job.streams]);
    expect(streams(all)).toEqual(streams(jobsWith()));
    expect(new Set(streams(all)).size).toBe(30);
    expect(jobsWith({ version: 1 })[0]).toMatchObject({ version: 1, seed: 5, samples: 3, temperature: 0.7 });
    expect(jobsWith({ logitBias: new Map([[4, -1]]) })[0].logitBias).toEqual([[4, -1]]);
    expect([1, 8, 100, 1000].map(promptsPerJob)).toEqual([256, 32, 2, 1]);
  });

  it("give the same bits in any order and, on CPU adapters, by any cut", async () => {
    const model = new CausalLM(tinyConfig()).initialize(3);
    const whole = responses(await shuffled(model, jobsWith(), (i) => i));
    const parts = jobsWith({ promptsPerJob: 3 });
    expect(parts).toHaveLength(4);
    const backwards = responses(await shuffled(model, parts, (i) => 3 - i));
    expect(backwards).toEqual(responses(await shuffled(model, parts, (i) => i)));
    if (caps().kind === "hardware") {
      model.destroy();
      return; // its kernels are chosen by how many rows there are
    }
    expect(backwards).toEqual(whole);
    const drawn = await sampleResponses(model, tokenizer, asked, ids, { ...options, promptsPerJob: 1 });
    expect(drawn.map(({ logProbs, ended }) => ({ logProbs, ended }))).toEqual(
      whole.map(({ logProbs, ended }) => ({ logProbs, ended })),
    );
    expect(drawn.map(({ version }) => version)).toEqual(new Array(30).fill(3));
    const plain = await generate(
      model,
      asked.map((prompt) => prompt.ids),
      { ...options, streams: jobsWith()[0].streams },
    );
    expect(plain.map(({ ids, logProbs, ended }) => ({ ids, logProbs, ended }))).toEqual(whole);
    model.destroy();
  });

  it("give the same bits in any order with the kernels of GPUs", async () => {
    const { kind } = caps();
    const model = new CausalLM({ ...tinyConfig(), hiddenSize: 64, intermediateSize: 128 }).initialize(3);
    Object.assign(caps(), { kind: "hardware" });
    try {
      const jobs = jobsWith({ promptsPerJob: 3 });
      const straight = responses(await shuffled(model, jobs, (i) => i));
      expect(responses(await shuffled(model, jobs, (i) => (i + 2) % 4))).toEqual(straight);
    } finally {
      Object.assign(caps(), { kind });
      model.destroy();
    }
  });

  it("measure at the temperature that is asked for, and leave the model as it was", async () => {
    const model = new CausalLM(tinyConfig()).initialize(3);
    const [job] = jobsWith({ measuredAt: 0.7, batchInvariant: true });
    const { responses: drawn } = await runJob(model, job);
    const sequences = drawn.map(({ ids }, i) => {
      const prompt = asked[Math.floor(i / 3)].ids;
      return { ids: Uint32Array.from([...prompt, ...ids]), promptLength: prompt.length };
    });
    const { logProbs } = await responseLogProbs(model, sequences, 0.7);
    expect(drawn.map((response) => response.logProbs)).toEqual(logProbs);
    expect(model.batchInvariant).toBe(false);
    const { responses: untempered } = await runJob(model, { ...job, measuredAt: 1 });
    expect(untempered.map((response) => response.ids)).toEqual(drawn.map((response) => response.ids));
    expect(untempered.map((response) => response.logProbs)).not.toEqual(logProbs);
    model.destroy();
  });

  it("draw with the cache that they name, whatever the model's own is", async () => {
    const model = new CausalLM(tinyConfig()).initialize(3);
    const plain = await runJob(model, jobsWith()[0]);
    const coded = await runJob(model, jobsWith({ kvCache: "int8" })[0]);
    expect(model.kvCache).toBe("auto");
    const numbers = ({ responses }: JobResult) => responses.map(({ logProbs }) => logProbs);
    expect(numbers(coded)).not.toEqual(numbers(plain));
    model.kvCache = "int8";
    expect(await runJob(model, jobsWith()[0])).toEqual(coded);
    expect(await runJob(model, jobsWith({ kvCache: "auto" })[0])).toEqual(plain);
    expect(model.kvCache).toBe("int8");
    model.destroy();
  });
});
