/** One model in training: a low-rank adapter on the server's model, its gradients and its optimizer. */

import { nonFinite } from "../../nn/finite.ts";
import type { CausalLM } from "../../nn/models.ts";
import { AdamW, readControl } from "../../nn/optimizer.ts";
import { restoreTrained, trainedFiles } from "../../nn/trained.ts";
import { pack } from "../../rlhf/batch.ts";
import { checkpointFiles, restoreFrom } from "../../rlhf/checkpoint.ts";
import { readWatched, watch } from "../../rlhf/watch.ts";
import type { FileContent, Files } from "../../runtime/files.ts";
import { backward, noGrad, scope } from "../../tensor/core.ts";
import { ApiError } from "../errors.ts";
import type { Example } from "./data.ts";
import type { Loss, LossConfig } from "./losses.ts";

/** The numbers of one optimizer step. */
export interface AdamParams {
  learningRate: number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  /** 0 does not clip. */
  gradClipNorm: number;
}

/** Tokens of one forward and backward pass; a longer sequence has a pass of its own. */
const PASS_TOKENS = 4096;

/** A model in training. Its methods are called one after another. */
export class TrainingModel {
  readonly lm: CausalLM;
  private optimizer: AdamW;
  /** Why the gradients are not all of what was asked for. */
  private broken: string | null = null;

  constructor(lm: CausalLM) {
    this.lm = lm;
    this.optimizer = new AdamW(lm.store);
  }

  /** The next optimizer step will not be taken: some of its gradients are missing. */
  breakStep(why: string): void {
    this.broken ??= why;
  }

  /**
   * Log-probabilities of the targets and the sum of the losses; adds the gradients to those that are there already, all of them
   * or, where this throws, at the price of the next step.
   */
  async pass(
    examples: readonly Example[],
    loss: Loss,
    config: LossConfig,
    forwardOnly: boolean,
  ): Promise<{ logProbs: Float32Array[]; loss: number }> {
    const logProbs: Float32Array[] = [];
    let total = 0;
    try {
      for (const part of passesOf(examples, Math.min(PASS_TOKENS, this.lm.tokensPerPass))) {
        const watched = scope(() => this.enqueue(part, loss, config, forwardOnly));
        const [found] = await readWatched(watched);
        const bad = nonFinite(this.lm, found.logProbs) ?? nonFinite(this.lm, found.loss, "losses");
        if (bad) throw bad;
        total += found.loss[0];
        let at = 0;
        for (const { targets } of part) {
          logProbs.push(found.logProbs.slice(at, at + targets.length));
          at += targets.length;
        }
      }
    } catch (error) {
      if (!forwardOnly) this.breakStep(`a forward_backward before it failed: ${(error as Error).message}`);
      throw error;
    }
    return { logProbs, loss: total };
  }

  private enqueue(part: readonly Example[], loss: Loss, config: LossConfig, forwardOnly: boolean) {
    const { ids, packing, starts } = pack(part.map((one) => ({ ids: one.ids, promptLength: 0 })));
    const { rows, targets } = targetsOf(part, starts);
    const inputs = inputsOf(part, config);
    const run = () => {
      const { logProbs } = this.lm.logProbs(ids, packing, rows, targets);
      const value = loss.of(logProbs, inputs, config);
      const watched = watch({ logProbs, loss: value });
      if (!forwardOnly) backward(value, 1);
      return watched;
    };
    return forwardOnly ? noGrad(run) : run();
  }

  /** One step of AdamW from the gradients since the last one. Gives the gradients' norm before it was clipped. */
  async step(params: AdamParams): Promise<{ gradNorm: number }> {
    const { broken } = this;
    if (broken !== null) {
      this.broken = null;
      this.lm.store.zeroGrad();
      throw new ApiError(400, `this optimizer step was left out, and its gradients are gone: ${broken}`);
    }
    const { learningRate, beta1, beta2, eps, weightDecay, gradClipNorm } = params;
    scope(() =>
      this.optimizer.step(learningRate, 1, { betas: [beta1, beta2], eps, weightDecay, maxGradNorm: gradClipNorm }),
    );
    const { gradNorm, applied } = readControl(await this.optimizer.control.read());
    if (!applied) {
      throw new ApiError(
        400,
        `this optimizer step was left out: the gradients' norm is ${gradNorm}, so they are not finite`,
      );
    }
    return { gradNorm };
  }

  /** What it takes to go on from here: the adapter's files, and the optimizer's memory. Gradients are not saved. */
  async stateFiles(files: Files): Promise<Record<string, FileContent>> {
    return checkpointFiles({ files, path: "" }, 0, { "": { model: this.lm, optimizer: this.optimizer } }, {});
  }

  /** The adapter's files alone. */
  weightFiles(): Promise<Record<string, FileContent>> {
    return trainedFiles(this.lm);
  }

  /** Overwrites the adapter with a saved one, and the optimizer's memory, which begins anew without `optimizer`. */
  async load(files: Files, folder: string, optimizer: boolean): Promise<void> {
    if (optimizer) await restoreFrom(files, folder, 0, { "": { model: this.lm, optimizer: this.optimizer } });
    else {
      await restoreTrained(this.lm, files, folder);
      this.optimizer.destroy();
      this.optimizer = new AdamW(this.lm.store);
    }
    this.broken = null;
    this.lm.store.zeroGrad();
  }

  destroy(): void {
    this.optimizer.destroy();
    this.lm.destroy();
  }
}

/** Cuts sequences into passes of so many tokens, one sequence at least. */
function* passesOf(examples: readonly Example[], most: number): Generator<Example[]> {
  let part: Example[] = [];
  let tokens = 0;
  for (const example of examples) {
    const size = Math.max(example.ids.length, example.targets.length);
    if (part.length > 0 && tokens + size > most) {
      yield part;
      part = [];
      tokens = 0;
    }
    part.push(example);
    tokens += size;
  }
  if (part.length > 0) yield part;
}

/** Each input of all sequences in one array; what only some bring is the request's number for the others. */
function inputsOf(part: readonly Example[], config: LossConfig): Record<string, Float32Array> {
  const names = new Set(part.flatMap(({ inputs }) => Object.keys(inputs)));
  const all: Record<string, Float32Array> = {};
  for (const name of names) {
    const found = new Float32Array(part.reduce((sum, { targets }) => sum + targets.length, 0));
    let at = 0;
    for (const { inputs, targets } of part) {
      if (inputs[name]) found.set(inputs[name], at);
      else found.fill(config[name], at, at + targets.length);
      at += targets.length;
    }
    all[name] = found;
  }
  return all;
}

/** All targets one after another, and for each the row that predicts it. */
function targetsOf(part: readonly Example[], starts: readonly number[]): { rows: Uint32Array; targets: Uint32Array } {
  const total = part.reduce((sum, { targets }) => sum + targets.length, 0);
  const [rows, targets] = [new Uint32Array(total), new Uint32Array(total)];
  let at = 0;
  for (const [i, one] of part.entries()) {
    targets.set(one.targets, at);
    for (let t = 0; t < one.targets.length; t++) rows[at + t] = starts[i] + Math.floor(t / one.width);
    at += one.targets.length;
  }
  return { rows, targets };
}
