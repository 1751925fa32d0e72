/** Whether a worker has drawn as its job says. */
import { beforeAll, describe, expect, it } from "vitest";
import { openDevice } from "webrlhf";
import { CausalLM } from "webrlhf/nn";
import { type JobResult, jobsOf, runJob, type SamplingJob } from "webrlhf/rlhf";
import { wrongWith } from "../../src/cluster/check.ts";
import { keeper } from "../keep.ts";
import { prompts, tinyConfig } from "../rlhf/tiny.ts";

beforeAll(() => openDevice());
const keep = keeper();

const [job] = jobsOf(
  prompts(8).map((prompt) => prompt.ids),
  [0, 1, 2, 3, 4, 5, 6, 7],
  { iteration: 3, samples: 2, seed: 5, maxNewTokens: 12, temperature: 0.8 },
);
const policy = (): CausalLM => keep(new CausalLM(tinyConfig()).initialize(3));

/** A result with one of its responses changed. */
const with_ = (result: JobResult, change: (response: JobResult["responses"][number]) => object): JobResult => ({
  ...result,
  responses: result.responses.map((response, i) => (i === 4 ? { ...response, ...change(response) } : response)),
});

describe("a result that is checked", () => {
  it("passes where it was drawn as its job says, with the last bits of another adapter, too", async () => {
    const model = policy();
    const result = await runJob(model, job);
    expect(await wrongWith(model, job, result)).toBeNull();
    const bits = with_(result, ({ logProbs }) => ({ logProbs: logProbs?.map((value) => value - 4e-6) }));
    expect(await wrongWith(model, job, bits)).toBeNull();
  });

  it("passes where two tokens were as good as equal, and fails where one is simply another", async () => {
    const model = policy();
    const result = await runJob(model, job);
    const { logProbs } = result.responses[4];
    const other = with_(result, ({ ids }) => ({ ids: ids.with(2, (ids[2] + 1) % 40) }));
    expect(await wrongWith(model, job, other)).toMatch(
      /response 4 has another token at 3 than its random numbers draw/,
    );
    expect(logProbs).toBeDefined();
  });

  const cheats: [string, (model: CausalLM) => Promise<JobResult>, RegExp][] = [
    [
      "weights that are a little off",
      async (model) => {
        const near = policy();
        const [parameter] = near.store.parameters;
        const values = await parameter.value.read();
        parameter.value.write(values.map((value, i) => value + (i % 2 ? 3e-3 : -3e-3)));
        void model;
        return runJob(near, job);
      },
      /log-probability|another token/,
    ],
    ["another temperature", (model) => runJob(model, { ...job, temperature: 0.7 }), /another token/],
    ["other random numbers", (model) => runJob(model, { ...job, seed: 6 }), /another token/],
    [
      "the better of two draws",
      async (model) => {
        const [one, two] = [await runJob(model, job), await runJob(model, { ...job, seed: 9 })];
        const sum = ({ logProbs }: JobResult["responses"][number]) => logProbs?.reduce((a, b) => a + b, 0) ?? 0;
        return {
          ...one,
          responses: one.responses.map((r, i) => (sum(r) >= sum(two.responses[i]) ? r : two.responses[i])),
        };
      },
      /another token/,
    ],
    [
      "log-probabilities that flatter",
      async (model) =>
        with_(await runJob(model, job), ({ logProbs }) => ({ logProbs: logProbs?.map((value) => value * 0.9) })),
      /log-probability/,
    ],
    [
      "a response that is cut",
      async (model) => {
        const long: SamplingJob = { ...job, ignoreEos: true };
        const result = await runJob(model, long);
        return with_(result, ({ ids, logProbs }) => ({ ids: ids.subarray(0, 6), logProbs: logProbs?.subarray(0, 6) }));
      },
      /another token/,
    ],
  ];
  it.each(cheats)("fails with %s", async (_, cheat, why) => {
    const model = policy();
    expect(await wrongWith(model, job, await cheat(model))).toMatch(why);
  });
});
