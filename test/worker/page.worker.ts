/** A page's worker for the tests, with the troubles that its name asks for. */
import { memoryFiles } from "webrlhf";
import { CausalLM, modelFiles } from "webrlhf/nn";
import { tokenizerFiles } from "webrlhf/open";
import { type Program, serveSession, type TrainInput, trainProgram } from "webrlhf/worker";
import { gpuReady } from "../helpers.ts";
import { tinyConfig, tokenizer } from "../rlhf/tiny.ts";
import { counting } from "./counting.ts";

const troubles = (globalThis as unknown as { name: string }).name;
if (troubles === "no gpu") Object.defineProperty(navigator, "gpu", { value: undefined });
if (troubles === "no files") {
  navigator.storage.getDirectory = () => Promise.reject(new DOMException("denied", "SecurityError"));
}

const files = memoryFiles();
if (troubles === "no clock") {
  const { setTimeout: soon } = globalThis;
  const late = (work: () => void, after = 0) => (after < 1000 ? soon(work, after) : 0);
  globalThis.setTimeout = late as typeof setTimeout;
}

let made: Promise<void> | null = null;

/** Trains a model that is made first. */
const train: Program<TrainInput> = {
  async *run(input, context) {
    made ??= make();
    await made;
    yield* trainProgram.run(input, context);
  },
};

async function make(): Promise<void> {
  await gpuReady();
  const model = new CausalLM(tinyConfig()).initialize(1);
  await files.writeFolder("base", { ...(await modelFiles(model)), ...tokenizerFiles(tokenizer) });
  model.destroy();
}

serveSession({
  files,
  programs: { count: async () => counting, train },
  queries: {
    crash: { anytime: true, answer: async () => void setTimeout(() => reportError(new Error("a bug of a program"))) },
  },
});
