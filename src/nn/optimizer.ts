/** AdamW over a parameter store, and learning-rate schedules. */
import type { BufferView } from "../gpu/pool.ts";
import { createBuffer, subview } from "../gpu/pool.ts";
import { clear, destroyBuffers } from "../gpu/stream.ts";
import { UserError } from "../runtime/errors.ts";
import type { Tensor } from "../tensor/core.ts";
import {
  adamwStep,
  type ControlState,
  decideStep,
  lossSeed,
  optimizerControl,
  readControl,
} from "../tensor/ops/adamw.ts";
import { adamwStep8bit, BLOCK } from "../tensor/ops/adamw-8bit.ts";
import { muonStep } from "../tensor/ops/muon.ts";
import { type Parameter, type ParameterStore, readChunks, writeChunks } from "../tensor/params.ts";
import { Resident } from "../tensor/residency.ts";

/** Settings of `AdamW`; every one has a default. */
export interface AdamWOptions {
  /** Default [0.9, 0.999]. */
  betas?: readonly [number, number];
  /** Default 1e-8. */
  eps?: number;
  /** Decoupled, on matrices only. Default 0. */
  weightDecay?: number;
  /** Clips the global gradient norm; 0 does not clip. Default 1. */
  maxGradNorm?: number;
  /** Losses are scaled up before their gradients pass through f16, as `lossSeed` says. Default false. */
  lossScaling?: boolean;
  /**
   * Moments of matrices take 8 bits instead of 32, in blocks of 64 (Dettmers et al. 2022, arXiv 2110.02861); those of vectors
   * stay as they are. Default false.
   */
  eightBit?: boolean;
  /**
   * Hidden matrices (`Parameter.maps`) are trained by Muon, with a momentum of 0.95 and no second moment; embeddings, heads and
   * vectors stay with AdamW. Not with `eightBit`. Default false.
   */
  muon?: boolean;
}

/** An optimizer's memory on the host, for checkpoints. */
export interface OptimizerState {
  /**
   * Of each chunk of the store, as `v`; of its vectors alone where the matrices' take 8 bits. With Muon `m` has the momenta of
   * hidden matrices, and `v` nothing of them.
   */
  m: Float32Array<ArrayBuffer>[];
  v: Float32Array<ArrayBuffer>[];
  /** Of each chunk the matrices' moments where they take 8 bits: codes of m, codes of v, and the scales' bits. */
  codes?: Uint32Array<ArrayBuffer>[];
  control: Float32Array<ArrayBuffer>;
}

/** AdamW (Loshchilov & Hutter 2019), as torch.optim.AdamW after clip_grad_norm_. Clipping and skipping happen on the GPU. */
export class AdamW {
  /** The GPU's record of the last step: read it with the step's metrics and decode it with `readControl`. */
  readonly control: Tensor;
  /**
   * Both moments.
   * @internal
   */
  readonly resident = new Resident(() => this.buffers);
  private readonly store: ParameterStore;
  private readonly options: AdamWOptions;
  /** First and second moments of each chunk, from `firstFull` on. */
  private readonly m: readonly BufferView[];
  private readonly v: readonly BufferView[];
  /** Codes of both and scales of each chunk, of what lies before. */
  private readonly codes: readonly (readonly BufferView[])[];
  private readonly buffers: BufferView[] = [];
  private readonly stretches: readonly Stretch[][];

  /**
   * Makes the store trainable and allocates the moments, zeroed.
   * @throws UserError where Muon is asked for and there is no hidden matrix, or one that a binding does not hold
   */
  constructor(store: ParameterStore, options: AdamWOptions = {}) {
    this.store = store.trainable();
    this.options = options;
    const zeros = (bytes: number, what: string) => {
      const view = createBuffer(Math.max(4, bytes), `${store.label} ${what} moments`);
      this.buffers.push(view);
      clear(view);
      return view;
    };
    const { chunks } = store;
    if (options.muon && options.eightBit) throw new Error("AdamW: muon and eightBit do not go together");
    this.stretches = chunks.map((chunk, i) => stretchesOf(store, i, this.firstFull(chunk), options.muon ?? false));
    try {
      this.codes = chunks.map((chunk) => {
        const first = this.firstFull(chunk);
        const parts = first > 0 ? [first, first, (first / BLOCK) * 8] : [];
        return parts.map((bytes, i) => zeros(bytes, i === 0 ? "first" : "second"));
      });
      this.m = chunks.map((chunk) => zeros(4 * (chunk.size - this.firstFull(chunk)), "first"));
      this.v = this.stretches.map((all) => zeros(4 * adamFloats(all), "second"));
    } catch (error) {
      destroyBuffers(this.buffers);
      throw error;
    }
    this.control = optimizerControl(options.lossScaling);
  }

  /** What `backward` is to multiply a loss by. */
  lossSeed(factor = 1): number | Tensor {
    return lossSeed(this.control, factor);
  }

