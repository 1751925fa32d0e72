/** Runs that lose their GPU device, or its memory: they end as others do, or say clearly why they cannot. */
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { DeviceLostError, type Files, isUserError, memoryFiles, OutOfMemoryError, UserError } from "webrlhf";
import { type ClosableRun, type Method, methods, openRun, surviving } from "webrlhf/open";
import type { TrainEvent } from "webrlhf/rlhf";
import { gpuReady } from "../helpers.ts";
import { lackingMemory, losingAt } from "../losing.ts";
import { collect } from "../rlhf/tiny.ts";
import { withoutClock } from "../without-clock.ts";

const files = memoryFiles();
const shape = { hiddenSize: 16, numHiddenLayers: 1, numAttentionHeads: 2, maxPositionEmbeddings: 64 };
const small = { seed: 3, learningRate: 1e-3, perDeviceTrainBatchSize: 4 };
const learned = { ...small, maxTrainSamples: 24, maxEvalSamples: 4, evalSteps: 2 };
const sampled = { ...small, modelNameOrPath: "base", rewardModelPath: "judge", maxTrainSamples: 12, responseLength: 6 };

/** Short runs of the methods, that save now and then. */
const runs: Record<string, [Method, object]> = {
  sft: [methods.sft, { ...learned, ...shape, maxSteps: 5, saveSteps: 2 }],
  dpo: [methods.dpo, { ...learned, modelNameOrPath: "base", maxSteps: 4, saveSteps: 1, precomputeRefLogProbs: true }],
  ppo: [methods.ppo, { ...sampled, maxSteps: 3, saveSteps: 1, rolloutBatchSize: 4, emaBeta: 0.9 }],
  iterate: [
    methods.iterate,
    { ...sampled, iterations: 2, promptsPerIteration: 4, numGenerations: 2, saveSteps: 1, maxEvalSamples: 2 },
  ],
};

/** Opens a run, trains it, and closes it; without a path in memory alone. */
async function train([method, values]: [Method, object], path?: string): Promise<TrainEvent[]> {
  const run = await openRun(method, values, { files, outputDir: "model" });
  try {
    return await collect(run.train(path ? { folder: { files, path, besides: run.besides } } : {}));
  } finally {
    run.close();
  }
}

beforeAll(async () => {
  await gpuReady();
  await train([methods.sft, { ...learned, ...shape, maxSteps: 2, saveSteps: 2 }], "base");
  await train([methods.reward, { ...learned, modelNameOrPath: "base", maxSteps: 1 }], "judge");
});

beforeEach(gpuReady); // a test may leave a device that is lost

/** Events without the clock's part, without notes, and without what was said of losses. */
const told = (events: readonly TrainEvent[]) =>
  events.flatMap((event) => {
    if (event.type === "note" || (event.type === "warning" && /lost|out of GPU memory/.test(event.text))) return [];
    return [withoutClock(event)];
  });

/** Everything below a folder. */
async function contents(path: string, { list, read }: Files = files): Promise<Record<string, Uint8Array>> {
  const all: Record<string, Uint8Array> = {};
  for (const name of await list(path)) {
    const content = await read(`${path}/${name}`);
    if (content) all[name] = content;
    else
      for (const [below, bytes] of Object.entries(await contents(`${path}/${name}`))) all[`${name}/${below}`] = bytes;
  }
  return all;
}

