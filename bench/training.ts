/** One training step of a small Llama-style transformer: cross entropy, gradients, clipping and AdamW. */
import {
  backward,
  finish,
  type KernelTime,
  memoryFiles,
  packing,
  parseSafetensors,
  profile,
  scale,
  scope,
  stats,
  sum,
  type Tensor,
  tensor,
} from "webrlhf";
import { AdamW, CausalLM, type DecoderConfig, decoderConfig, modelFiles } from "webrlhf/nn";
import { type Arm, type Case, gpuArm, median } from "./harness.ts";

export const smallTransformer = decoderConfig({
  family: "llama",
  vocabSize: 384,
  hiddenSize: 128,
  layers: 2,
  heads: 4,
  intermediateSize: 256,
  normEps: 1e-5,
});

/** Everything another library needs to do the same steps. */
export interface StepProblem {
  readonly config: DecoderConfig;
  /** Under Hugging Face names, matrices as [out, in]. */
  readonly weights: Record<string, { shape: readonly number[]; data: Float32Array<ArrayBuffer> }>;
  readonly ids: Uint32Array;
  readonly targets: Uint32Array;
  /** Sequences and tokens per sequence. */
  readonly rows: number;
  readonly length: number;
  readonly adamw: typeof adamw;
  /** How many first losses are compared. */
  readonly checkSteps: number;
}

const adamw = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01, maxGradNorm: 1 };

export type Stepper = (problem: StepProblem) => Promise<Arm>;

class SmallStep {
  readonly model: CausalLM;
  readonly optimizer: AdamW;
  private readonly rows: number;
  private readonly length: number;

  constructor(rows: number, length: number) {
    this.rows = rows;
    this.length = length;
    this.model = new CausalLM(smallTransformer, "bench model");
    this.model.store.initialize(1);
    const { eps, weightDecay, maxGradNorm } = adamw;
    this.optimizer = new AdamW(this.model.store, { betas: [adamw.beta1, adamw.beta2], eps, weightDecay, maxGradNorm });
  }

  /** Enqueues one step and returns its mean cross entropy. */
  run(ids: Uint32Array, targets: Uint32Array): Tensor {
    return scope(() => {
      const packed = packing(new Array(this.rows).fill(this.length));
      const every = Uint32Array.from(ids, (_, i) => i);
      const { logProbs } = this.model.logProbs({ gpu: tensor(ids), host: ids }, packed, every, targets);
      const loss = scale(sum(logProbs), -1 / ids.length);
      backward(loss);
      this.optimizer.step(adamw.learningRate);
      return loss;
    });
  }

  destroy(): void {
    this.optimizer.destroy();
    this.model.destroy();
  }
}

function batch(rows: number, length: number, seed: number): { ids: Uint32Array; targets: Uint32Array } {
  const { vocabSize } = smallTransformer;
  const ids = Uint32Array.from({ length: rows * length }, (_, i) => ((i + seed) * 2654435761) % vocabSize);
  return { ids, targets: ids.map((id) => (id * 7 + 3) % vocabSize) };
}

/** The step at 32 sequences of 32 tokens, next to other libraries' from the same weights on the same batch. */
export function trainingCase(others: readonly Stepper[]): Case {
  const rows = 32;
  const length = 32;
  const checkSteps = 5;
  return {
    name: `training step, ${rows}x${length} tokens`,
    unit: "ms",
    work: 1,
    tolerance: 1e-3,
    async arms() {
      const { ids, targets } = batch(rows, length, 0);
      const step = new SmallStep(rows, length);
      const problem = { config: smallTransformer, ids, targets, rows, length, adamw, checkSteps };
      const weights = await exported(step.model);
      let last: Tensor | null = null;
      const ours = gpuArm("webrlhf", {
        enqueue() {
          last?.free("the bench");
          last = step.run(ids, targets);
        },
        wait: finish,
        async result() {
          const losses: number[] = [];
          for (let i = 0; i < checkSteps; i++) {
            const loss = step.run(ids, targets);
            losses.push((await loss.read())[0]);
            loss.free("the bench");
          }
          return losses;
        },
        dispose() {
          last?.free("the bench");
          step.destroy();
        },
      });
      const arms = [ours];
      for (const other of others) arms.push(await other({ ...problem, weights }));
      return arms;
    },
  };
}