  /**
   * One update from the accumulated gradients, which are multiplied by `gradScale` first and zeroed afterwards.
   * @param now options of this step alone, where they differ
   */
  step(lr: number, gradScale = 1, now: Pick<AdamWOptions, "betas" | "eps" | "weightDecay" | "maxGradNorm"> = {}): void {
    const { chunks, gradients } = this.store;
    const { betas, eps, weightDecay, maxGradNorm } = { ...this.options, ...now };
    const grads = gradients as readonly BufferView[];
    decideStep(
      chunks.map(({ size }, i) => ({ view: grads[i], size })),
      this.control,
      { maxNorm: maxGradNorm, gradScale, betas },
    );
    const how = { lr, betas, eps, weightDecay };
    chunks.forEach((chunk, i) => {
      const first = this.firstFull(chunk);
      const { values } = chunk;
      if (first > 0) {
        const [m, v, scales] = this.codes[i];
        adamwStep8bit({ params: values, grads: grads[i], m, v, scales, size: first }, this.control, how);
      }
      let second = 0;
      for (const { at, size, map } of this.stretches[i]) {
        const part = (view: BufferView, from: number) => subview(view, 4 * from, 4 * size);
        const m = part(this.m[i], at - first);
        if (map) {
          muonStep(map.value, m, map.maps ?? [], this.control, lr, weightDecay);
          continue;
        }
        const range = { params: part(values, at), grads: part(grads[i], at), m, v: part(this.v[i], second) };
        const decayed = Math.min(size, Math.max(0, chunk.decayed - at));
        adamwStep({ ...range, size, decayed }, this.control, how);
        second += size;
      }
    });
    this.store.zeroGrad();
  }

  /** Where the moments of 32 bits begin. */
  private firstFull({ decayed }: { decayed: number }): number {
    return this.options.eightBit ? decayed : 0;
  }

  async state(): Promise<OptimizerState> {
    const [m, v] = [await readChunks(this.m), await readChunks(this.v)];
    const codes = (await readChunks(this.codes.flat())).map(({ buffer }) => new Uint32Array(buffer));
    return { m, v, ...(this.options.eightBit && { codes }), control: await this.control.read() };
  }

  load(state: OptimizerState): void {
    if (state.control.length !== this.control.size) {
      const [was, is] = this.options.lossScaling ? ["without", "with"] : ["with", "without"];
      throw new UserError(`the checkpoint is of a run ${was} fp16, and this one is ${is}: resume it as it began`);
    }
    const { eightBit, muon } = this.options;
    const is = eightBit ? "adamw_8bit" : muon ? "muon" : "adamw_torch";
    const bytes = (all: readonly ArrayBufferView[]) => all.reduce((sum, { byteLength }) => sum + byteLength, 0);
    // Only Muon has fewer second moments than first ones.
    const was = state.codes ? "adamw_8bit" : bytes(state.v) < bytes(state.m) ? "muon" : "adamw_torch";
    if (was !== is) {
      throw new UserError(
        `the checkpoint is of a run with optim ${was}, and this one has ${is}: resume it as it began`,
      );
    }
    writeChunks(this.codes.flat(), state.codes ?? []);
    writeChunks(this.m, state.m);
    writeChunks(this.v, state.v);
    this.control.write(state.control);
  }

  destroy(): void {
    destroyBuffers(this.buffers);
    this.control.free("the optimizer");
  }
}

/** Consecutive floats of a chunk that one rule updates; `map` is the matrix of them that Muon does. */
interface Stretch {
  at: number;
  size: number;
  map: Parameter | null;
}

/** The floats of a chunk from `first` on, by who updates them. */
function stretchesOf(store: ParameterStore, chunk: number, first: number, muon: boolean): Stretch[] {
  const { size } = store.chunks[chunk];
  const maps = muon ? store.placed.filter(({ parameter }) => parameter.maps !== null) : [];
  if (muon && maps.length === 0) {
    throw new UserError(`optim muon: ${store.label} has no hidden matrix, which is what it trains: take adamw_torch`);
  }
  const stretches: Stretch[] = [];
  let at = first;
  const adam = (to: number) => {
    if (to > at) stretches.push({ at, size: to - at, map: null });
  };
  for (const { parameter, offset, chunk: own } of maps) {
    if (own !== chunk) continue;
    if (offset + parameter.size > size) {
      throw new UserError(`optim muon: ${parameter.name} is larger than one binding of this adapter: take adamw_torch`);
    }
    adam(offset);
    stretches.push({ at: offset, size: parameter.size, map: parameter });
    at = offset + Math.ceil(parameter.size / BLOCK) * BLOCK;
  }
  adam(size);
  return stretches;
}

/** Floats that AdamW updates. */
const adamFloats = (stretches: readonly Stretch[]): number =>
  stretches.reduce((sum, { size, map }) => sum + (map ? 0 : size), 0);

export { type ControlState, readControl };

/** The learning-rate schedules, by Hugging Face's names. */
export const schedules = ["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_min_lr"] as const;
/** A learning-rate schedule, by Hugging Face's name. */
export type ScheduleName = (typeof schedules)[number];

/** A learning-rate schedule over a known number of steps. */
export interface Schedule {
  name: ScheduleName;
  /** Peak learning rate. */
  learningRate: number;
  /** Steps in all. */
  total: number;
  /** Steps of linear warm-up from 0; "constant" ignores it. */
  warmup?: number;
  /** For cosine_with_min_lr: the floor as a fraction of the peak. Default 0.1. */
  minRatio?: number;
}

/** The learning rate of a step (0-based), as the Hugging Face schedules of the same names. */
export function learningRateAt(
  { name, learningRate, total, warmup = 0, minRatio = 0.1 }: Schedule,
  step: number,
): number {
  if (name === "constant") return learningRate;
  if (step < warmup) return (learningRate * step) / Math.max(1, warmup);
  if (name === "constant_with_warmup") return learningRate;
  const progress = Math.min(1, (step - warmup) / Math.max(1, total - warmup));
  if (name === "linear") return learningRate * (1 - progress);
  const cosine = 0.5 * (1 + Math.cos(Math.PI * progress));
  const floor = name === "cosine_with_min_lr" ? minRatio : 0;
  return learningRate * (floor + (1 - floor) * cosine);
}