describe("a run whose device is lost", () => {
  it.each(Object.keys(runs))("ends as one that kept it: %s", async (name) => {
    let undisturbed: TrainEvent[] = [];
    const submits = await losingAt(
      () => false,
      async () => {
        undisturbed = await train(runs[name], `${name}/kept`);
      },
    );
    const expected = await contents(`${name}/kept`);
    const moments = [2, submits >> 1, (submits >> 1) + 3, submits - 2];
    await losingAt(
      (submit) => moments.includes(submit),
      async () => expect(told(await train(runs[name], `${name}/lost`))).toEqual(told(undisturbed)),
    );
    expect(await contents(`${name}/lost`)).toEqual(expected);
  });

  it("goes on from memory where it has no folder", async () => {
    const undisturbed = await train(runs.sft);
    let events: TrainEvent[] = [];
    await losingAt(
      (submit) => submit === 30,
      async () => {
        events = await train(runs.sft);
      },
    );
    expect(told(events)).toEqual(told(undisturbed));
    expect(events.filter(({ type }) => type === "warning")).toHaveLength(1);
    expect(events.some(({ type }) => type === "checkpoint")).toBe(false);
  });

  it("gives up where it gets no further, and says so", async () => {
    let devices = 0;
    const work = losingAt(
      (submit) => submit > 5 && ++devices > 0,
      () => train(runs.sft, "hopeless"),
    );
    const error = await work.then(
      () => null,
      (e: Error) => e,
    );
    expect(error?.message).toMatch(/^the GPU device was lost \(.+\), 4 times without a step between: check the GPU/);
    expect(isUserError(error)).toBe(true);
    expect(error?.cause).toBeInstanceOf(DeviceLostError);
    expect(devices).toBeLessThan(20);
  });

  it("says each thing once, wherever it is broken off", async () => {
    const step = (step: number): TrainEvent => ({
      ...{ type: "step", step, maxSteps: 3, epoch: step, metrics: { loss: step }, tokens: 1, seconds: 0 },
    });
    const all: TrainEvent[] = [
      { type: "start", stage: "mine", step: 0, maxSteps: 3, parameters: 1 },
      ...[1, 2, 3].flatMap((n): TrainEvent[] => [
        step(n),
        { type: "rows", step: n, table: "a", rows: [] },
        { type: "rows", step: n, table: "b", rows: [] },
        { type: "eval", step: n, metrics: { eval_loss: n } },
        { type: "checkpoint", step: n, name: `checkpoint-${n}` },
      ]),
      { type: "end", step: 3, metrics: { loss: 3, eval_loss: 3 } },
    ];
    // What a run says that begins behind a checkpoint.
    const from = (step: number) => [
      { ...all[0], step },
      ...all.slice(1).filter((e) => e.step > step || e.type === "end"),
    ];
    for (let broken = 0; broken <= all.length; broken++) {
      for (const saved of [0, 1, 2, 3]) {
        if (saved > 0 && all.findIndex((e) => e.type === "checkpoint" && e.step === saved) >= broken) continue;
        let opened = 0;
        const open = async (): Promise<ClosableRun> => {
          const second = opened++ > 0;
          return {
            close() {},
            async *train() {
              if (second) {
                const last = from(saved) as TrainEvent[];
                yield* saved === 3 ? last.map((e) => (e.type === "end" ? { ...e, metrics: {} } : e)) : last;
                return;
              }
              yield* all.slice(0, broken);
              throw new UserError("a read failed", { cause: new OutOfMemoryError("a tensor") });
            },
          };
        };
        const run = await surviving(open);
        const folder = { files, path: "anywhere" };
        expect(told(await collect(run.train({ folder }))), `${broken} from ${saved}`).toEqual(all);
      }
    }
  });

  it("does not begin again after another error", async () => {
    let opened = 0;
    const open: Method["open"] = (...asked) => {
      opened += 1;
      return methods.sft.open(...asked);
    };
    const again = train([{ ...methods.sft, open }, runs.sft[1]], "base");
    await expect(again).rejects.toThrow(/base holds checkpoint-2 of an earlier run/);
    expect(opened).toBe(1);
  });
});

describe("a run whose GPU has no memory left", () => {
  it("tries once more on an empty device", async () => {
    const undisturbed = await train(runs.dpo);
    await lackingMemory([/second moments/, 0], 1, async () => {
      const events = await train(runs.dpo);
      expect(told(events)).toEqual(told(undisturbed));
      expect(events.find(({ type }) => type === "warning")).toMatchObject({ text: /out of GPU memory: .*moments/ });
    });
  });

  it("says then what to lower", async () => {
    await lackingMemory([/second moments/, 0], 9, async () => {
      await expect(train(runs.dpo)).rejects.toThrow(
        /^out of GPU memory, twice: .*second moments.*: lower perDeviceTrainBatchSize, maxLength, .*or set gradientCheckpointing or usePeft$/,
      );
    });
  });
});