/** The model's weights as a file of Hugging Face's has them. */
async function exported(model: CausalLM): Promise<StepProblem["weights"]> {
  const files = memoryFiles();
  await files.writeFolder("model", await modelFiles(model));
  const name = "model/model.safetensors";
  const bytes = await files.read(name);
  if (!bytes) throw new Error(`the bench model has no ${name}`);
  const file = parseSafetensors(bytes, name);
  return Object.fromEntries(file.names.map((tensor) => [tensor, file.get(tensor)]));
}

/** Where the GPU's time goes in a step of 32 sequences of 32 tokens, by kernel; slower than without the timestamps. */
export async function profileStep(steps: number): Promise<KernelTime[]> {
  const [rows, length] = [32, 32];
  const { ids, targets } = batch(rows, length, 0);
  const step = new SmallStep(rows, length);
  const run = () => step.run(ids, targets).free("the bench");
  try {
    run(); // compiles the kernels
    return await profile(() => {
      for (let i = 0; i < steps; i++) run();
    });
  } finally {
    step.destroy();
  }
}

/** What the runtime costs besides the GPU's work, and whether it reaches a steady state. */
export interface RuntimeFigures {
  readonly dispatchesPerStep: number;
  /** CPU time of forward, backward and optimizer, per dispatch: median and best step. Nothing is submitted meanwhile. */
  readonly encodeMicroseconds: number;
  readonly encodeBestMicroseconds: number;
  /** The same with the submit at the end, by the clock. */
  readonly submitMicroseconds: number;
  /** From step 3 on. */
  readonly bindGroupHitRate: number;
  readonly buffersCreatedAfterStep3: number;
  readonly steps: number;
  readonly poolBytesAtStep3: number;
  readonly poolBytesAtEnd: number;
}

/** Trains on two short sequences, so that a step is all encoding and fits one submit, with a new batch each step. */
export async function runtimeFigures(steps: number): Promise<RuntimeFigures> {
  const step = new SmallStep(2, 16);
  const encode: number[] = [];
  const submit: number[] = [];
  let settled = stats();
  let end = settled;
  let dispatches = 0;
  try {
    for (let i = 0; i < steps; i++) {
      if (i === 3) settled = stats();
      const { ids, targets } = batch(2, 16, i);
      const before = stats().dispatches;
      const start = performance.now();
      // The GPU is idle here, so the process's CPU time is this thread's and the garbage collector's.
      const cpu = process.cpuUsage();
      step.run(ids, targets).free("the bench");
      const { user, system } = process.cpuUsage(cpu);
      const done = finish();
      const submitted = performance.now();
      await done;
      dispatches = stats().dispatches - before;
      encode.push((user + system) / dispatches);
      submit.push(((submitted - start) * 1e3) / dispatches);
    }
    end = stats();
  } finally {
    step.destroy();
  }
  const hits = end.bindGroupHits - settled.bindGroupHits;
  const misses = end.bindGroupMisses - settled.bindGroupMisses;
  return {
    dispatchesPerStep: dispatches,
    encodeMicroseconds: median(encode),
    encodeBestMicroseconds: Math.min(...encode),
    submitMicroseconds: median(submit),
    bindGroupHitRate: hits / (hits + misses),
    buffersCreatedAfterStep3: end.buffersCreated - settled.buffersCreated,
    steps,
    poolBytesAtStep3: settled.poolBytes,
    poolBytesAtEnd: end.poolBytes,
  };
}
