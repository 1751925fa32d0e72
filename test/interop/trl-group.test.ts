/**
 * The losses of TRL's GRPOTrainer and RLOOTrainer, with gradients, beside webrlhf's, on the fixture's log-probabilities; and
 * its overlong penalty. Needs a Python with torch, transformers and trl: python3 on the PATH, or the one that WEBRLHF_PYTHON
 * names. Skipped, with the reason, where there is none.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import {
  averagingWeights,
  type LossAveraging,
  overlongPenalty,
  type RatioLossOptions,
  type Response,
  ratioLoss,
} from "webrlhf/rlhf";
import { backward, scope, type Tensor, tensor, zeros } from "../../src/tensor/core.ts";
import { type FixtureArray, numbers } from "../fixture.ts";
import fixture from "../fixtures/group.json" with { type: "json" };
import { expectClose, gpuReady } from "../helpers.ts";

const { losses } = fixture;
const python = process.env.WEBRLHF_PYTHON ?? "python3";
const script = fileURLToPath(new URL("check_trl_group.py", import.meta.url));
const probe = spawnSync(python, [
  "-c",
  "import importlib.util as u; print(all(map(u.find_spec, ('torch', 'transformers', 'trl'))))",
]);
const reason =
  probe.stdout?.toString().trim() === "True"
    ? ""
    : `${python} has no torch, transformers and trl; WEBRLHF_PYTHON can name another`;

const [, slots] = losses.mask.shape;
const table = (a: FixtureArray): number[][] => {
  const all = numbers(a);
  return Array.from({ length: all.length / slots }, (_, row) => all.slice(row * slots, (row + 1) * slots));
};
const mask = table(losses.mask);
/** One advantage per response, as TRL's trainers have them. */
const advantages = table(losses.advantages).map((row) => row[0]);
const lengths = [1, 16, 17, 19, 20, 25];

const job = {
  ...losses,
  mask,
  logProbs: table(losses.logProbs),
  oldLogProbs: table(losses.oldLogProbs),
  refLogProbs: table(losses.refLogProbs),
  advantages,
  cases: losses.cases.map(({ averaging, options }) => ({
    trainer: options.level === "product" ? "rloo" : "grpo",
    lossType: options.cispo ? "cispo" : averaging,
    options,
  })),
  lengths,
  longest: 20,
  buffer: 4,
};

interface Answer {
  cases: { loss: number; gradient: number[][] }[];
  penalties: number[];
}

/** What is live of some rows, as one list. */
const live = (rows: readonly number[][], part: readonly number[]): number[] =>
  part.flatMap((row) => rows[row].filter((_, t) => mask[row][t] === 1));

async function differentiate(at: number[], f: (x: Tensor) => Tensor): Promise<[number, Float32Array]> {
  const results = scope(() => {
    const leaf = tensor(at);
    leaf.requiresGrad = true;
    leaf.grad = zeros(leaf.shape);
    const loss = f(leaf);
    backward(loss);
    return [loss, leaf.grad];
  });
  const [loss, gradient] = await Promise.all(results.map((t) => t.read()));
  for (const t of results) t.free("the test");
  return [loss[0], gradient as Float32Array];
}

describe.skipIf(reason)(`TRL's losses${reason && ` (skipped: ${reason})`}`, () => {
  let theirs: Answer;
  beforeAll(async () => {
    await gpuReady();
    const done = spawnSync(python, [script], { input: JSON.stringify(job), maxBuffer: 1 << 26 });
    if (done.status !== 0) throw new Error(done.stderr.toString());
    theirs = JSON.parse(done.stdout.toString()) as Answer;
  }, 300_000);

  it.each(losses.cases.map((c, i) => [c.name, i] as const))("%s", async (_, at) => {
    const { averaging, options } = losses.cases[at];
    const want = theirs.cases[at];
    const tokens = losses.parts.map((part) => part.map((row) => mask[row].reduce((a, b) => a + b, 0)));
    const weights = averagingWeights(tokens, averaging as LossAveraging, losses);
    let loss = 0;
    for (const [p, part] of losses.parts.entries()) {
      const host = (rows: readonly number[][]) => Float32Array.from(live(rows, part));
      const inputs = {
        oldLogProbs: host(job.oldLogProbs),
        refLogProbs: host(job.refLogProbs),
        advantages: host(mask.map((row, i) => row.map(() => advantages[i]))),
        weights: weights[p],
        lengths: tokens[p],
      };
      const [found, gradient] = await differentiate(live(job.logProbs, part), (x) =>
        ratioLoss(x, inputs, options as RatioLossOptions),
      );
      loss += found;
      expectClose(gradient, live(want.gradient, part), 5e-6, 1e-7, `gradient of part ${p}`);
    }
    // Of a response without tokens, TRL's RLOO counts -A, a constant; here it counts nothing.
    const empty = options.level === "product" ? advantages[4] / losses.parts.flat().length : 0;
    expectClose([loss], [want.loss + empty], 5e-6, 1e-7, "loss");
  });

  it("penalises overlong responses alike", async () => {
    const responses = lengths.map((n) => ({ ids: new Uint32Array(n), promptLength: 0 }) as Response);
    const found = await overlongPenalty(job.longest, job.buffer)(responses);
    expect(Array.from(found, (x) => x + 0)).toEqual(theirs.penalties.map((x) => x + 0));
  });
});
