/**
 * Word problems of arithmetic, as GSM8K's but small: a fresh model learns from a careless pupil, who gets about one in three right,
 * and then by itself: from a reward that verifies answers (`rewards/arithmetic.ts`), or with a calculator in turns of their own
 * (`arithmetic/tool.ts`). It is tested with problems whose numbers it has never seen together. `main` shows how the parts go
 * together; `scripts/arithmetic.mjs` runs the same at length.
 */

import { openDevice } from "webrlhf";
import { ChatTemplate, Tokenizer, trainBpe } from "webrlhf/data";
import { CausalLM, decoderConfig } from "webrlhf/nn";
import { openDataset, openRewards } from "webrlhf/open";
import {
  environmentReward,
  environmentSampler,
  evaluatePolicy,
  type RewardFunction,
  trainGrpo,
  trainSft,
} from "webrlhf/rlhf";
import { problems, randomNumbers } from "./arithmetic/problems.ts";
import { answered, CALL, type Conversation } from "./arithmetic/pupil.ts";
import tool from "./arithmetic/tool.ts";
import { answer, working } from "./rewards/arithmetic.ts";

/** How long and on how much a model learns. */
export interface Lesson {
  seed: number;
  /** Sums are done by the calculator. */
  withTool: boolean;
  /** The largest number in problems. */
  most: number;
  /** Of the model, which has two layers. */
  width: number;
  /** Steps on the pupil's answers, and how many there are of them. */
  imitation: { answers: number; steps: number; batch: number; rate: number };
  /** Rollouts of so many problems with eight responses each. */
  practice: { steps: number; problems: number; rate: number };
  /** Held-out problems to be tested by. */
  tests: number;
}

type Log = (line: string) => void;

const LIMITS = { maxTurns: 4, environmentTimeout: 60, environmentFailure: "stop" } as const;
const CONTEXT = 72;
const TEMPLATE =
  "{% for m in messages %}<|{{ m.role }}|> {{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

const longest = (withTool: boolean): number => (withTool ? 36 : 20);

const schedule = { warmupSteps: 0.1, lrSchedulerType: "cosine", maxGradNorm: 1 } as const;

/** A tokenizer whose tokens are the words, signs and whole numbers of conversations, and what stands around a call's sum. */
async function wordsOf(conversations: readonly Conversation[], most: number): Promise<Tokenizer> {
  const texts = conversations.flatMap(({ messages }) => messages.map(({ content }) => ` ${content}`));
  const numbers = Array.from({ length: 3 * most + 1 }, (_, n) => ` ${n}`);
  const tokenizer = Tokenizer.fromTrained(
    trainBpe([...texts, ...numbers], {
      vocabSize: 1024,
      minFrequency: 1,
      alphabet: "seen",
      specialTokens: ["<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|tool|>", ...CALL],
    }),
  );
  tokenizer.chatTemplate = await ChatTemplate.compile(TEMPLATE, "arithmetic");
  return tokenizer;
}

/** A fresh model that has imitated the pupil. */
export async function imitate(lesson: Lesson, log: Log): Promise<CausalLM> {
  const { seed, withTool, most, width, imitation } = lesson;
  const random = randomNumbers(seed);
  const answers = problems(imitation.answers, seed, "train", most).map((one) => answered(one, withTool, random));
  const tokenizer = await wordsOf(answers, most);
  const policy = new CausalLM(
    decoderConfig({
      family: "llama",
      vocabSize: tokenizer.vocabSize,
      hiddenSize: width,
      layers: 2,
      heads: 4,
      maxPositions: CONTEXT,
      eosId: tokenizer.eosId ?? null,
      padId: tokenizer.padId ?? null,
    }),
  ).initialize(seed);
  policy.tokenizer = tokenizer;
  const settings = {
    ...schedule,
    seed,
    maxSteps: imitation.steps,
    learningRate: imitation.rate,
    perDeviceTrainBatchSize: imitation.batch,
    assistantOnlyLoss: true,
  };
  for await (const event of trainSft({ policy }, openDataset(answers), settings)) {
    if (event.type === "step" && event.step % 50 === 0)
      log(`step ${event.step}: loss ${event.metrics.loss.toFixed(3)}`);
  }
  return policy;
}

/** Lets a model learn by itself, by GRPO: from these rewards, or from the tool's verdict. */
export async function practise(policy: CausalLM, lesson: Lesson, judges: RewardFunction[], log: Log): Promise<void> {
  const { seed, withTool, most, practice } = lesson;
  const settings = {
    ...schedule,
    seed,
    maxSteps: practice.steps,
    learningRate: practice.rate,
    perDeviceTrainBatchSize: practice.problems * 8,
    numGenerations: 8,
    responseLength: longest(withTool),
    ...(withTool && { maxTurns: LIMITS.maxTurns }),
  };
  const models = withTool ? { environment: tool, rewards: environmentReward } : { rewards: judges };
  const data = openDataset(problems(1024, seed + 1, "train", most));
  let sum = 0;
  for await (const event of trainGrpo({ policy, ...models }, data, settings)) {
    if (event.type !== "step") continue;
    sum += event.metrics.reward;
    if (event.step % 10 > 0) continue;
    log(`steps to ${event.step}: reward ${(sum / 10).toFixed(3)}`);
    sum = 0;
  }
}

/** Shares of held-out problems that are solved at the first try: drawn at the temperature 1, and by the most probable tokens. */
export interface Solved {
  drawn: number;
  greedy: number;
}

/** Tests a model. */
export async function test(policy: CausalLM, { seed, withTool, most, tests }: Lesson, log: Log): Promise<Solved> {
  const tokenizer = policy.tokenizer as Tokenizer;
  const responseLength = longest(withTool);
  const held = openDataset(problems(tests, seed + 2, "test", most));
  const { train: prompts } = await held.prompts(tokenizer, { context: CONTEXT, response: responseLength });
  const sampler = environmentSampler({ policy, tokenizer, environment: tool, ...LIMITS });
  const judged = withTool ? { sampler, reward: environmentReward } : { reward: answer };
  const solved = async (temperature: number) => {
    const inputs = { policy, tokenizer, prompts, ...judged };
    const { metrics, samples } = await evaluatePolicy(inputs, { seed, responseLength, temperature, showSamples: 2 });
    for (const { prompt, response } of samples) log(`${prompt}${response}`);
    return metrics.reward;
  };
  return { drawn: await solved(1), greedy: await solved(0) };
}

/** Runs all of it for a moment, with tiny numbers and too briefly to solve much: `scripts/arithmetic.mjs` has the settings of a whole run. */
export async function main(log: Log = console.log): Promise<void> {
  await openDevice();
  const lesson: Lesson = {
    seed: 1,
    withTool: false,
    most: 2,
    width: 32,
    imitation: { answers: 512, steps: 150, batch: 16, rate: 0.01 },
    practice: { steps: 5, problems: 6, rate: 0.0005 },
    tests: 32,
  };
  const policy = await imitate(lesson, log);
  const before = await test(policy, lesson, log);
  await practise(policy, lesson, await openRewards([answer, Object.assign(working, { weight: 0.25 })]), log);
  const after = await test(policy, lesson, log);
  policy.destroy();
  const percent = (share: number) => `${(100 * share).toFixed(0)} %`;
  log(
    `held-out problems: ${percent(before.drawn)} are solved after the pupil's lessons, ${percent(after.drawn)} after practice`,
  );
}
