/**
 * A trainer of one's own: each step samples several responses to every prompt, keeps the best, and makes it more likely.
 * The library's loop gives it what every trainer has: events that logs, reports and pages understand, evaluations,
 * checkpoints, and resuming bit by bit.
 */
import { backward, memoryFiles, openDevice, scope } from "webrlhf";
import { type Tokenizer, worldTokenizer } from "webrlhf/data";
import { AdamW, CausalLM, decoderConfig } from "webrlhf/nn";
import {
  common,
  group,
  loop,
  nllLoss,
  type Prompt,
  pack,
  policySampler,
  predictions,
  type RunOptions,
  type SettingsInput,
  settings,
  type TrainEvent,
} from "webrlhf/rlhf";

type Score = (text: string) => number;

const own = group("Best of several");
/** Types, defaults and checks in one: best({ samples: 1 }) says what is wrong with it. */
const best = settings("best", {
  ...common,
  maxSteps: own.int(24, "Rounds of sampling and learning", { min: 1 }),
  samples: own.int(12, "Responses to every prompt, of which the best is learned", { min: 2, aka: ["num_generations"] }),
  learningRate: own.float(1e-2, "Learning rate", { min: 0 }),
});

async function* trainBest(
  { policy, tokenizer, score }: { policy: CausalLM; tokenizer: Tokenizer; score: Score },
  prompts: readonly Prompt[],
  chosen: SettingsInput<typeof best.table> = {},
  run: RunOptions = {},
): AsyncGenerator<TrainEvent> {
  const o = best(chosen);
  const { maxSteps, samples, learningRate, seed } = o;
  const optimizer = new AdamW(policy.store);
  const sample = policySampler(policy, tokenizer);
  yield* loop(
    {
      stage: "best",
      maxSteps,
      parameters: policy.store.count,
      kept: { "": { model: policy, optimizer } }, // what checkpoints hold: from it a run goes on as if nothing had been
      epoch: (done) => done,
      prepare: (step) => sample(prompts, [...prompts.keys()], { samples, maxNewTokens: 8, seed, iteration: step }),
      async step(_, responses) {
        const scores = responses.map(({ text }) => score(text));
        const winners = prompts.map((_, p) => {
          const first = p * samples;
          const own = scores.slice(first, first + samples);
          return responses[first + own.indexOf(Math.max(...own))];
        });
        const loss = scope(() => {
          const { ids, packing, starts } = pack(winners);
          const { rows, targets } = predictions(winners, starts);
          const nll = nllLoss(policy.logProbs(ids, packing, rows, targets).logProbs, 1 / rows.length);
          backward(nll);
          optimizer.step(learningRate);
          return nll;
        });
        const metrics = { loss: (await loss.read())[0], reward: scores.reduce((a, b) => a + b, 0) / scores.length };
        loss.free("trainBest");
        return { metrics, tokens: responses.reduce((n, { ids }) => n + ids.length, 0) };
      },
      finite: ["loss"], // a run whose loss is not finite ends with a sentence
      finished: () => ({ "": policy }),
      close: () => optimizer.destroy(),
    },
    o,
    run,
  );
}

/** Trains, stops in the middle, goes on; throws where that is not the same run, or where nothing was learned. */
export async function main(log: (line: string) => void = console.log): Promise<void> {
  await openDevice();
  const tokenizer = worldTokenizer();
  const { vocabSize, eosId = null, padId = null } = tokenizer;
  const shape = { vocabSize, hiddenSize: 32, layers: 1, heads: 2, maxPositions: 32, eosId, padId };
  const config = decoderConfig({ family: "llama", ...shape });
  const prompts = ["a boy", "a girl", "the cat"].map((text) => ({
    text,
    ids: Uint32Array.from(tokenizer.encode(text)),
  }));
  const score: Score = (text) => text.split("s").length - 1; // how many there are of one letter

  const rewards = async (run: RunOptions, stopAt = 0): Promise<number[]> => {
    const policy = new CausalLM(config).initialize(1);
    const found: number[] = [];
    const stop = new AbortController();
    for await (const event of trainBest(
      { policy, tokenizer, score },
      prompts,
      { seed: 1, saveSteps: 10 },
      {
        ...run,
        signal: stop.signal,
      },
    )) {
      if (event.type === "step") found.push(event.metrics.reward);
      if (event.type === "step" && event.step === stopAt) stop.abort();
    }
    policy.destroy();
    return found;
  };
  const whole = await rewards({});
  const folder = { files: memoryFiles(), path: "run" };
  const stopped = await rewards({ folder }, 9);
  const rest = await rewards({ folder, resume: true });
  log(`reward ${whole[0].toFixed(2)} at first, ${whole[whole.length - 1].toFixed(2)} in the end`);
  log(`stopped after ${stopped.length} steps, then ${rest.length} more`);
  if (JSON.stringify([...stopped, ...rest]) !== JSON.stringify(whole))
    throw new Error("a resumed run should be the same run");
  if (!(whole[whole.length - 1] > 2 * whole[0])) throw new Error("the policy should have learned to say its letter");
}
